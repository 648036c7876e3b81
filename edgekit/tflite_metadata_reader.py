"""TFLite Metadata of a file that another tool made: what inputs and outputs mean.

Field numbers are those of ``metadata_schema.fbs``: ModelMetadata name 0, description 1, subgraph_metadata 3;
SubGraphMetadata input_tensor_metadata 2, output_tensor_metadata 3; TensorMetadata content 3, process_units 4,
associated_files 6; AssociatedFile name 0, type 2. Label files lie in a zip archive behind the model.
:mod:`edgekit.tflite_metadata` writes them.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import Final

from edgekit import flatbuffer_reader, limits
from edgekit.errors import EdgekitError, ModelError
from edgekit.flatbuffer import Layout, Reader
from edgekit.iospec import InputFields, IoSpec
from edgekit.tflite_metadata import IDENTIFIER, NAME
from edgekit.types import Card, Signature, Task, TensorSpec

_IMAGE, _NORMALISATION, _AXIS_LABELS = 2, 1, 2
_BYTE: Final = 255.0
_FILE: Layout = {0: 1}
_TENSOR: Layout = {0: 1, 1: 1, 3: {1: {}}, 4: [{1: {}}], 6: [_FILE]}
_MODEL: Layout = {0: 1, 1: 1, 3: [{2: [_TENSOR], 3: [_TENSOR]}]}
_NOTE: Final = "what inputs and outputs mean is read from TFLite Metadata: the file came without a card of edgekit"


@dataclass(frozen=True, slots=True)
class _Tensor:
    """TensorMetadata: a table, and how it is read."""

    reader: Reader
    at: int

    def image(self) -> bool:
        content = self.reader.field(self.at, 3)
        return bool(content) and self._byte(self.reader.target(content), 0) == _IMAGE

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std of ``(pixel - mean) / std`` with pixels of 0..255; None where nothing is said."""
        for unit in self.reader.vector(self.at, 4):
            options = self.reader.field(unit, 1)
            if self._byte(unit, 0) == _NORMALISATION and options:
                table = self.reader.target(options)
                return self._floats(table, 0), self._floats(table, 1)
        return None

    def label_file(self) -> str:
        """The file that names the places along the last axis; empty without one."""
        for one in self.reader.vector(self.at, 6):
            if self._byte(one, 2) == _AXIS_LABELS:
                return self.reader.text(one, 0)
        return ""

    def _byte(self, table: int, index: int) -> int:
        at = self.reader.field(table, index)
        return self.reader.u8(at) if at else 0

    def _floats(self, table: int, index: int) -> tuple[float, ...]:
        at = self.reader.field(table, index)
        if not at:
            return ()
        start, count = self.reader.span(at, 4)
        return struct.unpack_from(f"<{count}f", self.reader.data, start)


def foreign_card(data: bytes, name: str, signature: Signature) -> Card | None:
    """What the standard metadata of a TFLite file say, as a card; None where there are none, or they say nothing.

    Args:
        data: the file.
        name: of the network, where the metadata give none.
        signature: inputs and outputs in the order of the file's main graph.

    Raises:
        ModelError: the metadata are damaged, or do not fit the file's tensors.
    """
    content = flatbuffer_reader.metadata(data).get(NAME)
    if content is None:
        return None
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"its TFLite Metadata should say {IDENTIFIER!r} at byte 4, they say {content[4:8]!r}")
    reader = Reader(content, "its TFLite Metadata")
    root = reader.u32(0)
    reader.verify(root, _MODEL)
    reader = Reader(content, "its TFLite Metadata")
    graphs = reader.vector(root, 3)
    if not graphs:
        return None
    given, answers = ([_Tensor(reader, at) for at in reader.vector(graphs[0], side)] for side in (2, 3))
    inputs = {
        spec.name: _image(tensor, spec)
        for tensor, spec in zip(given, signature.inputs, strict=False)
        if tensor.image() and len(spec.shape) == 4
    }
    labels, task = _labelled(data, answers, signature)
    said = IoSpec(task, labels, inputs={key: one for key, one in inputs.items() if one is not None})
    text = " ".join(reader.text(root, 1).split())
    described = reader.text(root, 0) or name
    card = Card(described, "custom", Task(), signature, notes=(_NOTE, *([f"it says: {text[:300]}"] if text else [])))
    try:
        made = said.applied(card)
    except EdgekitError as error:
        raise ModelError(f"its TFLite Metadata do not fit its tensors: {error}") from error
    return None if made == card and not text else made


def _image(tensor: _Tensor, spec: TensorSpec) -> InputFields | None:
    """The contract of an image; None where nothing says how a picture becomes the numbers.

    Bytes are taken as they are, whatever the metadata say of the real values that they stand for.
    """
    fields = InputFields(kind="image", layout="NHWC")
    if spec.dtype == "uint8":
        return fields
    found = tensor.normalisation()
    if found is None or not spec.dtype.startswith("float"):
        return None
    mean, std = (tuple(value / _BYTE for value in values) for values in found)
    return replace(fields, mean=mean, std=std)


def _labelled(data: bytes, answers: list[_Tensor], signature: Signature) -> tuple[tuple[str, ...], str | None]:
    """The class names of the first output that has some, and the task that follows from its shape."""
    for tensor, spec in zip(answers, signature.outputs, strict=False):
        file = tensor.label_file()
        if not file:
            continue
        labels = tuple(line.strip() for line in _packed(data, file).decode("utf-8", "replace").rstrip().splitlines())
        tasks = {2: "classification", 4: "segmentation"}
        fits = bool(spec.shape) and spec.shape[-1] == len(labels)
        return (labels, tasks.get(len(spec.shape))) if fits and len(spec.shape) in tasks else ((), None)
    return (), None


def _packed(data: bytes, name: str) -> bytes:
    """A file of the archive behind the model, whose own offsets count from its start or from that of the model.

    Raises:
        ModelError: there is no such archive or file, or it is damaged.
        LimitError: it is larger than a document may be.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            limits.check("DOCUMENT_BYTES", archive.getinfo(name).file_size, name)
            return archive.read(name)
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise ModelError(f"the file {name!r} that they name cannot be read: {error}") from error
