"""Recurrent layers of a float TFLite file in the form that is quantized to integers throughout: loops over one step.

TFLite has an integer kernel for LSTM alone. A GRU is a loop already, made by :mod:`edgekit.converters.recurrent.loop`;
an RNN is an operator without such a kernel. Both become compact loops here, which compute the same: the input's product
is taken inside, so that the variables of the loop are the input, the state, and room for the outputs. TensorFlow Lite
for Microcontrollers copies all of them at every step, and holds them four times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.converters.recurrent import loop
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.graph.tflite import text
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.types import Array, Format

RNN = "UNIDIRECTIONAL_SEQUENCE_RNN"
_ACTIVATIONS = {4: "rnn_tanh", 1: "rnn_relu"}  # schema.ActivationFunctionType
_STATES = {"lstm": 2}
"""Cell -> how many states it has, where that is not one."""
_KEPT = ("", *ops.names(Format.TFLITE, Family.LOOP, Family.BRANCH, Family.CALL, Family.VARIABLE))
"""Operators that may do something though nothing reads what they give; a custom one has no name."""


@dataclass(frozen=True)
class _Layer:
    """One layer in one direction.

    Attributes:
        x: (T, B, I).
        weights: as :func:`edgekit.converters.recurrent.loop.emit` takes them.
        state: tensors it starts from; none for zeros.
        y: tensor of the outputs, (T, B, H); None where only the last is read.
        ends: tensors of the last states.
    """

    name: str
    cell: str
    x: int
    weights: list[Array]
    state: list[int]
    y: int | None
    ends: list[int]
    reverse: bool = False


def with_compact_loops(content: bytes, *, anew: bool) -> bytes:
    """The float file ``content`` with its recurrent layers of known length as compact loops.

    Layers of another form, of an open length or batch, or with weights that are computed, stay as they are.

    Args:
        anew: layers with a state of their own (RNN) start every call from zeros; those that do not stay as they are.
    """
    editor = Editor(content)
    graph = editor.main()
    for node in graph.raw.operators:
        node.inputs, node.outputs = [[int(k) for k in side] for side in (node.inputs, node.outputs)]
    operators: list[Any] = []
    graph.insert_at(operators)
    changed = False
    for node in list(graph.raw.operators):
        kind = graph.kind(node)
        if kind == "WHILE" and (layer := _of_loop(graph, node)) is not None:
            _emit(graph, layer)
        elif kind == RNN and anew and _is_fixed(graph, node):
            _write_rnn(graph, node)
        else:
            operators.append(node)
            continue
        changed = True
    if not changed:
        return content
    graph.raw.operators = _read(operators, graph)
    editor.drop_graphs()
    return editor.content()


def holds_compact(content: bytes) -> bool:
    """Whether there are loops in a file that were written here."""
    graph = Editor(content).main()
    return any(graph.kind(node) == "WHILE" and is_compact(graph.editor, node) for node in graph.raw.operators)


def without_integer_form(content: bytes, kinds: Collection[str]) -> list[str]:
    """Operators of the types ``kinds`` in the main graph, compact loops aside: each type once."""
    graph = Editor(content).main()
    found = (node for node in graph.raw.operators if graph.kind(node) in kinds)
    left = (node for node in found if graph.kind(node) != "WHILE" or not is_compact(graph.editor, node))
    return list(dict.fromkeys(map(graph.kind, left)))


def is_compact(editor: Editor, node: Any) -> bool:
    """Whether a WHILE was written here."""
    return text(editor.model.subgraphs[node.builtinOptions.bodySubgraphIndex].name).endswith(loop.COMPACT)


def _emit(graph: Graph, layer: _Layer) -> None:
    outputs = [*([] if layer.y is None else [layer.y]), *layer.ends]
    sequence, given = layer.y is not None, (layer.weights, layer.state, outputs)
    loop.emit(graph, layer.cell, layer.name, layer.x, *given, sequence=sequence, reverse=layer.reverse, compact=True)


def _of_loop(graph: Graph, node: Any) -> _Layer | None:
    """The layer that a WHILE of :func:`edgekit.converters.recurrent.loop.emit` computes; None for any other."""
    gates = graph.makers().get(node.inputs[-2]) if len(node.inputs) > 3 else None
    if gates is None or graph.kind(gates) != "FULLY_CONNECTED":
        return None
    x, carried = gates.inputs[0], node.inputs[1:-2]
    sequence, reverse = len(graph.shape(carried[0])) == 3, _counts_down(graph.editor, node)
    step = _step(graph.editor, node)
    products = [one for one in step.raw.operators if step.kind(one) == "FULLY_CONNECTED"]
    if len(graph.shape(x)) != 3 or min(graph.shape(x)) < 0 or len(products) != 1:
        return None
    kinds, steps = Counter(map(step.kind, step.raw.operators)), graph.shape(x)[0]
    cell = next((cell for cell in loop.CELLS if kinds == _kinds(cell, steps, sequence, reverse)), "")
    weights = [graph.data(k) for k in gates.inputs[1:3]] + [step.data(int(k)) for k in products[0].inputs[1:3]]
    own = [value for value in weights if value is not None]
    if not cell or len(own) != len(_weights(cell)) or len(carried) != sequence + _STATES.get(cell, 1):
        return None
    y = node.outputs[1] if sequence else None
    if y is not None and graph.shape(y)[0] != steps:  # blocks have more room than steps, which is cut off
        (cut,) = [one for one in graph.raw.operators if y in one.inputs]
        y, cut.outputs = cut.outputs[0], [graph.tensor("unread", graph.shape(y))]
    ends = node.outputs[1 + sequence : 1 + len(carried)]
    name = graph.name(gates.outputs[0]).rpartition("/")[0]
    return _Layer(name, cell, x, own, carried[sequence:], y, ends, reverse)


def _step(editor: Editor, node: Any) -> Graph:
    """The subgraph of one step of a loop, that of the inner loop where there is one over blocks of steps."""
    body = Graph(editor, editor.model.subgraphs[node.builtinOptions.bodySubgraphIndex])
    inner = next((one for one in body.raw.operators if body.kind(one) == "WHILE"), None)
    return body if inner is None else _step(editor, inner)


def _counts_down(editor: Editor, node: Any) -> bool:
    """Whether a loop runs from the last step to the first."""
    check = Graph(editor, editor.model.subgraphs[node.builtinOptions.condSubgraphIndex])
    return any(check.kind(one) == "GREATER" for one in check.raw.operators)


def _weights(cell: str) -> list[Array]:
    """Weights of one unit."""
    rows = {"gru": 3, "lstm": 4}.get(cell, 1)
    shapes = [(rows, 1), (rows,), (rows, 1), *([(rows,)] if cell == "gru" else [])]
    return [np.zeros(shape, np.float32) for shape in shapes]


def _kinds(cell: str, steps: int, sequence: bool, reverse: bool) -> Counter[str]:
    """How many operators of each type a step has that the converter writes."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    ends = [graph.tensor("h", [1, 1]) for _ in range(_STATES.get(cell, 1))]
    outputs = [*([graph.tensor("y", [steps, 1, 1])] if sequence else []), *ends]
    x = graph.tensor("x", [steps, 1, 1])
    loop.emit(graph, cell, "", x, _weights(cell), [], outputs, sequence=sequence, reverse=reverse)
    node = next(one for one in graph.raw.operators if graph.kind(one) == "WHILE")
    step = _step(editor, node)
    return Counter(map(step.kind, step.raw.operators))


def _is_fixed(graph: Graph, node: Any) -> bool:
    """Whether all sizes of an RNN are known, and its weights stand in the file."""
    weights = [graph.data(k) for k in node.inputs[1:4]]
    known = node.builtinOptions.fusedActivationFunction in _ACTIVATIONS
    return known and min(graph.shape(node.inputs[0])) > 0 and all(value is not None for value in weights)


def _write_rnn(graph: Graph, node: Any) -> None:
    x, w_input, w_state, bias = node.inputs[:4]
    first = 0 if node.builtinOptions.timeMajor else 1
    name = graph.name(node.inputs[4]).rpartition("/")[0]
    (output,) = node.outputs
    weights = [graph.data(k) for k in (w_input, bias, w_state)]
    hidden = graph.shape(output)[2]
    turned = x if first == 0 else _turned(graph, x, f"{name}/steps")
    steps, batch, _ = graph.shape(turned)
    readers = [one for one in graph.raw.operators if output in one.inputs]
    last = all(_takes_end(graph, one, first) for one in readers) and output not in map(int, graph.raw.outputs)
    end = graph.tensor(f"{name}/end", [batch, hidden])
    if last and readers:
        end = readers[0].outputs[0]
        for one in readers[1:]:
            _replace(graph, one.outputs[0], end)
        for one in readers:
            one.outputs = [graph.tensor("unread", [batch, hidden])]
    y = None if last else output if first == 0 else graph.tensor(f"{name}/h", [steps, batch, hidden])
    cell = _ACTIVATIONS[node.builtinOptions.fusedActivationFunction]
    _emit(graph, _Layer(name, cell, turned, [value for value in weights if value is not None], [], y, [end]))
    if y is not None and first:
        _turn(graph, y, output, f"{name}/turned")


def _turned(graph: Graph, x: int, name: str) -> int:
    """(B, T, I) as (T, B, I)."""
    batch, steps, width = graph.shape(x)
    result = graph.tensor(name, [steps, batch, width])
    _turn(graph, x, result, name)
    return result


def _turn(graph: Graph, x: int, result: int, name: str) -> None:
    """Swaps the first two axes."""
    shape = graph.shape(result)
    if 1 in shape[:2]:
        graph.operator("RESHAPE", [x, graph.constant(f"{name}/shape", shape, "int32")], [result], newShape=shape)
    else:
        graph.operator("TRANSPOSE", [x, graph.constant(f"{name}/order", [1, 0, 2], "int32")], [result])


def _takes_end(graph: Graph, node: Any, axis: int) -> bool:
    """Whether an operator takes the last step alone."""
    options = node.builtinOptions
    if graph.kind(node) != "STRIDED_SLICE" or options.shrinkAxisMask != 1 << axis or options.beginMask & 1 << axis:
        return False
    begin: Any = graph.values(int(node.inputs[1]))
    return begin is not None and begin[axis] in (-1, graph.shape(int(node.inputs[0]))[axis] - 1)


def _replace(graph: Graph, old: int, new: int) -> None:
    """Lets all that reads ``old`` read ``new``."""
    for node in graph.raw.operators:
        node.inputs = [new if k == old else k for k in node.inputs]
    graph.raw.outputs = [new if int(k) == old else int(k) for k in graph.raw.outputs]


def _read(operators: list[Any], graph: Graph) -> list[Any]:
    """Without those that nothing reads any more."""
    while True:
        read = {int(k) for node in operators for k in node.inputs} | set(map(int, graph.raw.outputs))
        kept = [n for n in operators if graph.kind(n) in _KEPT or any(int(k) in read for k in n.outputs)]
        if len(kept) == len(operators):
            return kept
        operators = kept
