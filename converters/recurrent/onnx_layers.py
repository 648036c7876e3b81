"""Recurrent layers as ONNX operators: one a layer, both directions in one, with any length of the sequence.

torch's own translation has no RNN, and its tracing runs an LSTM step by step, which freezes the length. Here the nodes
of a captured program become custom operators (:mod:`.custom_ops`), which are translated directly. Source: ONNX
operators LSTM-14, GRU-14 (``linear_before_reset=1`` is torch's form) and RNN-14: gates i o f c and z r h, biases of
input and state side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.export import ExportedProgram

from edgekit.converters.recurrent.custom_ops import KINDS, cell_notes, kind_of, to_aten, to_custom, where

ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
"""Place in torch's gates of each of ONNX's."""
FOLD_LIMIT = 2**28
"""Largest weight in elements that is put in ONNX's order while exporting rather than at every start."""


def export(program: ExportedProgram, prefix: str, **options: Any) -> tuple[Any, tuple[str, ...]]:
    """``torch.onnx.export`` with recurrent layers as operators: the ONNX program, and what was unrolled, in words.

    Args:
        prefix: before the network's own module names.
        options: of ``torch.onnx.export``.
    """
    _read_translations_once()
    program, notes = unrolled(program, prefix)
    notes = (*notes, *cell_notes(program.graph))
    if not any(node.op == "call_function" and kind_of(node) for node in program.graph.nodes):
        return torch.onnx.export(program, **options), notes
    from onnxscript import optimizer

    try:
        exported = torch.onnx.export(to_custom(program), custom_translation_table=_translations(), **options)
    finally:
        to_aten(program)
    assert exported is not None  # an ExportedProgram always gives an ONNXProgram
    optimizer.optimize(exported.model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    return exported, notes


@functools.cache
def _read_translations_once() -> None:
    """Keeps onnxscript's table of torch's operators for the next export of this process.

    torch asks for it at each export, and each time onnxscript parses the source of all its 500 functions, for a quarter
    of the time that the export of a small network takes. A torch that asks elsewhere goes on doing so.
    """
    with suppress(ImportError, AttributeError):
        from torch.onnx._internal._lazy_import import onnxscript_apis  # type: ignore[attr-defined]

        onnxscript_apis.get_torchlib_ops = functools.cache(onnxscript_apis.get_torchlib_ops)


def unrolled(program: ExportedProgram, prefix: str) -> tuple[ExportedProgram, tuple[str, ...]]:
    """``program`` with the layers that ONNX has no operator for decomposed into single steps, and what was, in words.

    ONNX's LSTM has no projection of its output.
    """
    found = [node for node in program.graph.nodes if _projected(node)]
    if not found:
        return program, ()
    operator = torch.ops.aten.lstm.input
    table = torch._decomp.decomposition_table
    program = program.run_decompositions({operator: table[operator]})
    return program, tuple(
        f"{where(node, prefix)} (LSTM) is unrolled, one set of operators a step: it has a projection (proj_size), "
        "which ONNX's LSTM does not have"
        for node in found
    )


def _projected(node: torch.fx.Node) -> bool:
    if node.op != "call_function" or kind_of(node) != "lstm":
        return False
    states: Any = node.args[1]
    return bool(states[0].meta["val"].shape[2] != states[1].meta["val"].shape[2])


def _translations() -> dict[Any, Callable[..., Any]]:
    """Our operators -> functions that write them, for ``torch.onnx.export(custom_translation_table=...)``."""
    return {getattr(torch.ops.edgekit, kind).default: _translation(kind) for kind in KINDS}


def _translation(kind: str) -> Callable[..., Any]:
    def write(
        x: Any,
        hx: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        from onnxscript import opset18 as op

        states = list(hx) if kind == "lstm" else [hx]
        directions = 2 if bidirectional else 1
        per = 4 if has_biases else 2
        if batch_first:
            x = op.Transpose(x, perm=[1, 0, 2])
        ends: list[list[Any]] = [[] for _ in states]
        for layer in range(num_layers):
            first = layer * directions
            groups = [params[k * per : (k + 1) * per] for k in range(first, first + directions)]
            own = [op.Slice(state, [first], [first + directions], [0]) for state in states]
            x, *last = _layer(op, kind, x, groups, own, bidirectional)
            for end, part in zip(ends, last, strict=True):
                end.append(part)
        if batch_first:
            x = op.Transpose(x, perm=[1, 0, 2])
        return x, *(op.Concat(*end, axis=0) if len(end) > 1 else end[0] for end in ends)

    return write


def _layer(op: Any, kind: str, x: Any, groups: list[Any], states: list[Any], bidirectional: bool) -> list[Any]:
    """One operator: (T, B, I) -> (T, B, D * H) and the last states (D, B, H)."""

    hidden = int(groups[0][1].shape[1])

    def stacked(parts: list[Any]) -> Any:
        """(n, ...) a direction -> (D, n, ...)."""
        parts = [op.Unsqueeze(part, [0]) for part in parts]
        return op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0]

    def ordered(value: Any) -> Any:
        order = ORDER[kind]
        if len(order) == 1:
            return value
        gates = [op.Slice(value, [k * hidden], [(k + 1) * hidden], [0]) for k in order]
        return op.Concat(*gates, axis=0)

    operands = [x, stacked([ordered(group[0]) for group in groups]), stacked([ordered(group[1]) for group in groups])]
    biases = [op.Concat(*(ordered(bias) for bias in group[2:]), axis=0) for group in groups if len(group) > 2]
    operands.append(stacked(biases) if biases else None)
    how: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if bidirectional else "forward"}
    if kind == "lstm":
        results = op.LSTM(*operands, None, *states, **how)
    elif kind == "gru":
        results = op.GRU(*operands, None, *states, linear_before_reset=1, **how)
    else:
        activation = "Relu" if kind == "rnn_relu" else "Tanh"
        results = op.RNN(*operands, None, *states, activations=[activation] * len(groups), **how)
    y, *last = results
    y = op.Transpose(y, perm=[0, 2, 1, 3])  # (T, D, B, H) -> (T, B, D, H)
    return [op.Reshape(y, [0, 0, -1]), *last]
