"""Recurrent layers of a captured program become sequence operators: what can be lowered, what is left and why.

A node of ``aten.lstm.input`` and its like stands for all layers and directions. It is given another target, a
function of :mod:`layers`. Weights are put in order here, on real tensors, so that the file holds them as constants.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgekit.converters.recurrent.custom_ops import cell_notes, kind_of, states, where
from edgekit.converters.recurrent.layers import fused_weights, loop_weights, run_fused, run_loop, run_step
from edgekit.graph import ops
from edgekit.types import Format

_PARTS = (torch.ops.aten.unsqueeze.default, torch.ops.aten.slice.Tensor)
_ZEROS = (torch.ops.aten.zeros.default, torch.ops.aten.new_zeros.default, torch.ops.aten.zeros_like.default)


@dataclass(frozen=True)
class _Layer:
    """A node of a recurrent layer with its arguments by name."""

    node: fx.Node
    kind: str
    name: str
    x: fx.Node
    state: tuple[fx.Node, ...]
    params: tuple[fx.Node, ...]
    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool

    @property
    def title(self) -> str:
        op = ops.get(Format.PT2, f"aten.{self.kind}.input")
        cell = op.cell if op else self.kind
        return f"{self.name} ({cell})"

    @property
    def parts(self) -> int:
        """Layers times directions."""
        return self.num_layers * (2 if self.bidirectional else 1)

    @property
    def per_part(self) -> int:
        """Weights of one layer and direction."""
        return 4 if self.has_biases else 2

    @property
    def time_axis(self) -> int:
        return 1 if self.batch_first else 0

    @property
    def batch_size(self) -> Any:
        return _shape(self.x)[1 - self.time_axis]

    @property
    def used(self) -> set[int]:
        """Which of the results anything is done with: 0 the outputs, 1 h, 2 c."""
        found = {int(_argument(user, 1)) for user in self.node.users if user.users}
        first = 1 + states(self.kind)
        return {result if result < first else 1 + (result - first) // self.parts for result in found}


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
        layer = _layer(node, kind, prefix)
        reason = _refusal(module, layer)
        if reason:
            notes.append(f"{layer.title} is unrolled, one set of operators a step: {reason}")
        else:
            notes.extend(_replace(module, layer))
    _ends(graph)
    notes.extend(cell_notes(graph))
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    return tuple(notes)


def _layer(node: fx.Node, kind: str, prefix: str) -> _Layer:
    arguments: Any = node.args
    x, hx, params, *rest = arguments
    state = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
    return _Layer(node, kind, where(node, prefix), x, state, tuple(params), *rest)


def _refusal(module: fx.GraphModule, layer: _Layer) -> str:
    """Why a layer cannot be lowered; empty when it can."""
    if len(layer.params) != layer.parts * layer.per_part:
        return "it has a projection (proj_size), which TFLite's operator has in another place"
    if layer.train and layer.dropout:
        return "it was captured in training mode, with dropout between its layers"
    if any(p.op != "get_attr" for p in layer.params):
        return "its weights are computed in the network (a parametrization); fold them into the layer first"
    if any(_attribute(module, p).dtype != torch.float32 for p in layer.params):
        return "its weights are not float32"
    return ""


def _replace(module: fx.GraphModule, layer: _Layer) -> list[str]:
    _take_parts(layer)
    zero = all(_is_zero(module, part) for part in layer.state)
    single = not zero and _shape(layer.x)[layer.time_axis] == 1
    why = "" if single else _why_loop(layer, zero)
    loop = single or bool(why) or layer.kind == "gru"
    values = [_attribute(module, p) for p in layer.params]
    order = loop_weights if loop else fused_weights
    graph = module.graph
    with graph.inserting_before(layer.node):
        constants = [
            [_constant(module, value) for value in order(layer.kind, values[k : k + layer.per_part])]
            for k in range(0, len(values), layer.per_part)
        ]
        how: dict[str, Any] = {
            "name": layer.name,
            "kind": layer.kind,
            "bidirectional": layer.bidirectional,
            "batch_first": layer.batch_first,
            "sequence": 0 in layer.used,
        }
        given = () if zero else layer.state
        run = run_step if single else run_loop if loop else run_fused
        new = graph.call_function(run, (layer.x, given, constants), how)
    layer.node.replace_all_uses_with(new)
    graph.erase_node(layer.node)
    return [f"{layer.title} is a loop over one step: {why}"] if why else []


def _why_loop(layer: _Layer, zero: bool) -> str:
    """Why TFLite's own operator for an LSTM or RNN will not do; empty when it will."""
    if layer.kind == "gru":
        return ""  # it has none, which needs no note
    if not zero:
        return "it starts from a state that is given, which TFLite's operator cannot be"
    if not isinstance(layer.batch_size, int):
        return "the batch size is dynamic, but the state that TFLite's operator keeps has one size"
    if layer.kind == "lstm" and 2 in layer.used:
        return "its last cell state is used, which TFLite's operator keeps to itself"
    return ""


def _take_parts(layer: _Layer) -> None:
    """Where one layer of h_n or c_n is used, or the last step of the outputs, takes it as a result of its own.

    A loop need not keep outputs that nobody reads, and litert-torch need not stack states to take them apart again.
    """
    graph, first = layer.node.graph, 1 + states(layer.kind)  # parts stand behind the outputs and the stacked states
    for user in list(layer.node.users):
        result = int(_argument(user, 1))
        _drop_whole_slices(user)
        for select in list(user.users):
            if select.target is not torch.ops.aten.select.int:
                continue
            axis, place = int(_argument(select, 1)) % 3, _argument(select, 2)
            if result == 0 and not layer.bidirectional and axis == layer.time_axis and place == -1:
                part = first + layer.parts - 1
            elif result != 0 and axis == 0 and isinstance(place, int):
                part = first + (result - 1) * layer.parts + place % layer.parts
            else:
                continue
            with graph.inserting_before(select):
                select.replace_all_uses_with(graph.call_function(operator.getitem, (layer.node, part)))
            graph.erase_node(select)


def _drop_whole_slices(node: fx.Node) -> None:
    """Takes out slices from 0 to the end, which ``y[:, -1]`` leaves of its colon."""
    for user in list(node.users):
        if user.target is torch.ops.aten.slice.Tensor:
            start, end, step = (*user.args[2:], None, None, None)[:3]
            if start in (None, 0) and end in (None, sys.maxsize) and step in (None, 1):
                _drop_whole_slices(user)
                user.replace_all_uses_with(node)
                node.graph.erase_node(user)


def _ends(graph: fx.Graph) -> None:
    """``x[:, -1]`` of a tensor with open sizes becomes an operator of ours: litert-torch's gives zeros where the axis
    is of any length, and cannot be written, or keeps the example's batch, where another one is open."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.select.int and node.args[2] == -1:
            source, axis = _argument(node, 0), _argument(node, 1)
            shape = _shape(source)
            if not all(isinstance(size, int) for size in shape):
                node.target = torch.ops.edgekit.end.default
                node.args = (source, axis % len(shape))


def _is_zero(module: fx.GraphModule, node: fx.Node) -> bool:
    """A state that is zero whatever the input."""
    if node.target in _PARTS:
        return _is_zero(module, _argument(node, 0))
    if node.op == "get_attr":
        return not _attribute(module, node).any()
    return node.target in _ZEROS or (node.target is torch.ops.aten.full.default and bool(node.args[1] == 0))


def _argument(node: fx.Node, place: int) -> Any:
    return node.args[place]


def _shape(node: fx.Node) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


def _attribute(module: fx.GraphModule, node: fx.Node) -> Tensor:
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    assert isinstance(found, Tensor)
    return found.detach()


def _constant(module: fx.GraphModule, value: Tensor) -> fx.Node:
    number = sum(name.startswith("_edgekit_") for name, _ in module.named_buffers())
    module.register_buffer(f"_edgekit_{number}", value.contiguous())
    return module.graph.get_attr(f"_edgekit_{number}")
