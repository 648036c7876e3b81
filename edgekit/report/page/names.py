"""Names as the labels of a plot: short, and no two alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgekit.graph.layers import tflite_layer

LONGEST = 48
"""Characters of a label."""


def in_short(name: str) -> str:
    """The layer of an operator whose name is the path of its module (TFLite); the end of any other long name."""
    if len(name) <= LONGEST:
        return name
    return tflite_layer(name) or f"…{name[-LONGEST:]}"


def unlike(names: Sequence[str]) -> list[str]:
    """``names`` with a number behind those that are there more than once."""
    count, seen = Counter(names), Counter[str]()
    told = []
    for name in names:
        seen[name] += 1
        told.append(name if count[name] == 1 else f"{name} {seen[name]}")
    return told
