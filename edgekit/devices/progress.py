"""A line for the user while a large file is on its way to a device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgekit.progress import task, watched

log = logging.getLogger("edgekit")
TOLD_FROM_BYTES = 4 << 20
"""Smaller files are there before anybody could read the line."""


@contextmanager
def sending(name: str, size: int, device: str) -> Iterator[Callable[[int], None]]:
    """Gives ``note(bytes so far)``, which says every tenth of the way at most."""
    told = -1
    if watched() and size >= TOLD_FROM_BYTES:
        with task(f"sending {name} to {device}", size) as going:
            yield going.update
        return

    def note(done: int) -> None:
        nonlocal told
        tenth = 10 * done // size if size >= TOLD_FROM_BYTES else -1
        if tenth > told:
            told = tenth
            log.info("%s to %s: %d%% of %.1f MB", name, device, 10 * tenth, size / 1e6)

    yield note
