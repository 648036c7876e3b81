"""Which module of a network a file departs from first: both are traced on one input and their values compared."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import open_artifact
from edgekit.quality.divergence import describe, first_divergence
from edgekit.quality.trace import module_names, trace_file, trace_module
from edgekit.types import Feed, Format

if TYPE_CHECKING:
    from edgekit.converters.base import Capture

log = logging.getLogger("edgekit")
_STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
"""Shares of a value's magnitude below which numbers count as equal, tried from coarse (a fault that cannot be missed)
to fine (one that rounding may hide)."""


def locate(capture: Capture, path: Path, feed: Feed) -> str | None:
    """The first layer of the file at ``path`` whose values the module never has; None when none can be named.

    A file whose trace cannot be made (an operator that only runs delegated, memory) is not located: the proof has
    failed already, and that is the error the user gets.
    """
    try:
        reference = trace_module(capture.module, feed, capture.signature)
        format_ = open_artifact(path).format
        names = module_names(capture.program) if format_ is Format.TFLITE else None
        trace = trace_file(path, format_, feed, names)
    except Exception as error:
        log.debug("no trace of %s: %s: %s", path, type(error).__name__, error)
        return None
    if trace is None:
        return None
    known = [*reference.values.values(), *feed.values()]
    for match in _STEPS:
        found = first_divergence(known, trace, match)
        if found is not None:
            return describe(found, capture.prefix)
    return None
