"""ExecuTorch programs as bytes: what they hold, the card in them, and files that are not what they say."""

from __future__ import annotations

import base64
import random
import zlib
from pathlib import Path

import pytest

from edgekit import pte_reader
from edgekit.artifact import open_artifact, read_card, write_card
from edgekit.errors import LimitError, ModelError, UnsupportedError
from edgekit.pipeline.doctor import TINY_PTE
from edgekit.types import Card, Format, Signature, Task, TensorSpec

SPEC = (TensorSpec("input_0", "float32", (1, 4)),), (TensorSpec("output_0", "float32", (1, 4)),)
CARD = Card("tiny", "custom", Task(), Signature(*SPEC))


PORTABLE = zlib.decompress(
    base64.b64decode(
        "eNqtUcFOwkAQnZaKK3KoSAgHDs2GgwdigvEiZ/0Db5Uo0jU2aQop26gxJH6Sn8DBgwc/wi+hvi1bslQ0MbHN2+nM7rx5+9ohoovL/gkCudTG2k"
        "SsEyMHUWVER8CpASfLMgfRos1H5Uzt5+9mvZN/tcDVJQ9Z25jTwk7X4L8CFsAb8A68gODDJrINTq/Er+a9LrNMza8DFWCSSqohjqSIB4NEROnq"
        "rJt31dbza7rnXMPSOcO6j3227iGL6RsyPbNiaLBKmsya0n5T6IR/ymnaaVCDDvJpLD/lIF953i48q1ZzjVXNZWty27g3ww32tKaCt0mH33hdkx"
        "fMn9Dh/sq78ofp/6q8OQP8fs975vJpKvjAi9Mo6nl8PImleJRG4T6MgkTE17OpGKPsD+dD9C7L/fw2DSMZxrNjmU4jwTe4uCLj29j+rf8v+udb"
        "dQfhWJbG+kP+EwVM2IUHd5PkYZQE9AXXSYt+"
    )
)
"""ReLU of (1, 4) by ExecuTorch's own kernel: without weights a program has no segments and no extended header."""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "relu.pte"
    path.write_bytes(TINY_PTE)
    return path


def test_what_it_holds() -> None:
    pte_reader.check(TINY_PTE)
    assert pte_reader.signature(TINY_PTE) == Signature(*SPEC)
    assert list(pte_reader.calls(TINY_PTE)) == [pte_reader.Call("Clamp", pte_reader.XNNPACK)]
    assert pte_reader.method(TINY_PTE) == "forward"
    assert pte_reader.largest(TINY_PTE) == ((1, 4),)


def test_the_card_travels_and_the_rest_stays(program: Path, tmp_path: Path) -> None:
    assert open_artifact(program).format is Format.PTE and read_card(program) is None
    write_card(program, CARD)
    assert read_card(program) == CARD
    carded = program.read_bytes()
    pte_reader.check(carded)
    assert pte_reader.without_metadata(carded) == TINY_PTE
    assert list(pte_reader.calls(carded)) == list(pte_reader.calls(TINY_PTE))
    write_card(program, CARD)
    assert program.read_bytes() == carded, "written again it takes the place of the first"


def test_a_program_without_segments_gets_a_header_and_loses_it_again() -> None:
    assert PORTABLE[8:12] != b"eh00"
    assert list(pte_reader.calls(PORTABLE)) == [pte_reader.Call("aten::relu.out")]
    carded = pte_reader.with_metadata(PORTABLE, "edgekit", b"card")
    assert carded[8:12] == b"eh00"
    pte_reader.check(carded)
    assert pte_reader.metadata(carded)["edgekit"] == b"card"
    assert pte_reader.without_metadata(carded) == PORTABLE


def test_named_data_of_others_is_not_overwritten() -> None:
    made = pte_reader.with_metadata(TINY_PTE, "weights", b"1234")
    foreign = made.replace(b"edgekit\1", b"another\1")  # as if another tool had written it
    assert pte_reader.metadata(pte_reader.with_metadata(foreign, "edgekit", b"card")).keys() >= {"weights", "edgekit"}
    with pytest.raises(ModelError, match="already has named data 'weights'"):
        pte_reader.with_metadata(foreign, "weights", b"5")


def test_cut_short_damaged_or_of_another_format(program: Path) -> None:
    for end in (6, 30, 100, 700, len(TINY_PTE) - 1):
        program.write_bytes(TINY_PTE[:end])
        with pytest.raises(ModelError, match=r"relu.pte"):
            open_artifact(program)
    program.write_bytes(TINY_PTE.replace(b"ET12", b"ET99"))
    with pytest.raises(ModelError, match="should say 'ET12'"):
        open_artifact(program)
    program.rename(program.with_suffix(".tflite"))
    other = program.with_suffix(".onnx")
    other.write_bytes(TINY_PTE)
    with pytest.raises(ModelError, match="holds an ExecuTorch program; rename it"):
        open_artifact(other)


def test_whatever_is_changed_in_it_is_read_or_refused() -> None:
    """Bytes of the program and of its part for XNNPACK, changed one and several at a time."""
    generator, refused = random.Random(0), 0
    carded = pte_reader.with_metadata(TINY_PTE, "edgekit", b"card")
    for _ in range(3000):
        data = bytearray(carded)
        for _ in range(generator.choice((1, 1, 4))):
            data[generator.randrange(len(data))] = generator.choice((0, 1, 127, 255, generator.randrange(256)))
        try:
            pte_reader.check(bytes(data))
            pte_reader.metadata(bytes(data))
            pte_reader.signature(bytes(data))
            list(pte_reader.calls(bytes(data)))
            pte_reader.without_metadata(bytes(data))
        except (ModelError, UnsupportedError, LimitError):
            refused += 1
    assert refused > 300
