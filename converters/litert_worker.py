"""The command ``litert`` of the conversion worker: litert-torch writes a TFLite file of a captured program.

Importing this module imports litert-torch, which takes seconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import litert_torch
import torch

from edgekit.converters import dynamic_shapes  # noqa: F401  registers its lowerings
from edgekit.converters.recurrent.lowering import lower
from edgekit.converters.recurrent.rnn_calls import rewrite
from edgekit.converters.transposed import flat_biases, one_pixel_to_dense, plain_padding


def convert(request: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """One conversion; names are put into the file afterwards, in the order of the program's inputs and outputs.

    ``request``: ``program``, the path of a ``.pt2`` file; ``inputs`` and ``outputs``, their names; ``dynamic``, for
    each input ``{axis: name}`` or None; ``minimum`` and ``maximum``, ``{name: size}``; ``prefix``, the text before the
    network's own module names.

    Returns:
        The file, and what became of recurrent layers, where it is not one operator each, in words.
    """
    program = torch.export.load(request["program"])
    arguments, _ = program.example_inputs or ((), {})
    module = program.module()
    module.training = False  # operators are already those of eval mode; litert-torch warns by this flag
    notes = lower(module, request["prefix"])
    one_pixel_to_dense(module)
    plain_padding(module)
    least, most = request["minimum"], request["maximum"]
    names = {name for axes in request["dynamic"] if axes for name in axes.values()}
    named = {name: torch.export.Dim(name, min=least.get(name), max=most.get(name)) for name in names}
    shapes = tuple(
        {int(axis): named[name] for axis, name in axes.items()} if axes else None for axes in request["dynamic"]
    )
    with torch.no_grad():
        model = litert_torch.convert(
            module, tuple(arguments), dynamic_shapes=shapes if named else None, strict_export=False
        )
    content = flat_biases(rewrite(bytes(model.model_content())))
    content = rename(content, request["inputs"], request["outputs"], request["dynamic"])
    return content, list(notes)


def headline(error: Exception) -> str:
    """The type of an error and the first line it says."""
    lines = [part.strip() for part in str(error).splitlines() if part.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def rename(content: bytes, inputs: list[str], outputs: list[str], dynamic: list[Any]) -> bytes:
    """Gives the file's signature and tensors their names, and dynamic axes the size 1, without rewriting the file.

    Flatbuffer strings are referred to by forward offsets, so new strings are appended and the references pointed at
    them: weights keep their alignment.

    Raises:
        ValueError: the file has another number of inputs or outputs than names were given.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = bytearray(content)
    model = schema.Model.GetRootAsModel(content, 0)
    signature = model.SignatureDefs(0)
    graph = model.Subgraphs(signature.SubgraphIndex())
    taken: set[int] = set()
    maps = (
        ([signature.Inputs(k) for k in range(signature.InputsLength())], inputs, True),
        ([signature.Outputs(k) for k in range(signature.OutputsLength())], outputs, False),
    )
    for entries, names, is_input in maps:
        if len(entries) != len(names):
            side = "inputs" if is_input else "outputs"
            raise ValueError(f"the converted file has {len(entries)} {side}, the network has {len(names)}")
        for entry in entries:
            position = int(entry.Name().decode().rpartition("_")[2])  # args_3, output_3; the file sorts them as text
            _point_to(data, entry._tab, 4, names[position])
            tensor = graph.Tensors(entry.TensorIndex())
            if entry.TensorIndex() not in taken:
                taken.add(entry.TensorIndex())
                _point_to(data, tensor._tab, 10, names[position])
            if is_input and dynamic[position]:
                _set_ones(data, tensor, [int(axis) for axis in dynamic[position]])
    return bytes(data)


def _point_to(data: bytearray, table: Any, slot: int, text: str) -> None:
    """Makes the string field in vtable ``slot`` of ``table`` refer to ``text``, appended 4-aligned."""
    data.extend(b"\0" * (-len(data) % 4))
    encoded = text.encode()
    field = table.Pos + table.Offset(slot)
    struct.pack_into("<I", data, field, len(data) - field)
    data.extend(struct.pack("<I", len(encoded)) + encoded + b"\0")


def _set_ones(data: bytearray, tensor: Any, axes: list[int]) -> None:
    """Sizes of dynamic axes in a tensor's shape: 1, as TFLite writes what its shape signature leaves open."""
    start = tensor._tab.Vector(tensor._tab.Offset(4))
    for axis in axes:
        struct.pack_into("<i", data, start + 4 * axis, 1)
