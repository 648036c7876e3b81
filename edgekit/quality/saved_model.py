"""What a SavedModel folder holds, read from ``saved_model.pb`` itself, without TensorFlow.

Source: saved_model.proto, meta_graph.proto, graph.proto and function.proto of TensorFlow; the numbers below are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgekit.errors import ModelError
from edgekit.protobuf_reader import fields
from edgekit.runtime.ports import natural, unnamed
from edgekit.types import Dim, Signature, TensorSpec

_META_GRAPH, _GRAPH, _SIGNATURES = 2, 2, 5
_NODE, _LIBRARY, _FUNCTION, _FUNCTION_NODE, _OPERATOR = 1, 2, 1, 3, 2
_INPUTS, _OUTPUTS, _DTYPE, _SHAPE, _DIM, _SIZE = 1, 2, 2, 3, 2, 1
_PLUMBING = frozenset({"Placeholder", "Const", "NoOp", "Identity", "IdentityN", "VarHandleOp", "ReadVariableOp"})
"""Nodes that compute nothing."""
_RESTORING = ("RestoreV2", "SaveV2", "MergeV2Checkpoints", "ShardedFilename", "StringJoin", "StaticRegexFullMatch")
DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 9: "int64", 10: "bool",
    14: "bfloat16", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
"""tensorflow.DataType -> numpy's name."""
SERVING = b"serving_default"


class _Message:
    """One protobuf message: its fields by number."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[tuple[int, bytes]]] = {}
        for number, wire, _, begin, close in fields(data):
            self._fields.setdefault(number, []).append((wire, data[begin:close]))

    def all(self, number: int) -> Iterator[bytes]:
        return (data for wire, data in self._fields.get(number, ()) if wire == 2)

    def inner(self, number: int) -> Iterator[_Message]:
        return map(_Message, self.all(number))

    def text(self, number: int) -> str:
        return next(self.all(number), b"").decode("utf-8", "replace")

    def number(self, number: int) -> int:
        """A signed varint; 0 where it is not there."""
        data = next((data for wire, data in self._fields.get(number, ()) if wire == 0), b"")
        value = sum((byte & 0x7F) << 7 * k for k, byte in enumerate(data))
        return value - (1 << 64) if value >> 63 else value

    def table(self, number: int) -> dict[bytes, _Message]:
        """A ``map<string, message>``."""
        return {next(e.all(1), b""): _Message(next(e.all(2), b"")) for e in self.inner(number)}


def operator_names(folder: Path) -> Iterator[str]:
    """Names of the operators that compute something, those of the functions included; saving and restoring left out."""
    for meta in _read(folder).inner(_META_GRAPH):
        for graph in meta.inner(_GRAPH):
            nodes = list(graph.inner(_NODE))
            for library in graph.inner(_LIBRARY):
                for function in library.inner(_FUNCTION):
                    inside = list(function.inner(_FUNCTION_NODE))
                    if not any(node.text(_OPERATOR) in _RESTORING for node in inside):
                        nodes += inside
            for node in nodes:
                name = node.text(_OPERATOR)
                if name not in _PLUMBING and name not in _RESTORING and "PartitionedCall" not in name:
                    yield name


def signature(folder: Path) -> Signature:
    """Inputs and outputs of the signature that edgekit runs, in the order of their names.

    Raises:
        ModelError: the folder cannot be read, or has several signatures and none is ``serving_default``.
    """
    known = {
        name: found for meta in _read(folder).inner(_META_GRAPH) for name, found in meta.table(_SIGNATURES).items()
    }
    known.pop(b"__saved_model_init_op", None)
    found = known.get(SERVING) or (next(iter(known.values())) if len(known) == 1 else None)
    if found is None:
        there = ", ".join(name.decode("utf-8", "replace") for name in known) or "none"
        raise ModelError(f"{folder} has no signature {SERVING.decode()!r}; it has: {there}")
    inputs, outputs = found.table(_INPUTS), found.table(_OUTPUTS)
    open_batch = all(_sizes(info)[:1] == [-1] for info in inputs.values())
    return Signature(_specs(inputs, open_batch), _specs(outputs, open_batch))


def _specs(table: dict[bytes, _Message], open_batch: bool) -> tuple[TensorSpec, ...]:
    specs = []
    for key in sorted(table, key=lambda name: natural(name.decode("utf-8", "replace"))):
        name, info = key.decode("utf-8", "replace"), table[key]
        shape: list[Dim] = [
            size if size >= 0 else unnamed(name, axis, open_batch) for axis, size in enumerate(_sizes(info))
        ]
        specs.append(TensorSpec(name, DTYPES.get(info.number(_DTYPE), "unknown"), tuple(shape)))
    return tuple(specs)


def _sizes(info: _Message) -> list[int]:
    return [dim.number(_SIZE) for shape in info.inner(_SHAPE) for dim in shape.inner(_DIM)]


def _read(folder: Path) -> _Message:
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(f"{folder}: only its text form is there (saved_model.pbtxt); save it again as saved_model.pb")
    try:
        return _Message((folder / "saved_model.pb").read_bytes())
    except OSError as error:
        raise ModelError(f"{folder}: saved_model.pb cannot be read: {error.strerror}") from error
    except ModelError as error:
        raise ModelError(f"{folder}: saved_model.pb is damaged or cut short; save or copy it again") from error
