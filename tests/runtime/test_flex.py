"""TFLite files with TensorFlow's own operators (Flex): in the environment that brings them, and where none is there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.devices import open_runner
from edgekit.errors import RuntimeMissingError
from edgekit.flatbuffer_reader import custom_operators
from edgekit.runtime.litert import GET_FLEX


def test_it_runs_where_tensorflow_brings_them(saved_models: Path, flex_python: str) -> None:
    with open_runner(saved_models / "root.tflite", device=f"python:{flex_python}") as runner:
        assert runner.name == "tensorflow"
        for x in np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32):
            root = runner.run({"x": x})["root"]
            # float32 against float64; the sums are of 4 products
            assert np.allclose(root, np.linalg.cholesky(x @ x.T + 8 * np.eye(2)), rtol=1e-5, atol=1e-6)
        taken = runner.delegation()
    assert taken is not None
    assert ("FlexCholesky", "TensorFlow (Flex)") in {(left.type, left.by) for left in taken.left}
    assert taken.delegated + len(taken.left) == taken.nodes == 3


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Says that the input is a picture of values 0 to 1: a SavedModel says nothing."""
    (tmp_path / "io.toml").write_text("kind = 'image'\n")
    return tmp_path / "io.toml"


def test_eval_of_the_folder_and_of_its_file_agree(saved_models: Path, flex_python: str, pictures: Path) -> None:
    """A SavedModel without a card, on images it was fitted to the like of, and the file made of it."""
    folder = edgekit.evaluate(saved_models / "gaussian", data="digits", io_file=pictures)
    file = edgekit.evaluate(
        saved_models / "gaussian.tflite", data="digits", on=f"python:{flex_python}", io_file=pictures
    )
    assert (folder.runtime, file.runtime) == ("tensorflow", "tensorflow")
    assert folder.evaluation.metric == "accuracy" and folder.evaluation.total == 359
    assert folder.evaluation.value > 0.9  # of ten digits that linear discriminants tell apart
    assert file.evaluation.correct == folder.evaluation.correct
    assert file.evaluation.per_class == folder.evaluation.per_class


def test_verify_and_a_changed_weight_that_trips_it(
    saved_models: Path, flex_python: str, tmp_path: Path, pictures: Path
) -> None:
    device, good = f"python:{flex_python}", saved_models / "gaussian.tflite"
    result = edgekit.verify(good, against=saved_models / "gaussian", data="digits", on=device, io_file=pictures)
    assert result.passed and result.runtime == "tensorflow"
    assert {"sample", "batch=5"} <= {case.kind for case in result.ledger.cases}
    content = bytearray(good.read_bytes())
    triangle = next(at for at in range(0, len(content), 4) if _is_triangle(content, at))
    content[triangle : triangle + 4] = np.float32(9).tobytes()
    (tmp_path / "changed.tflite").write_bytes(content)
    assert not edgekit.verify(tmp_path / "changed.tflite", against=saved_models / "gaussian", on=device).passed


def _is_triangle(content: bytearray, at: int) -> bool:
    """Whether the 64 x 64 numbers from byte ``at`` on are a lower triangle."""
    if at + 4 * 64 * 64 > len(content):
        return False
    numbers = np.frombuffer(bytes(content[at : at + 4 * 64 * 64]), "<f4").reshape(64, 64)
    return bool((np.diag(numbers) > 0).all() and not np.triu(numbers, 1).any())


def test_bench_says_who_ran_what(saved_models: Path, flex_python: str) -> None:
    document = edgekit.bench(
        saved_models / "gaussian.tflite", seconds=0.2, workers=1, on=f"python:{flex_python}"
    ).document()
    (row,) = document["results"]
    assert (row["runtime"], row["format"]) == ("tensorflow", "tflite")
    assert row["samples"] > 10 and row["latency_ms"]["p50"] > 0
    assert row["delegation"]["nodes"] == 9


def test_their_names_are_read_from_the_file(saved_models: Path, conv_tflite: Path) -> None:
    assert custom_operators((saved_models / "root.tflite").read_bytes()) == ("FlexCholesky",)
    assert custom_operators(conv_tflite.read_bytes()) == ()


@pytest.mark.parametrize(
    "call",
    [edgekit.load, lambda path: edgekit.evaluate(path, data="digits", runtime="litert")],
    ids=["load", "eval"],
)
def test_without_them_it_is_said_how_to_get_them(
    call: Callable[[Path], Any], saved_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # whatever release is here
    told = r"\(FlexMatrixTriangularSolve\), which litert .*-m venv .venv-flex && .*install tensorflow-cpu==2.18.1, then"
    with pytest.raises(RuntimeMissingError, match=told) as caught:
        call(saved_models / "gaussian.tflite")
    assert caught.value.exit_code == 4


def test_a_runtime_that_is_there_and_lacks_them_is_named_before_one_that_is_not(
    saved_models: Path, other_python: str
) -> None:
    """There litert is not installed at all, and tflite-runtime has no Flex."""
    with pytest.raises(RuntimeMissingError, match=r"\(FlexCholesky\), which tflite-runtime 2\.14"):
        open_runner(saved_models / "root.tflite", device=f"python:{other_python}")


def test_the_pin_is_the_one_that_is_advised(root: Path) -> None:
    (pin,) = [
        line for line in (root / "constraints-flex.txt").read_text().splitlines() if line.startswith("tensorflow-c")
    ]
    assert f"pip install {pin}," in GET_FLEX
