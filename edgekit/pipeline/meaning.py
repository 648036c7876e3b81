"""What the inputs and outputs of an exported network mean: as its user, its data and its app say."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from edgekit.iospec import given_iospec
from edgekit.options.export import ExportOptions
from edgekit.pipeline.real_inputs import RealInputs
from edgekit.types import Card, Network

log = logging.getLogger("edgekit")


def told(network: Network, io_file: str | Path | None, task: str | None) -> Network:
    """``network`` as an ``io.toml`` and ``--task``, which stands above it, say that its inputs and outputs are.

    Raises:
        DataError: the file cannot be read.
        UsageError: what is said does not fit the network.
        UnsupportedError: what is said leaves open how boxes are read.
    """
    said = given_iospec(io_file, (), (), None, task, None)
    if not said:
        return network
    network = replace(network, card=said.applied(network.card))
    _check_answers(network.card)
    return network


def as_said(network: Network, options: ExportOptions, real: RealInputs) -> tuple[Network, bool]:
    """``network`` as the user and the data say that its inputs and outputs are, and as the app wants it; whether pixels
    are raw.

    Raises:
        DataError, UsageError: what is said cannot be read, or does not fit the network.
        UnsupportedError: what is said leaves open how boxes are read.
    """
    o = options
    said = given_iospec(o.io_file, o.mean, o.std, o.labels, o.task, o.layout)
    network = replace(network, card=real.described(said.applied(network.card)))
    _check_answers(network.card)
    _note_several_samples(network.card)
    if not (options.raw_pixels or options.mediapipe):
        return network, False
    from edgekit.converters.mediapipe import needs_raw_pixels, with_centred_boxes
    from edgekit.converters.pixels import with_raw_pixels
    from edgekit.source.foreign import require_torch

    require_torch(network, "rewrite the inputs and outputs of")
    raw = (options.mediapipe and needs_raw_pixels(network)) or options.raw_pixels
    network = with_centred_boxes(network) if options.mediapipe else network
    return (with_raw_pixels(network, rgb=options.mediapipe) if raw else network), raw


def _check_answers(card: Card) -> None:
    """Refuses a detector whose boxes nobody could read: better now than when the file is measured."""
    if card.task.kind == "detection" and card.task.labels:
        from edgekit.quality.detections import DetectionReader

        DetectionReader.of(card.signature, card)


def _note_several_samples(card: Card) -> None:
    """Says that the file takes several samples a run, as the examples have, where an app will have one."""
    for spec in card.signature.inputs:
        rule, count = card.contract.get(spec.name), spec.shape[0] if spec.shape else 1
        if rule is not None and rule.kind != "array" and isinstance(count, int) and count > 1:
            one = "x".join(map(str, (1, *spec.shape[1:])))
            log.info(
                "%s holds %d samples, as in the examples, and so does a run of the file; --shape %s=%s makes it one",
                spec.name, count, spec.name, one,
            )  # fmt: skip
