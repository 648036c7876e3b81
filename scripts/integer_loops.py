"""Recurrent networks on TensorFlow Lite for Microcontrollers; see scripts/integer_loops."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

import edgekit
from edgekit.converters.recurrent import loop
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.tflite.arena_plan import with_plan
from edgekit.quantization.tflite.recurrent import quantize_recurrent
from edgekit.results.inspect import InspectResult

INPUTS, HIDDEN = 40, 64
STEPS = (1, 2, 4, 8, 16, 64, 256)
UNROLLED = 64
"""The longest that is unrolled here."""
SHIPPED = (("lstm", False), ("gru", False), ("rnn", False), ("gru", True))
"""Network, and whether it is exported as one step."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for line in chain(shipped(Path(name)), [""], forms(Path(name))):
            print(line, flush=True)


def shipped(folder: Path) -> Iterator[str]:
    """The shipped networks, float and int8."""
    yield "| network | float: bytes, arena | int8: bytes, arena | without the plan | accuracy | outputs |"
    yield "|---|---:|---:|---:|---|---:|"
    for network, streaming in SHIPPED:
        name = f"{network}-step" if streaming else network
        edgekit.export(network, to=["tflite"], streaming=streaming, out=folder)
        path, target = folder / f"{name}.tflite", folder / f"{name}-mcu.tflite"
        made = edgekit.quantize(path, scheme="int8", data="fsdd", for_="mcu", out=target)
        assert made.before is not None and made.after is not None and made.micro is not None
        assert made.against is not None and made.against.fidelity is not None
        worst = min(output.snr_db for output in made.against.fidelity.outputs if output.snr_db is not None)
        small = f"{target.stat().st_size:,}, {made.micro.arena.bytes:,}"
        yield (
            f"| {name} | {path.stat().st_size:,}, {arena(path)} | {small} | {made.micro.unplanned_bytes:,} "
            f"| {made.before.value:.2%} → {made.after.value:.2%} | {worst:.1f} dB |"
        )


def forms(folder: Path) -> Iterator[str]:
    """A GRU's last state as a loop and unrolled."""
    yield f"| steps of a GRU of {INPUTS} → {HIDDEN} | loop: bytes, arena | unrolled: bytes, arena |"
    yield "|---:|---:|---:|"
    for steps in STEPS:
        whole = looped(steps)
        cells = []
        for name, content in (("loop", whole), ("unrolled", unrolled(whole, steps) if steps <= UNROLLED else None)):
            path = folder / f"{name}.tflite"
            found = None if content is None else (with_plan(content) or content)
            path.write_bytes(found or b"")
            cells.append("" if found is None else f"{len(found):,}, {arena(path)}")
        yield f"| {steps} | {' | '.join(cells)} |"


def arena(path: Path) -> str:
    """Bytes of the arena, or that the file does not run."""
    result = edgekit.inspect(path)
    assert isinstance(result, InspectResult)
    found = result.micro
    return "does not run" if found is None or found.arena is None else f"{found.arena.bytes:,}"


class _Anything(dict[str, Range]):
    """A range for every tensor: memory does not depend on it."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Range:
        return Range(-1.0, 1.0)


def looped(steps: int) -> bytes:
    """A layer on integers, inputs and outputs, too."""
    random = np.random.default_rng(0)
    editor = Editor.empty()
    _, graph = editor.graph("main")
    x, end = graph.tensor("x", [steps, 1, INPUTS]), graph.tensor("end", [1, HIDDEN])
    rows = 3 * HIDDEN
    weights = [random.normal(size=size) * 0.2 for size in ((rows, INPUTS), (rows,), (rows, HIDDEN), (rows,))]
    loop.emit(graph, "gru", "l", x, weights, [], [end], sequence=False, reverse=False, compact=True)
    graph.raw.inputs, graph.raw.outputs = [x], [end]
    editor = Editor(quantize_recurrent(editor.content(), "int8", _Anything()).content)
    graph = editor.main()
    first, last = graph.raw.operators[0], graph.raw.operators[-1]
    assert (graph.kind(first), graph.kind(last)) == ("QUANTIZE", "DEQUANTIZE")
    graph.raw.operators = graph.raw.operators[1:-1]
    graph.raw.inputs, graph.raw.outputs = list(first.outputs), list(last.inputs)
    return editor.content()


def unrolled(content: bytes, steps: int) -> bytes:
    """The same with the operators of a step in the main graph, once for each."""
    editor = Editor(content)
    graph = editor.main()
    node = graph.raw.operators[0]
    step = Graph(editor, editor.model.subgraphs[node.builtinOptions.bodySubgraphIndex])
    before, after = int(step.raw.inputs[1]), int(step.raw.outputs[1])
    body = [one for one in step.raw.operators if step.dtype(int(one.outputs[0])) != "int32"]
    gather, operators = body[0], list[Any]()
    graph.insert_at(operators)
    rows = [_copied(graph, step, int(gather.outputs[0]), f"row_{t}") for t in range(steps)]
    graph.operator("UNPACK", [int(node.inputs[2])], rows, version=2)
    options = schema.UnpackOptionsT()
    options.num = steps
    operators[-1].builtinOptions, operators[-1].builtinOptionsType = options, schema.BuiltinOptions.UnpackOptions
    held: dict[int, int] = {}
    state = int(node.inputs[1])
    for t in range(steps):
        places = {**held, before: state, int(gather.outputs[0]): rows[t]}
        for one in body[1:]:
            made = copy(one)
            for tensor in map(int, (*one.inputs, *one.outputs)):
                if tensor not in places:
                    places[tensor] = _copied(graph, step, tensor, f"{step.name(tensor)}_{t}")
                    held |= {tensor: places[tensor]} if step.held(tensor) else {}
            made.inputs, made.outputs = [[places[int(k)] for k in side] for side in (one.inputs, one.outputs)]
            operators.append(made)
        state = places[after]
    rest = graph.raw.operators[1:]
    for one in rest:
        one.inputs = [state if int(k) == int(node.outputs[1]) else int(k) for k in one.inputs]
    graph.raw.operators = [*operators, *rest]
    editor.drop_graphs()
    return editor.content()


def _copied(graph: Graph, source: Graph, tensor: int, name: str) -> int:
    made = copy(source.raw.tensors[tensor])
    made.name = name
    graph.raw.tensors.append(made)
    return len(graph.raw.tensors) - 1


if __name__ == "__main__":
    main()
