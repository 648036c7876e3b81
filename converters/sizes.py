"""Sizes of a captured program in the user's words: symbols become the names of the dynamic dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.types import Dim, TensorSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def output_shapes(program: ExportedProgram, inputs: tuple[TensorSpec, ...], count: int) -> list[tuple[Dim, ...]]:
    """Shapes of the program's outputs, symbols replaced by the names of the dimensions they stand for."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = dim_names(program, inputs)
    outputs = program.graph_signature.user_outputs[:count]
    return [tuple(named_size(size, names) for size in values[str(output)].shape) for output in outputs]


def dim_names(program: ExportedProgram, inputs: tuple[TensorSpec, ...]) -> dict[Any, str]:
    """Symbol in the program -> name of the dynamic dimension."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = {}
    for spec, user_input in zip(inputs, program.graph_signature.user_inputs, strict=True):
        for dim, size in zip(spec.shape, values[str(user_input)].shape, strict=True):
            if isinstance(dim, str):
                names[size.node.expr] = dim
    return names


def named_size(size: Any, names: Mapping[Any, str]) -> Dim:
    """A size as it is, a symbolic one as text in the user's names: ``batch``, ``2*batch``."""
    import sympy

    if isinstance(size, int):
        return size
    return str(size.node.expr.subs({symbol: sympy.Symbol(name) for symbol, name in names.items()}))
