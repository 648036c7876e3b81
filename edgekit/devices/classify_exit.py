"""What became of a worker whose output ended in the middle of a command, as an error of the tree."""

from __future__ import annotations

import re

from edgekit.devices.channel import Channel
from edgekit.devices.transport import Transport
from edgekit.errors import (
    EdgekitError,
    RuntimeMissingError,
    TransferError,
    UnreachableError,
    WorkerCrashError,
    WorkerMemoryError,
)

_LACKING = re.compile(r"No module named '(\w+)'")
_NO_ROOM = "no room for the worker"
_NOT_FOUND = 127
"""What a shell ends with that finds no such program."""
_TOO_OLD = re.compile(r"needs Python ([\d.]+), this is ([\d.]+)")


def classify_exit(channel: Channel, transport: Transport, command: str, limit_bytes: int | None) -> EdgekitError:
    """The error for a worker that has ended while it was asked ``command``. ``limit_bytes``: of its memory, if any."""
    tail, where = channel.stderr_tail, transport.subject
    ending = transport.ending(channel.status, tail.text())
    if ending.lost and command == "hello":
        return UnreachableError(f"{transport.spec.name} cannot be reached: {ending.words}")
    if ending.lost:
        return UnreachableError(f"{where} was lost during {command!r}: {ending.words}")
    if (limit_bytes and ending.killed) or (ending.status and tail.out_of_memory()):
        limit = f" (limit {limit_bytes:,} bytes)" if limit_bytes else ""
        return WorkerMemoryError(
            f"{where} ran out of memory during {command!r}{limit}; use a smaller model or batch, or allow it more"
        )
    if ending.killed and transport.killed_for_memory:
        return WorkerMemoryError(
            f"{where} was killed by the system, most likely because memory ran out; free memory, or work on a larger "
            "machine"
        )
    advice = transport.advice
    if command == "hello":
        missing = _missing(tail.last(), where, transport)
        if missing is not None:
            return missing
        if _NO_ROOM in tail.last():
            return TransferError(f"{where} cannot start{tail.last()}; free some space there")
        if ending.status == _NOT_FOUND:
            return RuntimeMissingError(
                f"{where} cannot start{tail.last()}; there is no such Python. "
                "Run there: sudo apt install python3 python3-venv, or name one with ?python=/path/to/python"
            )
        advice = "it should be a Python 3.11 or newer with numpy and a runtime"
    if ending.killed:
        advice = "it was killed from outside, by the system for want of memory or by someone; try it again"
    return WorkerCrashError(f"{where} died during {command!r}: {ending}{tail.last()}; {advice}")


def _missing(last: str, where: str, transport: Transport) -> RuntimeMissingError | None:
    """What the worker said it lacks; None when it was something else."""
    lacking, old = _LACKING.search(last), _TOO_OLD.search(last)
    if lacking:
        how = transport.install(lacking[1])
        return RuntimeMissingError(f"{where} cannot start: {lacking[1]} is not installed there; run: {how}")
    if old:
        return RuntimeMissingError(
            f"{where} cannot start: it needs Python {old[1]} or newer, there is {old[2]}; "
            f"install a newer Python there, for example python{old[1]}, and name it"
        )
    return None
