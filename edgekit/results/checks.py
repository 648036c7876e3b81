"""What a gate was asked, one by one: for JUnit, which shows each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One question of a gate, and its answer.

    Attributes:
        name: what was looked at.
        failure: why it did not hold; empty where it did.
        broken: it could not be looked at.
    """

    name: str
    failure: str = ""
    broken: bool = False


def failed(checks: Sequence[Check]) -> bool:
    """Whether one of them did not hold."""
    return any(check.failure for check in checks)
