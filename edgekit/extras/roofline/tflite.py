"""Operators of a TFLite file with their shapes as they are after the inputs were bound."""

from __future__ import annotations

from edgekit.extras.roofline.work import UNKNOWN_LOOP, Call
from edgekit.flatbuffer_reader import WHILE, Graph, GraphOperator, graphs, rounds_of
from edgekit.graph import ops
from edgekit.graph.macs import Tensor
from edgekit.runtime import Runner
from edgekit.runtime.litert import InterpreterRunner
from edgekit.types import Feed


def calls(runner: Runner, feed: Feed) -> list[Call]:
    """See :data:`edgekit.extras.roofline.COUNTERS`.

    The body of a ``WHILE`` counts as often as its condition says, where that is ``counter < constant``, as edgekit's
    own recurrent loops have it; else the ``WHILE`` stands among what could not be counted.
    """
    assert isinstance(runner, InterpreterRunner)
    runner.run(feed)
    found = [Call(kind, _tensors(inputs), _tensors(outputs)) for kind, inputs, outputs in runner.operator_shapes()]
    if not any(call.type == "WHILE" for call in found):
        return found
    all_graphs = graphs(runner.artifact.path.read_bytes())
    loops = [operator for operator in all_graphs[0].operators if operator.code == WHILE]
    made = [call for call in found if call.type != "WHILE"]
    for loop in loops:
        made += _loop(all_graphs, loop)
    return made


def _loop(all_graphs: list[Graph], loop: GraphOperator) -> list[Call]:
    condition, body = loop.options[:2]
    rounds = rounds_of(all_graphs[condition], [all_graphs[0].tensors[index].value for index in loop.inputs])
    if rounds is None:
        return [Call(UNKNOWN_LOOP, (), ())]
    graph = all_graphs[body]
    made = []
    for operator in graph.operators:
        inputs = tuple(_tensor(graph, index) for index in operator.inputs if index >= 0)
        outputs = tuple(_tensor(graph, index) for index in operator.outputs if index >= 0)
        made.append(Call(ops.tflite_names().get(operator.code, "in a loop"), inputs, outputs, rounds))
    return made


def _tensor(graph: Graph, index: int) -> Tensor:
    tensor = graph.tensors[index]
    return Tensor(tensor.shape, tensor.itemsize, tensor.constant)


def _tensors(rows: list[tuple[tuple[int, ...], int, bool]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(shape, itemsize, constant) for shape, itemsize, constant in rows)
