"""Inputs and outputs as the bytes of a file declare them, for runtimes that do not tell all of it: names of dimensions,
signatures, quantization. Needs neither onnx nor a schema package.

Source: onnx.proto's ``ModelProto`` graph 7; ``GraphProto`` initializer 5, input 11, output 12; ``TensorProto`` name 8;
``ValueInfoProto`` name 1, type 2; ``TypeProto`` tensor_type 1; its elem_type 1, shape 2; ``TensorShapeProto`` dim 1;
``Dimension`` dim_value 1, dim_param 2. TFLite's schema.fbs: ``Tensor`` shape 0, type 1, name 3, quantization 4,
shape_signature 7; ``QuantizationParameters`` scale 2, zero_point 3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.errors import ModelError, UnsupportedError
from edgekit.flatbuffer import Reader
from edgekit.flatbuffer_reader import tensor_names
from edgekit.protobuf_reader import PLACEHOLDERS, fields, signed
from edgekit.reading import reading
from edgekit.runtime.ports import INTEGERS, Port, natural, unnamed
from edgekit.types import Artifact, Dim, Format, QuantizedTensor, TensorSpec

_ONNX: Final = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""``TensorProto.DataType`` -> numpy's name, of numbers that numpy has."""
_TFLITE: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
    12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
"""``TensorType`` -> numpy's name, of numbers that numpy has."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One input or output. ``port.key``: its place among the graph's own; ``tensor``: what the graph calls it, where
    the signature has another name. ``ranked``: the file says how many axes it has; without that the shape is ``()``.
    """

    port: Port
    tensor: str
    ranked: bool = True


def declared(artifact: Artifact) -> tuple[list[Declared], list[Declared]]:
    """Inputs and outputs of an ``.onnx`` or ``.tflite`` file, in the order in which edgekit's runners have them.

    Raises:
        ModelError: the file is damaged, or calls two of them the same.
        UnsupportedError: one holds something else than numbers that numpy has.
    """
    path, data = artifact.path, artifact.path.read_bytes()
    with reading(path, ModelError, f"a .{artifact.format} model", struct.error):
        sides = _of_onnx(path, data) if artifact.format is Format.ONNX else _of_tflite(path, data)
    for side in sides:
        found = [one.port.spec.name for one in side]
        twice = next((name for name in found if found.count(name) > 1), None)
        if twice is not None:
            raise ModelError(f"{path} calls two of its inputs or outputs {twice!r}; export it again")
    return sides


def _dtype(path: object, name: str, types: dict[int, str], number: int) -> str:
    if number not in types:
        raise UnsupportedError(f"{path}: {name!r} has the element type {number}; edgekit runs tensors of numbers only")
    return types[number]


def _of_onnx(path: object, data: bytes) -> tuple[list[Declared], list[Declared]]:
    sides: dict[int, list[tuple[int, int]]] = {11: [], 12: []}
    held: set[bytes] = set()
    for number, wire, _, begin, close in fields(data):
        if (number, wire) != (7, 2):
            continue
        for inner, _, _, start, end in fields(data, begin, close):
            if inner in sides:
                sides[inner].append((start, end))
            elif inner == 5:
                held |= {data[b:c] for n, _, _, b, c in fields(data, start, end) if n == 8}
    given = [place for place in sides[11] if _first(data, place, 1) not in held]
    return _onnx_side(path, data, given), _onnx_side(path, data, sides[12])


def _first(data: bytes, place: tuple[int, int], number: int) -> bytes:
    """The bytes of a message's field, empty where it has none."""
    return next((data[begin:close] for n, _, _, begin, close in fields(data, *place) if n == number), b"")


def _onnx_side(path: object, data: bytes, places: Sequence[tuple[int, int]]) -> list[Declared]:
    alone, found = len(places) == 1, []
    for position, place in enumerate(places):
        name, kind = _first(data, place, 1).decode("utf-8", "replace"), _first(data, place, 2)
        tensor = next((kind[begin:close] for n, _, _, begin, close in fields(kind) if n == 1), None)
        if tensor is None:
            raise UnsupportedError(f"{path}: {name!r} is not a tensor; edgekit runs tensors of numbers only")
        element = next((signed(tensor, begin, close)[0] for n, _, _, begin, close in fields(tensor) if n == 1), 0)
        shape = next((tensor[begin:close] for n, _, _, begin, close in fields(tensor) if n == 2), None)
        dims = [] if shape is None else [shape[begin:close] for n, _, _, begin, close in fields(shape) if n == 1]
        sizes = tuple(_onnx_dim(dim, name, axis, alone) for axis, dim in enumerate(dims))
        spec = TensorSpec(name, _dtype(path, name, _ONNX, element), sizes)
        found.append(Declared(Port(spec, position), name, shape is not None))
    return found


def _onnx_dim(dim: bytes, name: str, axis: int, alone: bool) -> Dim:
    for number, wire, _, begin, close in fields(dim):
        if number == 1 and wire == 0 and (size := signed(dim, begin, close)[0]) >= 0:
            return size
        if number == 2 and (text := dim[begin:close].decode("utf-8", "replace")) not in PLACEHOLDERS:
            return text
    return unnamed(name, axis, alone)


def _of_tflite(path: object, data: bytes) -> tuple[list[Declared], list[Declared]]:
    reader = Reader(data)
    model = reader.u32(0)
    graph = reader.vector(model, 2)[0]
    tensors = reader.vector(graph, 0)
    own = reader.numbers(graph, 1), reader.numbers(graph, 2)
    names = tensor_names(data, "inputs"), tensor_names(data, "outputs")
    signed_ = bool(reader.vector(model, 7)) and all(set(n) == set(o) for n, o in zip(names, own, strict=True))
    sides = []
    for numbers, named in zip(own, names, strict=True):
        side = []
        for position, number in enumerate(numbers):
            at = reader.field(tensors[number], 3)
            tensor = reader.blob(at).decode("utf-8", "replace") if at else ""
            name = named[number] if signed_ else tensor
            side.append(
                Declared(_tflite_port(path, reader, tensors[number], name, position, len(numbers) == 1), tensor)
            )
        # a signature has no order of its own, and exporters number their arguments and results
        sides.append(sorted(side, key=lambda one: natural(one.port.spec.name)) if signed_ else side)
    return sides[0], sides[1]


def _tflite_port(path: object, reader: Reader, tensor: int, name: str, position: int, alone: bool) -> Port:
    type_at, how_at = reader.field(tensor, 1), reader.field(tensor, 4)
    dtype = _dtype(path, name, _TFLITE, reader.u8(type_at) if type_at else 0)
    sizes = reader.numbers(tensor, 7) or reader.numbers(tensor, 0)
    shape = tuple(size if size >= 0 else unnamed(name, axis, alone) for axis, size in enumerate(sizes))
    how = None
    if how_at and dtype in INTEGERS:
        table = reader.target(how_at)
        scales, zeros = _vector(reader, table, 2, "f", 4), _vector(reader, table, 3, "q", 8)
        if len(scales) == 1 and scales[0] > 0:
            how = QuantizedTensor(dtype, float(scales[0]), int(zeros[0]) if zeros else 0)
    return Port(TensorSpec(name, dtype, shape), position, how)


def _vector(reader: Reader, table: int, index: int, form: str, size: int) -> tuple[float, ...]:
    at = reader.field(table, index)
    if not at:
        return ()
    start, count = reader.span(at, size)
    return struct.unpack_from(f"<{count}{form}", reader.data, start)
