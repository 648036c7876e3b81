"""What the operators of one inference compute and move, each counted by its shapes; the same for all formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.graph import ops
from edgekit.graph.macs import Tensor

UNKNOWN_LOOP = "loop of unknown length"


@dataclass(frozen=True, slots=True)
class Call:
    """One operator as it ran: its type in the words of its format, what it read and wrote, and how often."""

    type: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    times: int = 1


def macs(call: Call) -> int | None:
    """Multiply-accumulates of one run of ``call``, see :func:`edgekit.graph.ops.macs`; None for a loop of unknown
    length."""
    return None if call.type == UNKNOWN_LOOP else ops.macs(call.type, call.inputs, call.outputs)


def total(calls: Sequence[Call]) -> dict[str, Any]:
    """``macs`` and ``bytes`` of all calls, ``macs`` by type, and types that could not be counted.

    ``narrow_macs`` are those on numbers of less than 32 bits, which the measured peak of float32 does not bound.
    ``bytes`` is what the operators read and write, each tensor once an operator, as if nothing stayed in a cache
    between two operators.
    """
    by_type: dict[str, int] = {}
    uncounted: dict[str, int] = {}
    moved = narrow = 0
    for call in calls:
        count = macs(call)
        if count is None:
            uncounted[call.type] = uncounted.get(call.type, 0) + call.times
        elif count:
            by_type[call.type] = by_type.get(call.type, 0) + count * call.times
            narrow += count * call.times if call.inputs[0].itemsize < 4 else 0
        moved += call.times * sum(tensor.bytes for tensor in (*call.inputs, *call.outputs))
    rows = [{"type": kind, "macs": count} for kind, count in sorted(by_type.items(), key=lambda item: -item[1])]
    return {
        "macs": sum(by_type.values()),
        "narrow_macs": narrow,
        "bytes": moved,
        "types": rows,
        "uncounted": [{"type": kind, "calls": count} for kind, count in uncounted.items()],
    }
