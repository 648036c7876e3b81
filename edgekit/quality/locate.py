"""Which layer of a file departs first: both sides are traced on one input and their values compared.

A trace that cannot be made (an operator that only runs delegated, memory) names no layer: the proof has failed
already, and that is the error the user gets.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import open_artifact
from edgekit.quality.divergence import describe, first_divergence
from edgekit.quality.trace import Trace, module_names, trace_file, trace_module
from edgekit.source.foreign import foreign_file
from edgekit.types import Array, Artifact, Feed, Format

if TYPE_CHECKING:
    from edgekit.converters.base import Capture

log = logging.getLogger("edgekit")
_STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
"""Shares of a value's magnitude below which numbers count as equal, tried from coarse (a fault that cannot be missed)
to fine (one that rounding may hide)."""


def locate(capture: Capture, path: Path, feed: Feed, renamed: Mapping[str, str] | None = None) -> str | None:
    """The first layer of the file at ``path`` whose values the module never has; None when none can be named.

    Args:
        feed: by the capture's input names, in the file's layout.
        renamed: capture's input name -> the file's, where they differ.
    """
    file = foreign_file(capture.module)
    if file is not None:
        return locate_between(file, _turned(capture, feed), open_artifact(path), feed)
    try:
        reference = trace_module(capture.module, feed, capture.signature)
        format_ = open_artifact(path).format
        names = module_names(capture.program) if format_ is Format.TFLITE else None
        trace = trace_file(path, format_, {(renamed or {}).get(k, k): v for k, v in feed.items()}, names)
    except Exception as error:
        log.debug("no trace of %s: %s: %s", path, type(error).__name__, error)
        return None
    prefix = capture.prefix if format_ is Format.TFLITE else ""  # ONNX files have the user's own names
    return _search([*reference.values.values(), *feed.values()], trace, prefix)


def _turned(capture: Capture, feed: Feed) -> Feed:
    """``feed`` in the layout of the network."""
    inputs = zip(capture.signature.inputs, capture.flipped, strict=True)
    return {spec.name: feed[spec.name].transpose(0, 3, 1, 2) if flip else feed[spec.name] for spec, flip in inputs}


def locate_between(reference: Artifact, their_feed: Feed, model: Artifact, feed: Feed) -> str | None:
    """The first layer of ``model`` whose values ``reference``, another file, never has on the same input."""
    try:
        known = trace_file(reference.path, reference.format, their_feed)
        trace = trace_file(model.path, model.format, feed)
    except Exception as error:
        log.debug("no trace of %s: %s: %s", model.path, type(error).__name__, error)
        return None
    return None if known is None else _search([*known.values.values(), *their_feed.values()], trace, "")


def _search(known: Iterable[Array], trace: Trace | None, prefix: str) -> str | None:
    if trace is None:
        return None
    values = list(known)
    for match in _STEPS:
        found = first_divergence(values, trace, match)
        if found is not None:
            return describe(found, prefix)
    return None
