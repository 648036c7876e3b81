"""Recurrent layers of a captured program as sequence operators: what can be lowered, what is left and why.

A node of ``aten.lstm.input`` and its like stands for all layers and directions. It is given another target, a
function of this module with the same first arguments, which runs the sequence operators while litert-torch traces the
program once more. Weights are put in order here, on real tensors, so that the file holds them as constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from edgekit.converters.recurrent.marking import kind_of
from edgekit.converters.recurrent.operators import GATES, states
from torch import Tensor, fx

_CELLS = {
    torch.ops.aten.lstm_cell.default: "nn.LSTMCell",
    torch.ops.aten.gru_cell.default: "nn.GRUCell",
    torch.ops.aten.rnn_tanh_cell.default: "nn.RNNCell",
    torch.ops.aten.rnn_relu_cell.default: "nn.RNNCell",
}
_NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_ZEROS = (torch.ops.aten.zeros.default, torch.ops.aten.new_zeros.default, torch.ops.aten.zeros_like.default)


def lower(module: fx.GraphModule) -> tuple[str, ...]:
    """Puts sequence operators in place of the recurrent layers of ``module``; returns what was left, in words."""
    graph = module.graph
    graph.eliminate_dead_code()
    notes = []
    for node in list(graph.nodes):
        kind = kind_of(node) if node.op == "call_function" else None
        if kind is None:
            continue
        reason = _refusal(module, node)
        if reason:
            notes.append(f"{_where(node)} ({_NAMES[kind]}) is unrolled, one set of operators a step: {reason}")
        else:
            notes.extend(_replace(module, node, kind))
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


def _replace(module: fx.GraphModule, node: fx.Node, kind: str) -> list[str]:
    x, hx, params, has_biases, num_layers, _, _, bidirectional, batch_first = node.args
    graph, notes = module.graph, []
    _take_last(node, kind, bool(bidirectional), bool(batch_first))
    used = _used(node)
    state = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    zero = all(_is_zero(module, part) for part in state)  # type: ignore[arg-type]
    alone = kind != "gru" and zero and not (kind == "lstm" and 2 in used)
    if kind != "gru" and not alone:
        why = "its last cell state is used, which TFLite's operator keeps to itself" if zero else (
            "its initial state is an input or depends on the batch size, which TFLite's operator cannot be given"
        )
        notes.append(f"{_where(node)} ({_NAMES[kind]}) is a loop over one step: {why}")
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
            target, (x, hx, constants), {
                "name": _where(node),
                "kind": kind,
                "num_layers": num_layers,
                "bidirectional": bidirectional,
                "batch_first": batch_first,
                "sequence": 0 in used,
            }
        )
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    return notes


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
    hx: Any,
    weights: Sequence[Sequence[Tensor]],
    name: str,
    kind: str,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    sequence: bool,
) -> tuple[Tensor, ...]:
    """All layers from a state of zeros: (outputs, h_n)."""
    time, last = (1 if batch_first else 0), []
    for layer in range(num_layers):
        outputs = []
        for direction in range(2 if bidirectional else 1):
            own = list(weights[layer * (2 if bidirectional else 1) + direction])
            steps = x.flip(time) if direction else x
            y = torch.ops.edgekit.fused(_part(name, layer, direction), kind, steps, own, batch_first)
            last.append(y.select(time, -1))
            outputs.append(y.flip(time) if direction else y)
        x = torch.cat(outputs, 2) if bidirectional else outputs[0]
    return x, torch.stack(last)


def run_loop(
    x: Tensor,
    hx: Any,
    weights: Sequence[Sequence[Tensor]],
    name: str,
    kind: str,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    sequence: bool,
) -> tuple[Tensor, ...]:
    """All layers from a given state: (outputs, h_n), for an LSTM also c_n. Outputs are x where none are wanted."""
    given = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    directions = 2 if bidirectional else 1
    ends: list[list[Tensor]] = [[] for _ in range(states(kind))]
    x = x.transpose(0, 1) if batch_first else x
    for layer in range(num_layers):
        outputs = []
        wanted = sequence or layer + 1 < num_layers
        for direction in range(directions):
            k = layer * directions + direction
            w_input, b_input, *of_state = weights[k]
            gates = torch.nn.functional.linear(x, w_input, b_input)
            state = [part[k] for part in given]
            operator = torch.ops.edgekit.loop if wanted else torch.ops.edgekit.last
            results = list(operator(_part(name, layer, direction), kind, gates, of_state, state, bool(direction)))
            if wanted:
                outputs.append(results.pop(0))
            for end, part in zip(ends, results, strict=True):
                end.append(part)
        if wanted:
            x = torch.cat(outputs, 2) if bidirectional else outputs[0]
    return (x.transpose(0, 1) if batch_first else x), *(torch.stack(end) for end in ends)


def _part(name: str, layer: int, direction: int) -> str:
    """A layer's name in the file, after torch's own names of its weights: ``lstm/l1_reverse``."""
    return f"{name}/l{layer}{'_reverse' if direction else ''}"


def _take_last(node: fx.Node, kind: str, bidirectional: bool, batch_first: bool) -> None:
    """Where only the last step of the outputs is used, takes it from h_n: a loop need not keep the others."""
    outputs = _result(node, 0)
    if bidirectional or outputs is None or not outputs.users:
        return
    time = 1 if batch_first else 0
    if not all(
        user.target is torch.ops.aten.select.int and user.args[1] in (time, time - 3) and user.args[2] == -1
        for user in outputs.users
    ):
        return
    graph = node.graph
    with graph.inserting_after(outputs):
        h_n = graph.call_function(torch.ops.aten.select.int, (_made_result(node, 1), 0, -1))
    for user in list(outputs.users):
        user.replace_all_uses_with(h_n)
        graph.erase_node(user)
    graph.erase_node(outputs)


def _result(node: fx.Node, index: int) -> fx.Node | None:
    return next((user for user in node.users if user.args[1] == index), None)


def _made_result(node: fx.Node, index: int) -> fx.Node:
    import operator

    found = _result(node, index)
    if found is None:
        with node.graph.inserting_after(node):
            found = node.graph.call_function(operator.getitem, (node, index))
    return found


def _used(node: fx.Node) -> set[int]:
    """Which of a layer's results anything is done with."""
    return {int(user.args[1]) for user in node.users if user.users}  # type: ignore[arg-type]


def _is_zero(module: fx.GraphModule, node: fx.Node) -> bool:
    """A state that is zero whatever the input, of a size that is known."""
    if any(not isinstance(size, int) for size in _shape(node)):
        return False
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


def _where(node: fx.Node) -> str:
    """The layer's name in the network."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [path for path, _ in stack.values() if path]
    return str(names[-1]).removeprefix("L['self'].") if names else node.name


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
