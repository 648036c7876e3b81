"""Whole recurrent layers as nodes of a captured program, with any length of the sequence.

``torch.export`` keeps ``aten.lstm.input`` and its like as one node, but finds the shapes of its outputs by running its
decomposition, one step after the other: seconds for a long sequence, and the length is frozen. Operators of our own
with the same arguments state the shapes instead. Afterwards the nodes are given aten's own names again
(:func:`unmark`), so that a captured program holds nothing but aten; :func:`mark` undoes that before a program is
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
    from edgekit.converters.recurrent.holding import Hold

Arguments = tuple[list[Tensor], bool, int, float, bool, bool, bool]


def _sizes(x: Tensor, hidden: Tensor, bidirectional: bool, batch_first: bool) -> Tensor:
    """An empty sequence of outputs: (B, T, D * H) batch first, else (T, B, D * H)."""
    return x.new_empty((*x.shape[:2], hidden.shape[2] * (2 if bidirectional else 1)))


@torch.library.custom_op("edgekit::lstm", mutates_args=())
def lstm(
    x: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``aten.lstm.input`` under another name: (outputs, h_n, c_n)."""
    y, h, c = torch.ops.aten.lstm.input(
        x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
    )
    return y, h, c


@lstm.register_fake
def _(x: Tensor, hx: Sequence[Tensor], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _sizes(x, hx[0], rest[5], rest[6]), torch.empty_like(hx[0]), torch.empty_like(hx[1])


def _one_state(name: str) -> Any:
    """The operator for a layer whose state is h alone."""
    aten = getattr(torch.ops.aten, name).input

    def run(
        x: Tensor,
        hx: Tensor,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, Tensor]:
        y, h = aten(x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
        return y, h

    # torch reads the operator's schema from these; the postponed annotations of a nested function it cannot resolve
    run.__annotations__ = {
        "x": Tensor,
        "hx": Tensor,
        "params": Sequence[Tensor],
        "has_biases": bool,
        "num_layers": int,
        "dropout": float,
        "train": bool,
        "bidirectional": bool,
        "batch_first": bool,
        "return": tuple[Tensor, Tensor],
    }
    operator = torch.library.custom_op(f"edgekit::{name}", run, mutates_args=())

    @operator.register_fake
    def _(x: Tensor, hx: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        return _sizes(x, hx, rest[5], rest[6]), torch.empty_like(hx)

    return operator


KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
for _name in KINDS[1:]:
    _one_state(_name)

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


class Marking(TorchFunctionMode):
    """While it is active, recurrent layers run as one operator of ours, and packed sequences as padded ones.

    Args:
        hold: which layers keep their cell state behind the end of a packed sequence.

    Raises:
        UnsupportedError: the network does more with packed sequences than to run layers on them.
    """

    def __init__(self, hold: Hold | None = None) -> None:
        super().__init__()
        self._hold = hold

    def __enter__(self) -> Marking:
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


def unmark(program: ExportedProgram) -> ExportedProgram:
    """Our operators become aten's, in place."""
    return _swap(program, _TO_ATEN)


def mark(program: ExportedProgram) -> ExportedProgram:
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
