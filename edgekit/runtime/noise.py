"""Keeps TensorFlow Lite's information lines off the terminal: they go to the DEBUG log."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

log = logging.getLogger("edgekit")
_INFORMATION = (
    b"INFO: ", b"WARNING: [npu_registry", b"WARNING: [gpu_registry",
    b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()",
)  # fmt: skip
"""LiteRT 2 also warns that there is no NPU and no GPU, which nobody asked for; the last two are TensorFlow's."""


@contextmanager
def quiet() -> Iterator[None]:
    """While a model is being opened, native code's lines that only inform are logged; the others are passed on.

    Native code writes to descriptor 2 itself and offers Python no switch. Where there is no descriptor 2, nothing
    is done.
    """
    try:
        terminal = os.dup(2)
    except OSError:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with _scratch() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            for line in kept:
                if line.startswith(_INFORMATION):
                    log.debug("%s", line.decode("utf-8", "replace").rstrip())
                else:
                    os.write(2, line)


def _scratch() -> IO[bytes]:
    """A file without a name; in memory where the system has that, since this is part of a measured time."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgekit-noise"), "w+b")
    return tempfile.TemporaryFile()
