"""Who else used the processor while something was timed (Linux; ``unknown`` where the system does not tell)."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.clock import now_ns
from edgekit.bench.environment import UNKNOWN
from edgekit.results.bench import Busy, Others

TOP = 5
LEAST_SHARE = 0.01
"""Processes that used less than this share of a core are not named."""
_USER, _SYSTEM = 11, 12
_STEAL = 7


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Processor time so far, in clock ticks: of every process (by pid: name, ticks), and of the host's other guests."""

    at_ns: int
    processes: dict[int, tuple[str, int]]
    steal: int | None


def snapshot() -> Snapshot:
    """What the system's counters say now; costs a file read for each process there is."""
    processes = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        processes[int(entry.name)] = (name, int(fields[_USER]) + int(fields[_SYSTEM]))
    return Snapshot(now_ns(), processes, _steal())


def between(before: Snapshot, after: Snapshot, own: Collection[int]) -> Others:
    """Shares of one core that processes other than ``own`` (pids) used: the :data:`TOP` busiest, and all together.

    ``steal``: share of one core that the machine's host gave to others; it is ``unknown`` on a machine without one.
    """
    seconds = (after.at_ns - before.at_ns) / 1e9
    ticks = os.sysconf("SC_CLK_TCK") * seconds
    if not after.processes or ticks <= 0:
        return Others(seconds=seconds, cores=UNKNOWN, busiest=UNKNOWN, steal=UNKNOWN)
    used: list[tuple[float, str, int]] = []
    for pid, (name, total) in after.processes.items():
        if pid not in own:
            used.append((max(total - before.processes.get(pid, (name, 0))[1], 0) / ticks, name, pid))
    used.sort(reverse=True)
    top = [row for row in used[:TOP] if row[0] >= LEAST_SHARE]
    steal: float | str = UNKNOWN
    if before.steal is not None and after.steal is not None:
        steal = round((after.steal - before.steal) / ticks, 3)
    return Others(
        seconds=round(seconds, 3),
        cores=round(sum(share for share, _, _ in used), 3),
        busiest=tuple(Busy(name=name, pid=pid, cores=round(share, 3)) for share, name, pid in top),
        steal=steal,
    )


def _steal() -> int | None:
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        return int(first[1 + _STEAL])
    except (OSError, IndexError, ValueError):
        return None
