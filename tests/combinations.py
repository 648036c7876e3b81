"""Pairs of two lists of cases, most of them left to ``scripts/test -m sweep``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

EVERY = 4


def pairs(first: Iterable[str], second: Iterable[str]) -> list[Any]:
    """Every pair; each fourth one, and with them each case of both lists, is run every time."""
    rows = list(second)
    return [
        pytest.param(one, other, marks=() if (k + j) % EVERY == 0 else pytest.mark.sweep)
        for k, one in enumerate(first)
        for j, other in enumerate(rows)
    ]
