"""Recurrent layers of a captured program as sequence operators: what can be lowered, what is left and why.

A node of ``aten.lstm.input`` and its like stands for all layers and directions. It is given another target, a
function of this module with the same first arguments, which runs the sequence operators while litert-torch traces the
program once more. Weights are put in order here, on real tensors, so that the file holds them as constants.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from typing import Any

import torch
from edgekit.converters.recurrent.marking import kind_of, where
from edgekit.converters.recurrent.operators import states
from torch import Tensor, fx

_CELLS = {
    torch.ops.aten.lstm_cell.default: "nn.LSTMCell",
    torch.ops.aten.gru_cell.default: "nn.GRUCell",
    torch.ops.aten.rnn_tanh_cell.default: "nn.RNNCell",
    torch.ops.aten.rnn_relu_cell.default: "nn.RNNCell",
}
_NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_ZEROS = (torch.ops.aten.zeros.default, torch.ops.aten.new_zeros.default, torch.ops.aten.zeros_like.default)


def lower(module: fx.GraphModule, prefix: str = "") -> tuple[str, ...]:
    """Puts sequence operators in place of the recurrent layers of ``module``; returns what was left, in words.

    Args:
        prefix: before the network's own module names.
    """
    graph = module.graph
    graph.eliminate_dead_code()
    notes = []
    for node in list(graph.nodes):
        kind = kind_of(node) if node.op == "call_function" else None
        if kind is None:
            continue
        reason = _refusal(module, node)
        if reason:
            notes.append(f"{where(node, prefix)} ({_NAMES[kind]}) is unrolled, one set of operators a step: {reason}")
        else:
            notes.extend(_replace(module, node, kind, prefix))
    _ends(graph)
    notes.extend(_cell_notes(graph))
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    return tuple(notes)


def _refusal(module: fx.GraphModule, node: fx.Node) -> str:
    """Why a layer cannot be lowered; empty when it can."""
    x, _, params, has_biases, num_layers, dropout, train, bidirectional, _ = node.args
    assert isinstance(params, (list, tuple)) and isinstance(x, fx.Node)
    directions = 2 if bidirectional else 1
    if len(params) != num_layers * directions * (4 if has_biases else 2):  # type: ignore[operator]
        return "it has a projection (proj_size), which TFLite's operator has in another place"
    if train and dropout:
        return "it was captured in training mode, with dropout between its layers"
    if any(p.op != "get_attr" for p in params):
        return "its weights are computed in the network (a parametrization); fold them into the layer first"
    if any(_attribute(module, p).dtype != torch.float32 for p in params):
        return "its weights are not float32"
    if len(_shape(x)) != 3:
        return "its input is a packed sequence"
    return ""


def _replace(module: fx.GraphModule, node: fx.Node, kind: str, prefix: str) -> list[str]:
    x, hx, params, has_biases, num_layers, _, _, bidirectional, batch_first = node.args
    graph, notes = module.graph, []
    _take_parts(node, kind, int(num_layers), bool(bidirectional), bool(batch_first))
    used = _used(node, kind, len(params) // (4 if has_biases else 2))
    state = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    zero = all(_is_zero(module, part) for part in state)  # type: ignore[arg-type]
    why = _why_loop(node, kind, zero, used)
    alone = kind != "gru" and not why
    if kind != "gru" and why:
        notes.append(f"{where(node, prefix)} ({_NAMES[kind]}) is a loop over one step: {why}")
    per = 4 if has_biases else 2
    values = [_attribute(module, p) for p in params]  # type: ignore[union-attr]
    groups = [values[k : k + per] for k in range(0, len(values), per)]
    order = fused_weights if alone else loop_weights
    constants = []
    with graph.inserting_before(node):
        for group in groups:
            constants.append([_constant(module, value) for value in order(kind, group)])
        target = run_fused if alone else run_loop
        new = graph.call_function(
            target,
            (x, () if zero else tuple(state), constants),
            {
                "name": where(node, prefix),
                "kind": kind,
                "num_layers": num_layers,
                "bidirectional": bidirectional,
                "batch_first": batch_first,
                "sequence": 0 in used,
            },
        )
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    return notes


def _why_loop(node: fx.Node, kind: str, zero: bool, used: set[int]) -> str:
    """Why TFLite's own operator will not do; empty when it will."""
    x, batch_first = node.args[0], node.args[8]
    assert isinstance(x, fx.Node)
    if not zero:
        return "it starts from a state that is given, which TFLite's operator cannot be"
    if not isinstance(_shape(x)[0 if batch_first else 1], int):
        return "the batch size is dynamic, but the state that TFLite's operator keeps has one size"
    if kind == "lstm" and 2 in used:
        return "its last cell state is used, which TFLite's operator keeps to itself"
    return ""


def fused_weights(kind: str, group: Sequence[Tensor]) -> list[Tensor]:
    """Weights for :func:`operators.fused`: the biases of input and state are added."""
    w_input, w_state, *biases = group
    bias = biases[0] + biases[1] if biases else w_input.new_zeros(len(w_input))
    return [w_input, w_state, bias]


def loop_weights(kind: str, group: Sequence[Tensor]) -> list[Tensor]:
    """Weights for :func:`operators.loop`: of the input, its bias, of the state, for a GRU the bias of the state.

    r and z of a GRU add both biases at once; that of n stands inside the product with r (Cho et al. 2014 as cuDNN
    and torch have it: n = tanh(W_in x + b_in + r * (W_hn h + b_hn))). An LSTM's gates i f g o are put in the order
    i f o g, so that one LOGISTIC serves three.
    """
    w_input, w_state, *biases = group
    zeros = w_input.new_zeros(len(w_input))
    b_input, b_state = biases or (zeros, zeros)
    if kind == "gru":
        inside = b_state.clone()
        inside[: -w_state.shape[1]] = 0
        return [w_input, b_input + (b_state - inside), w_state, inside]
    weights = [w_input, b_input + b_state, w_state]
    if kind == "lstm":
        return [torch.cat([i, f, o, g]) for i, f, g, o in (part.chunk(4) for part in weights)]
    return weights


def run_fused(
    x: Tensor,
    given: Sequence[Tensor],
    weights: Sequence[Sequence[Tensor]],
    name: str,
    kind: str,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    sequence: bool,
) -> tuple[Tensor, ...]:
    """All layers from a state of zeros; the same results as of :func:`run_loop`."""
    last = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(2 if bidirectional else 1):
            own = list(weights[layer * (2 if bidirectional else 1) + direction])
            part = _part(name, layer, direction)
            y, end = torch.ops.edgekit.fused(part, kind, x, own, batch_first, bool(direction))
            outputs.append(y)
            last.append(end)
        x = torch.ops.edgekit.join(outputs, 2) if bidirectional else outputs[0]
    stacked = _stacked(last)
    return x, *([stacked] * states(kind)), *last  # nobody reads the cell state of a fused LSTM


def run_loop(
    x: Tensor,
    given: Sequence[Tensor],
    weights: Sequence[Sequence[Tensor]],
    name: str,
    kind: str,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    sequence: bool,
) -> tuple[Tensor, ...]:
    """All layers from a given state, (D * L, B, H) each, or from zeros.

    Returns:
        Outputs, h_n, for an LSTM also c_n; then what each layer and direction has in those.

    The first result is no output but some tensor where none is wanted.
    """
    directions = 2 if bidirectional else 1
    ends: list[list[Tensor]] = [[] for _ in range(states(kind))]
    x = x.transpose(0, 1) if batch_first else x
    for layer in range(num_layers):
        outputs = []
        wanted = sequence or layer + 1 < num_layers
        for direction in range(directions):
            k = layer * directions + direction
            state = [part[k] for part in given]
            call = torch.ops.edgekit.loop if wanted else torch.ops.edgekit.last
            results = list(call(_part(name, layer, direction), kind, x, list(weights[k]), state, bool(direction)))
            if wanted:
                outputs.append(results.pop(0))
            for end, part in zip(ends, results, strict=True):
                end.append(part)
        if wanted:
            x = torch.ops.edgekit.join(outputs, 2) if bidirectional else outputs[0]
    return (x.transpose(0, 1) if batch_first else x), *map(_stacked, ends), *(part for end in ends for part in end)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """(B, H) each -> (n, B, H)."""
    rows = [part.unsqueeze(0) for part in parts]
    return torch.ops.edgekit.join(rows, 0) if len(rows) > 1 else rows[0]


def _part(name: str, layer: int, direction: int) -> str:
    """A layer's name in the file, after torch's own names of its weights: ``lstm/l1_reverse``."""
    return f"{name}/l{layer}{'_reverse' if direction else ''}"


def _take_parts(node: fx.Node, kind: str, num_layers: int, bidirectional: bool, batch_first: bool) -> None:
    """Where one layer of h_n or c_n is used, or the last step of the outputs, takes it as a result of its own.

    A loop need not keep outputs that nobody reads, and litert-torch need not stack states to take them apart again
    (which it cannot do with a dynamic batch).
    """
    count = num_layers * (2 if bidirectional else 1)
    first = 1 + states(kind)  # behind the outputs and the stacked states
    for user in list(node.users):
        result, time = user.args[1], 1 if batch_first else 0
        _drop_whole_slices(user)
        for select in list(user.users):
            if select.target is not torch.ops.aten.select.int:
                continue
            axis, place = select.args[1] % 3, select.args[2]  # type: ignore[operator]
            if result == 0 and not bidirectional and axis == time and place == -1:
                part = first + count - 1
            elif result != 0 and axis == 0 and isinstance(place, int):
                part = first + (result - 1) * count + place % count  # type: ignore[operator]
            else:
                continue
            with node.graph.inserting_before(select):
                select.replace_all_uses_with(node.graph.call_function(operator.getitem, (node, part)))
            node.graph.erase_node(select)


def _drop_whole_slices(node: fx.Node) -> None:
    """Takes out slices from 0 to the end, which ``y[:, -1]`` leaves of its colon."""
    for user in list(node.users):
        if user.target is torch.ops.aten.slice.Tensor:
            start, end, step = (*user.args[2:], *(None, None, None)[len(user.args) - 2 :])
            if start in (None, 0) and end in (None, sys.maxsize) and step in (None, 1):
                _drop_whole_slices(user)
                user.replace_all_uses_with(node)
                node.graph.erase_node(user)


def _ends(graph: fx.Graph) -> None:
    """``x[:, -1]`` along an axis of any length becomes an operator of ours: litert-torch's gives zeros."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.select.int and node.args[2] == -1:
            shape = _shape(node.args[0])
            if not isinstance(shape[node.args[1]], int):
                node.target = torch.ops.edgekit.end.default
                node.args = (node.args[0], node.args[1] % len(shape))


def _used(node: fx.Node, kind: str, count: int) -> set[int]:
    """Which of a layer's results anything is done with: 0 the outputs, 1 h, 2 c."""
    found = {int(user.args[1]) for user in node.users if user.users}  # type: ignore[arg-type]
    first = 1 + states(kind)
    return {result if result < first else 1 + (result - first) // count for result in found}


def _is_zero(module: fx.GraphModule, node: fx.Node) -> bool:
    """A state that is zero whatever the input."""
    if node.op == "get_attr":
        return not _attribute(module, node).any()
    return node.target in _ZEROS or (node.target is torch.ops.aten.full.default and node.args[1] == 0)


def _shape(node: fx.Node) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


def _attribute(module: fx.GraphModule, node: Any) -> Tensor:
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    assert isinstance(found, Tensor)
    return found.detach()


def _constant(module: fx.GraphModule, value: Tensor) -> fx.Node:
    number = sum(name.startswith("_edgekit_") for name, _ in module.named_buffers())
    module.register_buffer(f"_edgekit_{number}", value.contiguous())
    return module.graph.get_attr(f"_edgekit_{number}")


def _cell_notes(graph: fx.Graph) -> list[str]:
    counts: dict[str, int] = {}
    for node in graph.nodes:
        if node.target in _CELLS:
            counts[_CELLS[node.target]] = counts.get(_CELLS[node.target], 0) + 1
    return [
        f"{count} steps of {name} are unrolled, one set of operators each: a loop of the network's own cannot be "
        "recognised; use the layer of whole sequences instead"
        for name, count in counts.items()
    ]
