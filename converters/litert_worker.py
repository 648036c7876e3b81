"""The worker that runs litert-torch: reads one JSON request a line, converts, answers one JSON line.

Run as ``python -m edgekit.converters.litert_worker``. Its import costs seconds and prints a lot, and its native code
can crash: here it does that away from the user's process. What it prints goes to standard error, which the parent
keeps in a file; descriptor 1 is moved away first, so that no ``print`` gets between the answers.

Request: ``{"program": "x.pt2", "target": "x.tflite", "inputs": [names], "outputs": [names],
"dynamic": [{"axis": name} or null for each input], "minimum": {name: size}, "maximum": {name: size},
"prefix": text before the network's own module names}``.
Answer: ``{"ok": true, "notes": [texts]}``, ``{"error": first line, "detail": whole text}`` or, where the file cannot be
written, ``{"errno": number}``.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Answers requests on standard input, one JSON document a line, until it is closed."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    os.environ.update(LITERT_TORCH_SHOW_PROGRESS="n", TF_CPP_MIN_LOG_LEVEL="2", JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1")
    # before the first request, while the parent does other work
    import litert_torch  # noqa: F401

    from edgekit.converters import (
        dynamic_shapes,  # noqa: F401
        transposed,  # noqa: F401
    )
    from edgekit.converters.recurrent import lowering, rnn_calls  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: dict[str, Any] = {"ok": True, "notes": convert(request)}
        except OSError as error:
            text = f"{type(error).__name__}: {error}"
            answer = {"errno": error.errno} if error.errno else {"error": text, "detail": text}
        except Exception as error:  # every failure of the converter is an answer; the parent names it
            lines = [part.strip() for part in str(error).splitlines() if part.strip()]
            name = type(error).__name__
            answer = {"error": f"{name}: {lines[0] if lines else 'no message'}", "detail": f"{name}: {error}"}
            import traceback

            traceback.print_exc()
        answers.write(json.dumps({**answer, "id": request.get("id")}) + "\n")
        answers.flush()


def convert(request: dict[str, Any]) -> list[str]:
    """One conversion; names are put into the file afterwards, in the order of the program's inputs and outputs.

    Returns:
        What became of recurrent layers, where it is not one operator each, in words.
    """
    import litert_torch
    import torch

    from edgekit.converters.recurrent.lowering import lower
    from edgekit.converters.recurrent.rnn_calls import rewrite
    from edgekit.converters.transposed import flat_biases, one_pixel_to_dense, plain_padding

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
    Path(request["target"]).write_bytes(content)
    return list(notes)


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


if __name__ == "__main__":
    main()
