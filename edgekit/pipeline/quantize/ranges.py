"""The ranges that a static scheme quantizes by: learnt in training, found on samples, or read from a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import sha256_model
from edgekit.data.dataset import Dataset, stratified
from edgekit.errors import DataError
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.learned_ranges import Learned, learned_in
from edgekit.pipeline.quantize.samples import CALIBRATION_SAMPLES, calibration_feeds, is_whole
from edgekit.quality.integer_selftest import SEED
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.checks import missing_classes
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.calibrate.transfer import transfer
from edgekit.types import Artifact, Feed, Signature

log = logging.getLogger("edgekit")
METHOD = "minmax"


def find_ranges(artifact: Artifact, signature: Signature, fit: Dataset | None, options: QuantizeOptions) -> Calibration:
    """The ranges the options ask for, saved where they say so; those that the file carries where they say nothing.

    Args:
        fit: samples to calibrate on; of learnt or saved ranges, only for tensors that these do not know.

    Raises:
        DataError: the saved ranges are those of another network, or do not cover this file and there are no samples.
    """
    given = options.calibration or METHOD
    feeds = None if fit is None else _feeds(artifact, signature, fit, options)
    learned = learned_in(artifact) if options.calibration is None else None
    if learned is not None:
        found = _completed(learned, artifact, signature, feeds)
    elif given not in METHODS:
        saved = Calibration.load(Path(given))
        try:
            found = transfer(saved, artifact, feeds)
        except DataError as error:
            raise DataError(f"{given}: {error}") from error
    else:
        assert fit is not None and feeds is not None
        found = calibrate(artifact.path, feeds, signature, method=given, data=fit.label, format=artifact.format)
        chosen = _chosen(fit, options)
        if is_whole(artifact, chosen, signature):  # how many there are does not show in the shapes of the feeds
            found = replace(found, samples=len(chosen))
        found = replace(found, notes=(*found.notes, *missing_classes(chosen)))
    if options.save_calibration is not None:
        with publishing(Path(options.save_calibration)) as temporary:
            found.save(temporary)
    return found


def _feeds(artifact: Artifact, signature: Signature, fit: Dataset, options: QuantizeOptions) -> Iterator[Feed]:
    """The calibration samples as the file takes them."""
    chosen = _chosen(fit, options)
    log.info("calibrating on %d samples of %s", len(chosen), chosen.label)
    yield from calibration_feeds(artifact, chosen, signature)


def _completed(learned: Learned, artifact: Artifact, signature: Signature, feeds: Iterator[Feed] | None) -> Calibration:
    """The ranges that the file carries, and those of its other tensors from the calibration samples.

    Raises:
        DataError: there are such tensors, and no samples.
    """
    log.info("%s", learned.note)
    found, notes = learned.calibration, [learned.note]
    if learned.missing:
        if feeds is None:
            raise DataError(
                f"{artifact.path} carries learnt ranges, but none for {len(learned.missing)} of its tensors "
                f"({', '.join(learned.missing[:4])}); give --data to calibrate these"
            )
        own = calibrate(artifact.path, feeds, signature, method=METHOD, data="", format=artifact.format)
        added = {name: own.ranges[name] for name in learned.missing if name in own.ranges}
        found = replace(found, ranges={**found.ranges, **added})
        notes.append(f"{len(added)} ranges that were not learnt come from {own.samples} samples")
    return replace(found, model_sha256=sha256_model(artifact.path), notes=(*found.notes, *notes))


def _chosen(fit: Dataset, options: QuantizeOptions) -> Dataset:
    return stratified(fit, options.samples or CALIBRATION_SAMPLES, SEED)
