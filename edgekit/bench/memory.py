"""Memory of this process, as Linux tells it."""

from __future__ import annotations

_ROWS = {"VmHWM": "peak_bytes", "VmRSS": "resident_bytes", "VmData": "data_bytes"}


def process_memory(status: str = "/proc/self/status") -> dict[str, int]:
    """``peak_bytes`` and ``resident_bytes`` (in memory, libraries included), ``data_bytes`` (private and writable,
    touched or not: what RLIMIT_DATA counts); empty where the system does not tell."""
    found = {}
    try:
        with open(status, encoding="ascii") as rows:
            for row in rows:
                name, _, value = row.partition(":")
                if name in _ROWS:
                    found[_ROWS[name]] = int(value.split()[0]) * 1024
    except OSError:
        return {}
    return found
