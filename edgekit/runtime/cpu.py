"""The CPU of this machine as the system tells it: its rows, and the instruction sets that kernels choose by."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.errors import UnsupportedError


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The rows of the first CPU, keys in lower case; on ARM boards the machine's own rows follow the last CPU."""
    rows: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            rows.setdefault(key.strip().lower(), value.strip())
    return rows


@functools.cache
def cpu_rows() -> Mapping[str, str]:
    """Those of ``/proc/cpuinfo``; empty where there is no such file (macOS, Windows)."""
    try:
        return parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def instruction_sets() -> frozenset[str]:
    """Names as Linux spells them: ``avx512_bf16``, ``asimdhp``; empty where the system does not tell."""
    rows = cpu_rows()
    return frozenset((rows.get("flags") or rows.get("features") or rows.get("isa") or "").split())


def require_instructions(runtime: str, wanted: Mapping[str, Sequence[str]]) -> None:
    """Refuses to run ``runtime`` on a CPU without the instructions that it computes with.

    Args:
        wanted: machine (``aarch64``) -> the instruction sets that it takes there, all of them.

    Raises:
        UnsupportedError: another machine, or one of them is missing: the runtime would compute in float32 unsaid.
    """
    machine, base = platform.machine(), runtime.partition(":")[0]
    lacking = sorted(set(wanted.get(machine, ())) - instruction_sets())
    if machine not in wanted:
        lacking = [f"a CPU of the kind {' or '.join(wanted)}"]
    if lacking:
        raise UnsupportedError(
            f"{runtime} needs {', '.join(lacking)}, which this {machine} CPU lacks: it would compute in float32 "
            f"and not say so; run it with --runtime {base}"
        )
