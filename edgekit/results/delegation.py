"""How much of a graph a delegate runs: what a runner says of a loaded file, all that a worker needs of the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.results.base import optional


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator that the delegate did not take: its type, and who runs it in its place. A tool gives no name."""

    name: str | None = optional()
    type: str
    by: str


@dataclass(frozen=True)
class Delegation:
    """How much of the graph ``by`` took over: ``delegated`` of ``nodes`` operators of the loaded graph, not ``left``.

    Operators in the bodies of loops and branches are not counted: they belong to the ``WHILE`` or ``If`` around them.
    ``precisions``: how many of them are computed in what (``f32``, ``bf16``, ``i8``), where the runtime tells.
    """

    nodes: int
    delegated: int
    by: str | None
    left: tuple[Operator, ...] = ()
    precisions: Mapping[str, int] | None = optional()
