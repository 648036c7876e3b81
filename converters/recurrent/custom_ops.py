"""Custom operators: whole recurrent layers as nodes of a captured program, and the sequence operators of TFLite files.

``torch.export`` keeps ``aten.lstm.input`` and its like as one node, but finds the shapes of its outputs by running its
decomposition, one step after the other: seconds for a long sequence, and the length is frozen. Operators of our own
with the same arguments state the shapes instead. Afterwards the nodes are given aten's own names again
(:func:`to_aten`), so that a captured program holds nothing but aten; :func:`to_custom` undoes that before a program is
traced once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from edgekit.converters.recurrent import packing

if TYPE_CHECKING:
    from edgekit.converters.recurrent.cell_state import Hold

_ARGUMENTS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
)
KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _define(kind: str) -> None:
    """aten's operator of a whole layer under another name: outputs, (B, T, D * H) batch first, and the last state."""
    aten, pair = getattr(torch.ops.aten, kind).input, kind == "lstm"
    results = ", ".join(["Tensor"] * (3 if pair else 2))
    schema = f"(Tensor x, Tensor{'[]' if pair else ''} hx, {_ARGUMENTS}) -> ({results})"

    def run(*args: Any) -> tuple[Tensor, ...]:
        return tuple(aten(*args))

    def shapes(x: Tensor, hx: Any, *rest: Any) -> tuple[Tensor, ...]:
        state = hx if pair else [hx]
        outputs = x.new_empty((*x.shape[:2], state[0].shape[2] * (2 if rest[5] else 1)))
        return outputs, *(torch.empty_like(part) for part in state)

    torch.library.custom_op(f"edgekit::{kind}", run, mutates_args=(), schema=schema).register_fake(shapes)


for _name in KINDS:
    _define(_name)

_FUNCTIONS: dict[Any, Any] = {}
"""What a module calls -> our operator."""
for _name in KINDS:
    _ours = getattr(torch.ops.edgekit, _name).default
    _FUNCTIONS[getattr(torch, _name)] = _ours
    _FUNCTIONS[getattr(torch.ops.aten, _name).input] = _ours
_TO_ATEN = {getattr(torch.ops.edgekit, name).default: getattr(torch.ops.aten, name).input for name in KINDS}
_TO_OURS = {aten: ours for ours, aten in _TO_ATEN.items()}

_CELLS = {
    torch.ops.aten.lstm_cell.default: "nn.LSTMCell",
    torch.ops.aten.gru_cell.default: "nn.GRUCell",
    torch.ops.aten.rnn_tanh_cell.default: "nn.RNNCell",
    torch.ops.aten.rnn_relu_cell.default: "nn.RNNCell",
}


class CustomOps(TorchFunctionMode):
    """While it is active, recurrent layers run as one operator of ours, and packed sequences as padded ones.

    Args:
        hold: which layers keep their cell state behind the end of a packed sequence.

    Raises:
        UnsupportedError: the network does more with packed sequences than to run layers on them.
    """

    def __init__(self, hold: Hold | None = None) -> None:
        super().__init__()
        self._hold = hold

    def __enter__(self) -> CustomOps:
        self._packing = packing.substituted()
        self._packing.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)  # type: ignore[no-untyped-call]
        self._packing.__exit__(*reason)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        ours = _FUNCTIONS.get(func) if not kwargs and len(args) == 9 else None
        if ours is not None and isinstance(args[0], packing.Rows):
            return packing.run(ours, args[0], args[2], args[3], tuple(args[4:]), self._hold)
        if ours is not None and isinstance(args[3], bool):
            return ours(args[0], list(args[1]) if isinstance(args[1], tuple) else args[1], list(args[2]), *args[3:])
        return func(*args, **(kwargs or {}))


def to_aten(program: ExportedProgram) -> ExportedProgram:
    """Our operators become aten's, in place."""
    return _swap(program, _TO_ATEN)


def to_custom(program: ExportedProgram) -> ExportedProgram:
    """aten's recurrent operators become ours, in place."""
    return _swap(program, _TO_OURS)


def _swap(program: ExportedProgram, names: dict[Any, Any]) -> ExportedProgram:
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target in names:
            node.target = names[node.target]
    program.graph_module.recompile()
    return program


def kind_of(node: torch.fx.Node) -> str | None:
    """``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu`` for the node of a whole layer, else None."""
    target = _TO_ATEN.get(node.target, node.target)
    for name in KINDS:
        if target is getattr(torch.ops.aten, name).input:
            return name
    return None


def cell_notes(graph: torch.fx.Graph) -> list[str]:
    """What is said of cells that the network steps by a loop of its own."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        if node.target in _CELLS:
            counts[_CELLS[node.target]] = counts.get(_CELLS[node.target], 0) + 1
    return [
        f"{count} steps of {name} are unrolled, one set of operators each: they do not step through the rows of one "
        "tensor in order, each from the state before; use the layer of whole sequences where it does the same"
        for name, count in counts.items()
        if count > 1  # one step alone, as in a streaming file, is not a loop
    ]


def where(node: torch.fx.Node, prefix: str) -> str:
    """The name in the network of the layer that a node came from; ``prefix`` is taken off."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in stack.values()]
    name = paths[-1].removeprefix("L['self'].") if paths else ""
    return name[len(prefix) :] if name.startswith(prefix) else "the network itself"


# The sequence operators that a TFLite file can hold: one layer, one direction. They run in torch too, step by step,
# which is how a lowering is tested without a file. B: batch, T: steps, I: inputs, H: hidden units, G: gates.


@torch.library.custom_op("edgekit::fused", mutates_args=())
def fused(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], batch_first: bool, reverse: bool
) -> tuple[Tensor, Tensor]:
    """A layer from a state of zeros, as TFLite's own sequence operator.

    Args:
        name: the layer's in the network, for the file.
        cell: ``lstm``, ``rnn_tanh`` or ``rnn_relu``.
        x: (B, T, I) batch first, else (T, B, I).
        weights: of the input (G * H, I), of the state (G * H, H), bias (G * H); gates in torch's order i f g o.
        reverse: from the last step to the first.

    Returns:
        h of every step, (B, T, H) or (T, B, H), and h after the last step taken, (B, H).
    """
    if cell == "lstm":
        weights = [torch.cat([i, f, o, g]) for i, f, g, o in (part.chunk(4) for part in weights)]
    w_input, w_state, bias = weights
    steps = x.transpose(0, 1) if batch_first else x
    y, last = _run(cell, gates(steps, [w_input, bias]), [w_state], [], reverse)[:2]
    return (y.transpose(0, 1) if batch_first else y).contiguous(), last


@fused.register_fake
def _(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], batch_first: bool, reverse: bool
) -> tuple[Tensor, Tensor]:
    hidden = weights[1].shape[1]
    return x.new_empty((*x.shape[:2], hidden)), x.new_empty((x.shape[0 if batch_first else 1], hidden))


@torch.library.custom_op("edgekit::loop", mutates_args=())
def loop(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    """A layer as a loop over one step.

    Args:
        name: the layer's in the network, for the file.
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        x: (T, B, I).
        weights: of the input (G * H, I), its bias (G * H), of the state (G * H, H), for a GRU also its bias (G * H),
            of which only n's is not zero. Gates in the order i f o g of an LSTM and r z n of a GRU.
        state: h, for an LSTM also c, (B, H) each; none for zeros.
        reverse: from the last step to the first.

    Returns:
        h of every step (T, B, H), then the last state.
    """
    return _run(cell, gates(x, weights), weights[2:], state, reverse)


@loop.register_fake
def _(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    hidden = weights[2].shape[1]
    return [x.new_empty((*x.shape[:2], hidden)), *(x.new_empty((x.shape[1], hidden)) for _ in range(states(cell)))]


@torch.library.custom_op("edgekit::last", mutates_args=())
def last(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    """As :func:`loop`, without the outputs of the steps: the last state only."""
    return _run(cell, gates(x, weights), weights[2:], state, reverse)[1:]


@last.register_fake
def _(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    return [x.new_empty((x.shape[1], weights[2].shape[1])) for _ in range(states(cell))]


@torch.library.custom_op("edgekit::end", mutates_args=())
def end(x: Tensor, axis: int) -> Tensor:
    """The last of ``x`` along an axis: ``x.select(axis, -1)``."""
    return x.select(axis, -1).clone()


@end.register_fake
def _(x: Tensor, axis: int) -> Tensor:
    return x.new_empty((*x.shape[:axis], *x.shape[axis + 1 :]))


@torch.library.custom_op("edgekit::join", mutates_args=())
def join(parts: Sequence[Tensor], axis: int) -> Tensor:
    """``torch.cat``, which litert-torch writes as zeros where sizes are dynamic."""
    return torch.cat(list(parts), axis).clone()


@join.register_fake
def _(parts: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(list(parts), axis)


def states(cell: str) -> int:
    """How many tensors the state of a cell has."""
    return 2 if cell == "lstm" else 1


def gates(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """What the input gives to each gate: (T, B, I) -> (T, B, G * H)."""
    return torch.nn.functional.linear(x, weights[0], weights[1])


def _run(cell: str, gates: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool) -> list[Tensor]:
    now, outputs = list(state), []
    if not now:
        now = [gates.new_zeros(gates.shape[1], weights[0].shape[1])] * states(cell)
    for t in reversed(range(len(gates))) if reverse else range(len(gates)):
        now = step(cell, gates[t], weights, now)
        outputs.append(now[0])
    y = torch.stack(outputs[::-1] if reverse else outputs)
    return [y, *(part.clone() for part in now)]


def step(cell: str, gates: Tensor, weights: Sequence[Tensor], state: list[Tensor]) -> list[Tensor]:
    """One step: (B, G * H), state (B, H) -> state."""
    h = state[0]
    of_state = torch.nn.functional.linear(h, *weights)
    if cell == "gru":
        rz, n_input = gates[:, : -h.shape[1]], gates[:, -h.shape[1] :]
        r, z = torch.sigmoid(rz + of_state[:, : -h.shape[1]]).chunk(2, 1)
        n = torch.tanh(n_input + r * of_state[:, -h.shape[1] :])
        return [n + z * (h - n)]
    if cell == "lstm":
        i, f, o, g = (gates + of_state).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return [torch.sigmoid(o) * torch.tanh(c), c]
    return [torch.relu(gates + of_state) if cell == "rnn_relu" else torch.tanh(gates + of_state)]
