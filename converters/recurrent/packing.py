"""Packed sequences in a captured program: layers over the padded sequences, with the lengths as a tensor.

How many rows take a step of a ``PackedSequence`` depends on the lengths, which no file can follow. The same numbers
come out of the padded sequences: what a layer gives for the steps up to a length does not depend on those after it, so
the last state is the output at length - 1, and the reverse direction runs forward over sequences that are each turned
around within their length. While a network is captured, ``pack_padded_sequence`` and ``pad_packed_sequence`` therefore
keep the padded tensor, and recurrent layers take it (:func:`run`).

How long sequences may be is noted in the graph by an operator, which :func:`settle` reads and takes out, so that a
proof and a card can give lengths that the network takes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.nn.utils import rnn

from edgekit.converters.sizes import dim_names, named_size
from edgekit.errors import UnsupportedError
from edgekit.types import InputSpec, TensorSpec

if TYPE_CHECKING:
    from edgekit.converters.recurrent.cell_state import Hold

TOUCHED = (
    "it works on the rows of a packed sequence itself ({what}), and how many rows there are at a step depends on the "
    "lengths, which no file can follow. Only recurrent layers can stand between pack_padded_sequence and "
    "pad_packed_sequence; do the rest on padded sequences"
)


LONGEST = (
    "; one length has to be the largest: the file pads to there, pad_packed_sequence without total_length only to the "
    "longest sequence"
)


@torch.library.custom_op("edgekit::lengths", mutates_args=())
def _noted(lengths: Tensor, padded: Tensor, axis: int, descending: bool, longest: bool) -> Tensor:
    """``lengths`` (B,) as int64, unchanged; notes that they go from 1 to the size of ``padded`` along ``axis``.

    Args:
        descending: they have to be sorted (``enforce_sorted``).
        longest: one of them has to be as long as ``padded`` (``pad_packed_sequence`` without ``total_length``).
    """
    return lengths.to(torch.int64, copy=True)


@_noted.register_fake
def _(lengths: Tensor, padded: Tensor, axis: int, descending: bool, longest: bool) -> Tensor:
    return lengths.new_empty(lengths.shape, dtype=torch.int64)


@torch.library.custom_op("edgekit::cell_at_end", mutates_args=())
def _cell_at_end(c: Tensor, weight: str) -> Tensor:
    """Marks the last cell state of the layer with ``weight``, which has still to be held (see :mod:`.cell_state`).

    The mark is left out of the graph where nothing takes the state, which is so in most networks.
    """
    return c.clone()


@_cell_at_end.register_fake
def _(c: Tensor, weight: str) -> Tensor:
    return torch.empty_like(c)


_NOTED, _CELL = torch.ops.edgekit.lengths.default, torch.ops.edgekit.cell_at_end.default


@dataclass(frozen=True)
class Lengths:
    """An input that holds lengths of sequences: whole numbers from 1 to ``most``, a size or a symbol.

    Attributes:
        descending: they have to be sorted.
        longest: one has to be ``most``.
    """

    most: Any
    descending: bool
    longest: bool


class _Stand:
    """What stands for one tensor of a ``PackedSequence``; anything torch does with it but run a layer is refused."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedError(TOUCHED.format(what=f"PackedSequence.data.{name}"))

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise UnsupportedError(TOUCHED.format(what=getattr(func, "__name__", str(func))))


class Rows(_Stand):
    """``PackedSequence.data``: sequences (B, T, F), or (T, B, F), with their lengths (B,)."""

    def __init__(self, padded: Tensor, lengths: Tensor, batch_first: bool, descending: bool) -> None:
        self.padded, self.lengths, self.batch_first, self.descending = padded, lengths, batch_first, descending
        self.dtype, self.device = padded.dtype, padded.device

    def dim(self) -> int:
        return 2

    def size(self, axis: int) -> int:
        if axis not in (-1, 1):
            raise UnsupportedError(TOUCHED.format(what=f"PackedSequence.data.size({axis})"))
        return self.padded.shape[-1]

    @property
    def steps(self) -> int:
        return self.padded.shape[1 if self.batch_first else 0]

    @property
    def count(self) -> int:
        return self.padded.shape[0 if self.batch_first else 1]

    def within(self, longest: bool = False) -> Tensor:
        """True up to each length: (B, T, 1), or (T, B, 1)."""
        noted = _noted(self.lengths, self.padded, 1 if self.batch_first else 0, self.descending, longest)
        time = torch.arange(self.steps)
        inside: Tensor = time < noted[:, None] if self.batch_first else time[:, None] < noted
        return inside[..., None]

    def last(self, y: Tensor) -> Tensor:
        """(1, B, H): the rows of ``y``, laid out like ``padded``, at the ends of the sequences."""
        noted = _noted(self.lengths, self.padded, 1 if self.batch_first else 0, self.descending, False)
        return self._rows(y, (noted - 1)[:, None] if self.batch_first else (noted - 1)[None], 1)[None]

    def turned(self, x: Tensor) -> Tensor:
        """``x``, laid out like ``padded``, with each sequence turned around within its length; the rest stays."""
        noted = _noted(self.lengths, self.padded, 1 if self.batch_first else 0, self.descending, False)
        time = torch.arange(self.steps)
        if self.batch_first:
            ends, time = noted[:, None], time[None]
        else:
            ends, time = noted[None], time[:, None]
        return self._rows(x, torch.where(time < ends, ends - 1 - time, time), self.steps).reshape(x.shape)

    def _rows(self, x: Tensor, time: Tensor, steps: int) -> Tensor:
        """Rows of ``x`` at ``time`` (B, steps), or (steps, B): one gather of whole rows, which every runtime has."""
        row = torch.arange(self.count)
        place = row[:, None] * self.steps + time if self.batch_first else time * self.count + row[None]
        return x.reshape(-1, x.shape[-1]).index_select(0, place.reshape(-1))


class Sizes(_Stand):
    """``PackedSequence.batch_sizes``: the first is the size of the batch."""

    device = torch.device("cpu")

    def __init__(self, count: int) -> None:
        self._count = count

    def __getitem__(self, place: int) -> int:
        if place != 0:
            raise UnsupportedError(TOUCHED.format(what=f"PackedSequence.batch_sizes[{place}]"))
        return self._count


def pack(padded: Tensor, lengths: Any, batch_first: bool, enforce_sorted: bool) -> rnn.PackedSequence:
    """What ``pack_padded_sequence`` gives while a network is captured. No row changes its place."""
    if not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths, dtype=torch.int64)
    rows = Rows(padded, lengths, batch_first, enforce_sorted)
    return rnn.PackedSequence(rows, Sizes(rows.count), None, None)  # type: ignore[arg-type]


def pad(packed: Any, batch_first: bool, value: float, total_length: int | None) -> tuple[Tensor, Tensor]:
    """What ``pad_packed_sequence`` gives while a network is captured: sequences as long as those that were packed."""
    rows = packed.data
    if not isinstance(rows, Rows):
        raise UnsupportedError(TOUCHED.format(what="a PackedSequence of its own making"))
    y = torch.where(rows.within(longest=total_length is None), rows.padded, value)
    y = y if rows.batch_first else y.transpose(0, 1)
    if total_length is not None:
        if total_length < rows.steps:
            y = y[:, :total_length]
        elif total_length > rows.steps:
            y = torch.cat([y, y.new_full((y.shape[0], total_length - rows.steps, y.shape[2]), value)], 1)
    return y if batch_first else y.transpose(0, 1), rows.lengths.to(torch.int64)


def run(
    layer: Any,
    rows: Rows,
    hx: Any,
    params: Sequence[Tensor],
    rest: tuple[bool, int, float, bool, bool],
    hold: Hold | None = None,
) -> tuple[Any, ...]:
    """One recurrent module on packed sequences, as ``torch._VF`` gives it: rows, h_n, and c_n of an LSTM.

    Args:
        layer: our operator of :mod:`.custom_ops`.
        rest: has_biases, num_layers, dropout, train, bidirectional.
        hold: which layers keep their cell state.
    """
    has_biases, layers, _, train, bidirectional = rest
    states = list(hx) if isinstance(hx, list | tuple) else [hx]
    directions = 2 if bidirectional else 1
    each = len(params) // (layers * directions)
    x, ends = rows.padded, []
    for first in range(0, layers * directions, directions):
        made = []
        for place in range(first, first + directions):
            backwards = place > first
            start = [state[place : place + 1] for state in states]
            weight, *others = params[place * each : (place + 1) * each]
            given = rows.turned(x) if backwards else x
            held = hold.given(rows, given, weight) if hold and len(states) > 1 else None
            given, own = held or (given, weight)
            how = (has_biases, 1, 0.0, train, False, rows.batch_first)
            y, _, *cell = layer(given, start if len(states) > 1 else start[0], [own, *others], *how)
            name = hold.name(weight) if hold else ""
            ends.append([rows.last(y), *(c if held else _cell_at_end(c, name) for c in cell)])
            made.append(rows.turned(y) if backwards else y)
        x = torch.cat(made, -1) if bidirectional else made[0]
    found = Rows(x, rows.lengths, rows.batch_first, rows.descending)
    return (found, *(torch.cat(parts) for parts in zip(*ends, strict=True)))


@contextmanager
def substituted() -> Iterator[None]:
    """torch's two functions do what :func:`pack` and :func:`pad` do.

    Their code is exchanged, not their name: networks import them by name, before anyone can put another in its place.
    A layer's check of its state is told the batch as it is: torch's makes a number of it, which fixes an open one.
    """

    def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
        from edgekit.converters.recurrent import packing

        return packing.pack(input, lengths, batch_first, enforce_sorted)

    def pad_packed_sequence(
        sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
    ) -> Any:
        from edgekit.converters.recurrent import packing

        return packing.pad(sequence, batch_first, padding_value, total_length)

    def get_expected_hidden_size(self: Any, input: Any, batch_sizes: Any) -> Any:
        if not isinstance(batch_sizes, Sizes):
            return expected(self, input, batch_sizes)
        width = self.proj_size or self.hidden_size
        return self.num_layers * (2 if self.bidirectional else 1), batch_sizes[0], width

    kept = [(function, function.__code__) for function in (rnn.pack_padded_sequence, rnn.pad_packed_sequence)]
    expected = torch.nn.RNNBase.get_expected_hidden_size
    try:
        torch.nn.RNNBase.get_expected_hidden_size = get_expected_hidden_size  # type: ignore[method-assign]
        for (function, _), ours in zip(kept, (pack_padded_sequence, pad_packed_sequence), strict=True):
            function.__code__ = ours.__code__
        yield
    finally:
        torch.nn.RNNBase.get_expected_hidden_size = expected  # type: ignore[method-assign]
        for function, code in kept:
            function.__code__ = code


@dataclass(frozen=True)
class Packed:
    """What a program's packed sequences ask of its inputs.

    Attributes:
        inputs: those that hold lengths, by the program's own name.
        computed: lengths are computed from other inputs too, so which values the network takes is not known.
        cells: weight_ih of the layers whose last cell state is taken, and has still to be held.
    """

    inputs: Mapping[str, Lengths]
    computed: bool
    cells: frozenset[str]


def settle(program: ExportedProgram) -> tuple[ExportedProgram, Packed]:
    """Takes the notes of lengths out of ``program``, in place."""
    graph, found, computed, cells = program.graph, dict[str, Lengths](), False, set[str]()
    graph.eliminate_dead_code()
    inputs = set(program.graph_signature.user_inputs)
    for node in list(graph.nodes):
        if node.target is _CELL:
            cells.add(str(node.args[1]))
        if node.target is not _NOTED:
            continue
        arguments: Any = node.args
        lengths, padded, axis, descending, longest = arguments
        source = _origin(lengths)
        if source.name in inputs:
            known = found.get(source.name, Lengths(None, False, False))
            most = padded.meta["val"].shape[axis]
            found[source.name] = Lengths(most, known.descending or descending, known.longest or longest)
        elif source.op != "placeholder":  # that of a constant
            computed = True
        with graph.inserting_before(node):
            plain = graph.call_function(torch.ops.aten.to.dtype, (lengths, torch.int64))
            plain.meta.update(node.meta)
        node.replace_all_uses_with(plain)
        graph.erase_node(node)
    program.graph_module.recompile()
    return program, Packed(found, computed, frozenset(cells))


_SAME = ("to", "_to_copy", "alias", "detach", "clone", "contiguous", "lift_fresh_copy", "view", "reshape", "squeeze")


def _origin(node: fx.Node) -> fx.Node:
    """The node whose numbers ``node`` has, in another type or shape at most."""
    while node.op == "call_function" and node.target is not operator.getitem:
        name = (
            str(getattr(node.target, "_schema", node.target)).partition("(")[0].removeprefix("aten::").partition(".")[0]
        )
        if name not in _SAME or not isinstance(node.args[0], fx.Node):
            break
        node = node.args[0]
    return node


def contracts(program: ExportedProgram, inputs: tuple[TensorSpec, ...], found: Mapping[str, Lengths]) -> dict[str, Any]:
    """The input spec of the inputs that hold lengths, by name; of dynamic ones with the name of their dimension."""
    names, made = dim_names(program, inputs), {}
    for spec, given in zip(inputs, program.graph_signature.user_inputs, strict=True):
        if str(given) in found:
            lengths = found[str(given)]
            most = named_size(lengths.most, names)
            params = {"most": most, "sorted": lengths.descending, "longest": lengths.longest}
            made[spec.name] = InputSpec(params=params)
    return made


def length_notes(contract: Mapping[str, InputSpec], held: Iterable[str]) -> Iterator[str]:
    """What a user of packed sequences has to know about the inputs that hold their lengths, and about the weights."""
    for name, rule in contract.items():
        if "most" in rule.params:
            order = ", sorted from the longest on" if rule.params["sorted"] else ""
            yield f"{name!r} goes from 1 to {rule.params['most']}{order}" + (LONGEST if rule.params["longest"] else "")
    for weight in sorted(held):
        yield (
            f"{weight} has one more column, which holds the cell state behind the end of a sequence; it is much larger "
            "than the others, so quantizing that layer costs accuracy"
        )
