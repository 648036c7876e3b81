"""The standard metadata of TFLite files: what is said, read back field by field, and the label file behind it."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit import flatbuffer_reader
from edgekit.errors import ModelError
from edgekit.flatbuffer import Reader
from edgekit.flatbuffer_writer import Number, Numbers, encode
from edgekit.tflite_metadata import IDENTIFIER, NAME, Standard, normalisation, standard_metadata
from edgekit.tflite_metadata_reader import foreign_card
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

RULE = InputSpec("image", "NHWC", (24, 32), 3, 1 / 255, (0.5,) * 3, (0.25,) * 3)
CARD = Card(
    "net",
    "custom",
    Task("classification", ("cat", "dog")),
    Signature((TensorSpec("image", "float32", (1, 24, 32, 3)),), (TensorSpec("logits", "float32", (1, 2)),)),
    {"image": RULE},
)


def made(card: Card, inputs: tuple[str, ...] = ("image",), outputs: tuple[str, ...] = ("logits",)) -> Standard:
    found = standard_metadata(card, inputs, outputs)
    assert found is not None
    return found


class Walk:
    """A table of the schema, by the numbers of its fields."""

    def __init__(self, data: bytes, at: int | None = None) -> None:
        self.reader = Reader(data)
        self.at = self.reader.u32(0) if at is None else at

    def text(self, index: int) -> str:
        return self.reader.blob(self.reader.field(self.at, index)).decode()

    def table(self, index: int) -> Walk:
        return Walk(self.reader.data, self.reader.target(self.reader.field(self.at, index)))

    def tables(self, index: int) -> list[Walk]:
        return [Walk(self.reader.data, at) for at in self.reader.vector(self.at, index)]

    def byte(self, index: int) -> int:
        return self.reader.u8(self.reader.field(self.at, index))

    def floats(self, index: int) -> tuple[float, ...]:
        start, count = self.reader.span(self.reader.field(self.at, index), 4)
        return struct.unpack_from(f"<{count}f", self.reader.data, start)


def test_what_a_classifier_says() -> None:
    found = made(CARD)
    assert found.metadata[4:8] == IDENTIFIER
    root = Walk(found.metadata)
    (graph,) = root.tables(3)
    (given,), (answer,) = graph.tables(2), graph.tables(3)
    assert (root.text(0), given.text(0), answer.text(0)) == ("net", "image", "logits")
    assert "(pixel / 255 - mean) / std" in given.text(1)
    (unit,) = given.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions, in units of 0..255
    assert unit.table(1).floats(0) == pytest.approx([127.5])
    assert unit.table(1).floats(1) == pytest.approx([63.75])
    image = given.table(3).table(1)
    assert (given.table(3).byte(0), image.byte(0)) == (2, 1)  # ImageProperties, RGB
    size = image.table(1)
    assert [size.reader.u32(size.reader.field(size.at, k)) for k in (0, 1)] == [32, 24]  # width, height
    (labels,) = answer.tables(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    with zipfile.ZipFile(io.BytesIO(found.archive())) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    assert found == made(CARD)
    assert found.archive() == made(CARD).archive()  # no date in it


@pytest.mark.parametrize(
    ("rule", "mean", "std"),
    [
        (RULE, [127.5], [63.75]),
        (replace(RULE, mean=(0.5, 0.25, 0.5)), [127.5, 63.75, 127.5], [63.75] * 3),
        (replace(RULE, mean=(), std=()), [0], [255]),
        (replace(RULE, mean=(), std=(), scale=1.0), [0], [1]),
        (replace(RULE, scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3), [127], [128]),
    ],
)
def test_the_normalisation_is_in_units_of_bytes(rule: InputSpec, mean: list[float], std: list[float]) -> None:
    assert normalisation(rule) == (pytest.approx(mean), pytest.approx(std))


def test_a_card_that_says_nothing_gives_no_metadata() -> None:
    assert standard_metadata(replace(CARD, contract={}, task=Task()), ("image",), ("logits",)) is None
    assert standard_metadata(CARD, ("other",), ("logits",)) is None  # the graph has tensors that the card has not


def test_the_activation_of_a_segmenter() -> None:
    shape = Signature(CARD.signature.inputs, (TensorSpec("map", "float32", (1, 24, 32, 2)),))
    card = replace(CARD, signature=shape, task=Task("segmentation", ("no", "yes")))
    (graph,) = Walk(made(card, outputs=("map",)).metadata).tables(3)
    (custom,) = graph.tables(9)
    assert custom.text(0) == "SEGMENTER_METADATA"
    start, count = custom.reader.span(custom.reader.field(custom.at, 1), 1)
    assert start % 16 == 0  # a flatbuffer of its own
    options = custom.reader.data[start : start + count]
    assert (options[4:8], Walk(options).byte(0)) == (b"V001", 2)  # SOFTMAX
    sigmoid = replace(card, task=Task("segmentation", ("no", "yes"), params={"activation": "sigmoid"}))
    (graph,) = Walk(made(sigmoid, outputs=("map",)).metadata).tables(3)
    assert Walk(graph.tables(9)[0].reader.blob(graph.tables(9)[0].reader.field(graph.tables(9)[0].at, 1))).byte(0) == 0


def test_fields_left_out_and_unaligned_texts_are_read_back() -> None:
    data = encode(
        {0: "a", 3: Numbers("I", (1, 2, 3)), 4: None, 6: Number("B", 7), 7: [{0: "x"}, {}], 8: b"12345"}, b"TEST"
    )
    walk = Walk(data)
    assert (walk.text(0), walk.byte(6), walk.reader.blob(walk.reader.field(walk.at, 8))) == ("a", 7, b"12345")
    assert walk.reader.numbers(walk.at, 3) == (1, 2, 3)
    assert [bool(table.reader.field(table.at, 0)) for table in walk.tables(7)] == [True, False]
    assert not walk.reader.field(walk.at, 4)


def foreign(conv: bytes, metadata: bytes, labels: str | None = "cat\ndog\n") -> bytes:
    """A file with standard metadata and no card, its labels in an archive that was appended to it, as others do."""
    data = flatbuffer_reader.with_metadata(conv, {NAME: metadata})
    buffer = io.BytesIO(data)
    if labels is not None:
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("labels.txt", labels)
    return buffer.getvalue()


@pytest.mark.parametrize("mean", [(0.5,) * 3, (0.5, 0.25, 0.125)])
def test_metadata_of_others_are_read_as_a_card(conv_tflite: Path, mean: tuple[float, ...]) -> None:
    conv = conv_tflite.read_bytes()
    card = replace(CARD, contract={"image": replace(RULE, mean=mean)})
    read = foreign_card(foreign(conv, made(card).metadata), "file", CARD.signature)
    assert read is not None
    assert (read.name, read.task.kind, read.task.labels) == ("net", "classification", ("cat", "dog"))
    rule = read.contract["image"]
    assert (rule.layout, rule.size, rule.channels, rule.scale) == ("NHWC", (24, 32), 3, pytest.approx(1 / 255))
    assert rule.mean == pytest.approx(mean) and rule.std == pytest.approx((0.25,) * 3)
    assert any("TFLite Metadata" in note for note in read.notes)
    bytes_in = replace(CARD.signature, inputs=(replace(CARD.signature.inputs[0], dtype="uint8"),))
    whole = foreign_card(foreign(conv, made(card).metadata), "file", bytes_in)
    assert whole is not None and (whole.contract["image"].scale, whole.contract["image"].mean) == (1.0, ())
    assert foreign_card(conv, "file", CARD.signature) is None


def test_metadata_that_do_not_fit_or_are_damaged_are_refused(conv_tflite: Path) -> None:
    conv, metadata = conv_tflite.read_bytes(), made(CARD).metadata
    with pytest.raises(ModelError, match=r"'labels\.txt' that they name cannot be read"):
        foreign_card(foreign(conv, metadata, None), "file", CARD.signature)
    other = foreign_card(foreign(conv, metadata, "cat\ndog\ncow\n"), "file", CARD.signature)
    assert other is not None and not other.task.labels  # as many names as scores, or none
    with pytest.raises(ModelError, match="should say b'M001'"):
        foreign_card(foreign(conv, metadata[:4] + b"M999" + metadata[8:]), "file", CARD.signature)
    with pytest.raises(ModelError, match=r"cut short|damaged"):
        foreign_card(foreign(conv, metadata[: len(metadata) // 2]), "file", CARD.signature)
    grey = replace(CARD.signature, inputs=(replace(CARD.signature.inputs[0], shape=(1, 24, 32, 7)),))
    with pytest.raises(ModelError, match="do not fit its tensors: an image has 1 channel or 3"):
        foreign_card(foreign(conv, metadata), "file", grey)
