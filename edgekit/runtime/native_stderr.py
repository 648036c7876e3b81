"""Native code's lines on standard error: captured, and kept off the terminal where they only inform."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from edgekit.escapes import visible

log = logging.getLogger("edgekit")
_INFORMATION = (
    b"INFO: ", b"WARNING: [npu_registry", b"WARNING: [gpu_registry",
    b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()",
)  # fmt: skip
"""LiteRT 2 also warns that there is no NPU and no GPU, which nobody asked for; the last two are TensorFlow's."""


@contextmanager
def capture_stderr() -> Iterator[list[bytes]]:
    """The lines that are written to descriptor 2 meanwhile: in the list once it is over, and nowhere else.

    Native code writes there itself and offers Python no switch. Where there is no descriptor 2, nothing is done.
    """
    lines: list[bytes] = []
    try:
        terminal = os.dup(2)
    except OSError:
        yield lines
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with _scratch() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            lines.extend(kept)


@contextmanager
def filter_stderr() -> Iterator[None]:
    """While a model is being opened, TensorFlow Lite's lines that only inform are logged; the others are passed on."""
    said: list[bytes] = []
    try:
        with capture_stderr() as said:
            yield
    finally:
        for line in said:
            if line.startswith(_INFORMATION):
                log.debug("%s", line.decode("utf-8", "replace").rstrip())
            else:
                os.write(2, visible(line.decode("utf-8", "replace")).encode())


def _scratch() -> IO[bytes]:
    """A file without a name; in memory where the system has that, since this is part of a measured time."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgekit-noise"), "w+b")
    return tempfile.TemporaryFile()
