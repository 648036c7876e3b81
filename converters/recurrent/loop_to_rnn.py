"""Loops of a network's own over ``nn.LSTMCell``, ``GRUCell`` or ``RNNCell`` become layers over whole sequences.

torch.export writes such a loop as one cell a step. Steps are one layer where each takes its state from the one before,
all have the same weights, and step t takes row t of one tensor. A loop that feeds a step with what came out of an
earlier one is not a layer, nor is one that runs backwards; such loops stay, and the export says so
(:func:`.custom_ops.cell_notes`).
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

_LAYERS: dict[Any, Any] = {
    torch.ops.aten.lstm_cell.default: torch.ops.aten.lstm.input,
    torch.ops.aten.gru_cell.default: torch.ops.aten.gru.input,
    torch.ops.aten.rnn_tanh_cell.default: torch.ops.aten.rnn_tanh.input,
    torch.ops.aten.rnn_relu_cell.default: torch.ops.aten.rnn_relu.input,
}
_LSTM = torch.ops.aten.lstm_cell.default


@dataclass(frozen=True)
class _Loop:
    """Steps in order; ``source`` is (B, T, F) with ``axis`` 1, or (T, B, F) with ``axis`` 0."""

    steps: Sequence[fx.Node]
    source: fx.Node
    axis: int


def loop_to_rnn(program: ExportedProgram) -> ExportedProgram:
    """Replaces the loops of ``program`` that can be, in place."""
    graph = program.graph
    for loop in _loops(graph):
        before = _result_names(graph)
        _replace(graph, loop)
        for old, new in zip(before, _result_names(graph), strict=True):
            if old != new:
                program.graph_signature.replace_all_uses(old, new)
    graph.eliminate_dead_code()
    graph.lint()
    program.graph_module.recompile()
    return program


def _loops(graph: fx.Graph) -> list[_Loop]:
    cells = [node for node in graph.nodes if node.target in _LAYERS]
    following = {node: after for node in cells if (after := _next(node)) is not None}
    behind = set(following.values())
    found: list[_Loop] = []
    for first in cells:
        if first in behind:
            continue
        steps = [first]
        while steps[-1] in following:
            steps.append(following[steps[-1]])
        loop = _recognised(steps)
        if loop is not None:
            found.append(loop)
    return found


def _next(cell: fx.Node) -> fx.Node | None:
    """The one cell of the same weights that takes the whole state of ``cell``; None unless there is exactly one."""
    users = [user for state in _states(cell) for user in state.users if user.target is cell.target]
    same = {user for user in users if user.args[2:] == cell.args[2:] and _given(user) == _states(cell)}
    return same.pop() if len(same) == 1 else None


def _states(cell: fx.Node) -> list[fx.Node]:
    """h, and c of an LSTM, as this step leaves them; where one is not read it is missing."""
    if cell.target is not _LSTM:
        return [cell]
    return sorted((user for user in cell.users if user.target is operator.getitem), key=lambda user: str(user.args[1]))


def _count(cell: fx.Node) -> int:
    return 2 if cell.target is _LSTM else 1


def _given(cell: fx.Node) -> list[Any]:
    """The state a step starts from."""
    state = cell.args[1]
    return list(state) if isinstance(state, list | tuple) else [state]


def _recognised(steps: Sequence[fx.Node]) -> _Loop | None:
    """The loop, where it has two steps or more, its inputs are the rows of one tensor in order, and no cell state but
    the last is read outside."""
    rows = [_row(step.args[0]) for step in steps]
    if len(steps) < 2 or any(row is None for row in rows) or any(len(_states(step)) > _count(step) for step in steps):
        return None
    sources = {(row[0], row[1]) for row in rows if row}
    if len(sources) != 1 or [row[2] for row in rows if row] != list(range(len(steps))):
        return None
    ((source, axis),) = sources
    if source.meta["val"].ndim != 3 or axis not in (0, 1) or source.meta["val"].shape[axis] != len(steps):
        return None
    if steps[0].target is _LSTM and any(len(_states(s)) == 2 and len(_states(s)[1].users) > 1 for s in steps[:-1]):
        return None
    order = {node: place for place, node in enumerate(source.graph.nodes)}
    needed = (source, *_given(steps[0]))
    if any(not isinstance(node, fx.Node) or order[node] > order[steps[0]] for node in needed):
        return None
    return _Loop(steps, source, axis)


def _row(x: Any) -> tuple[fx.Node, int, int] | None:
    """Tensor, axis and place where ``x`` is one row of a tensor."""
    if not isinstance(x, fx.Node):
        return None
    arguments: Any = x.args
    if x.target is operator.getitem and arguments[0].target is torch.ops.aten.unbind.int:
        taken, place = arguments
        return _whole(taken.args[0]), (*taken.args, 0)[1], place
    if x.target is torch.ops.aten.select.int and isinstance(arguments[2], int):
        return _whole(arguments[0]), arguments[1], arguments[2]
    return None


def _whole(node: fx.Node) -> fx.Node:
    """The tensor behind slices from 0 to the end, which ``x[:, t]`` leaves of its colon."""
    while node.target is torch.ops.aten.slice.Tensor:
        arguments: Any = node.args
        start, end, step = (*arguments[2:], None, None, None)[:3]
        if start not in (None, 0) or end not in (None, sys.maxsize) or step not in (None, 1):
            break
        node = arguments[0]
    return node


def _replace(graph: fx.Graph, loop: _Loop) -> None:
    first, last, aten = loop.steps[0], loop.steps[-1], torch.ops.aten
    like = _states(first)[0].meta["val"]  # (B, H)
    length, (batch, hidden) = len(loop.steps), like.shape
    with graph.inserting_before(first):
        given = [
            _made(graph, aten.unsqueeze.default, (h, 0), like.new_empty((1, batch, hidden))) for h in _given(first)
        ]
        arguments: Any = first.args
        weights = [weight for weight in arguments[2:] if weight is not None]
        state = given if first.target is _LSTM else given[0]
        how = (state, weights, len(weights) == 4, 1, 0.0, False, False, loop.axis == 1)
        layer = graph.call_function(_LAYERS[first.target], (loop.source, *how))
        layer.meta.update({key: value for key, value in first.meta.items() if key != "val"})
        sizes = (batch, length, hidden) if loop.axis == 1 else (length, batch, hidden)
        values = [like.new_empty(sizes), *(like.new_empty((1, batch, hidden)) for _ in given)]
        layer.meta["val"] = tuple(values)
        outputs, *ends = (_made(graph, operator.getitem, (layer, k), value) for k, value in enumerate(values))
    rows = [_states(step)[0] for step in loop.steps]
    for user in list(rows[0].users):
        _take_stack(graph, user, rows, outputs, loop.axis)
    for state in _states(last):
        end = ends[_place(state)]
        with graph.inserting_after(end):
            value = _made(graph, aten.select.int, (end, 0, 0), like.new_empty((batch, hidden)))
        state.replace_all_uses_with(value)
    for place, step in enumerate(loop.steps[:-1]):
        node = _states(step)[0]
        readers = {user for user in node.users if user not in loop.steps}
        if readers:
            with graph.inserting_after(outputs):
                row = _made(graph, aten.select.int, (outputs, loop.axis, place), like.new_empty((batch, hidden)))
            node.replace_all_uses_with(row, delete_user_cb=readers.__contains__)


def _place(state: fx.Node) -> int:
    """0 for h, 1 for c."""
    arguments: Any = state.args
    return int(arguments[1]) if state.target is operator.getitem else 0


def _take_stack(graph: fx.Graph, user: fx.Node, rows: list[fx.Node], outputs: fx.Node, axis: int) -> None:
    """``torch.stack`` of the states of all steps is what the layer gives."""
    arguments: Any = user.args
    if user.target is not torch.ops.aten.stack.default or list(arguments[0]) != rows:
        return
    where = (*arguments, 0)[1]
    if where not in (0, 1, -2):
        return
    result = outputs
    if where % 3 != axis:
        with graph.inserting_before(user):
            result = _made(graph, torch.ops.aten.transpose.int, (outputs, 0, 1), user.meta["val"])
    user.replace_all_uses_with(result)


def _made(graph: fx.Graph, target: Any, arguments: tuple[Any, ...], value: Any) -> fx.Node:
    node = graph.call_function(target, arguments)
    node.meta["val"] = value
    return node


def _result_names(graph: fx.Graph) -> list[str]:
    (results,) = graph.output_node().args
    return [node.name for node in results if isinstance(node, fx.Node)]  # type: ignore[union-attr]
