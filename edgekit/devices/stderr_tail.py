"""What a worker wrote to standard error: to the DEBUG log line by line, its tail kept for the error message."""

from __future__ import annotations

import logging
import os
from typing import Final

from edgekit.runtime.base import speaks_of_memory

log = logging.getLogger("edgekit")
_KEPT_BYTES: Final = 64 << 10
_TOLD_BYTES: Final = 4 << 20
"""What is logged of one worker's words; more are a flood, and only their end is kept."""
_AT_ONCE_BYTES: Final = 1 << 20
"""What is taken in one go: whoever waits for an answer has to look at the clock in between."""
_SHOWN: Final = 300
_ASIDE: Final = ("INFO:", "edgekit-bootstrap: ended")
"""Lines that are not the reason: what TFLite tells of itself, and how a worker ended far away."""
_FAULT: Final = "Fatal Python error: "
"""How faulthandler begins; what was said before it tells more than the stack behind it."""


class StderrTail:
    """The tail of one worker's standard error. ``ended``: its other end is closed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept = bytearray()
        self._line = bytearray()
        self._left_bytes = _TOLD_BYTES
        self.ended = False

    def drain(self, descriptor: int) -> None:
        """Takes what is there now from a descriptor that does not block."""
        taken = 0
        while not self.ended and taken < _AT_ONCE_BYTES:
            try:
                some = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return
            taken += len(some)
            if not some:
                self.ended = True
                return
            self._kept += some
            del self._kept[:-_KEPT_BYTES]
            *lines, rest = (bytes(self._line) + some).split(b"\n")
            self._line = bytearray(rest[-_KEPT_BYTES:])
            for line in lines:
                self._log(line)

    def tell(self) -> None:
        """Logs a last line that has no end."""
        if self._line:
            self._log(bytes(self._line))
            self._line.clear()

    def _log(self, line: bytes) -> None:
        if self._left_bytes > 0:
            self._left_bytes -= len(line) + 1
            log.debug("%s: %s", self._name, line.decode("utf-8", "replace"))
            if self._left_bytes <= 0:
                log.debug("%s: it says more than %d bytes; what follows is not logged", self._name, _TOLD_BYTES)

    def out_of_memory(self) -> bool:
        return speaks_of_memory(self.text())

    def last(self) -> str:
        """The line that tells most, as ``: line``, cut to a readable length; empty when nothing was said."""
        said, fault, _ = self.text().partition(_FAULT)
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(_ASIDE)]
        if not lines and fault:
            return ""  # the signal says as much
        return f": {lines[-1][:_SHOWN]}" if lines else ""

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")
