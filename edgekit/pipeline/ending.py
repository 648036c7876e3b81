"""What follows when a result has been handed over: what was kept for an interruption goes, a gate says no."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from edgekit.errors import EdgekitError


@runtime_checkable
class Gated(Protocol):
    """A result with a gate. ``failure()``: what the command ends with, None where the gate holds."""

    def failure(self) -> EdgekitError | None: ...


@runtime_checkable
class Kept(Protocol):
    """A result of a run that can be interrupted. ``delivered()`` removes what was kept for that."""

    def delivered(self) -> None: ...


def conclude(result: Any) -> None:
    """To be called when ``result`` has been handed over.

    Raises:
        EdgekitError: its gate says no.
    """
    if isinstance(result, Kept):
        result.delivered()
    failure = result.failure() if isinstance(result, Gated) else None
    if failure is not None:
        raise failure
