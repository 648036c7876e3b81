"""The ranges that a static scheme quantizes by: found on the calibration samples, or read from a file."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import publishing, sha256_file
from edgekit.data.dataset import Dataset, stratified
from edgekit.errors import DataError
from edgekit.passes.calibration import METHODS, Calibration
from edgekit.passes.observe import calibrate
from edgekit.pipeline.learned_ranges import Learned, learned_in
from edgekit.pipeline.quantize.options import QuantizeOptions
from edgekit.pipeline.quantize.samples import calibration_feeds
from edgekit.quality.integer_selftest import SEED
from edgekit.types import Artifact, Signature

log = logging.getLogger("edgekit")
SAMPLES = 300
"""Calibration samples where the user does not say; docs/quantization.md has what more of them changed."""
METHOD = "minmax"


def find_ranges(artifact: Artifact, signature: Signature, fit: Dataset | None, options: QuantizeOptions) -> Calibration:
    """The ranges the options ask for, saved where they say so.

    Args:
        fit: samples to calibrate on; not needed where ``--calibration`` names a file.

    Raises:
        DataError: the saved ranges are those of another file.
    """
    given = options.calibration or METHOD
    learned = learned_in(artifact) if options.calibration is None else None
    if learned is not None:
        found = _with_missing(learned, artifact, signature, fit, options)
    elif given not in METHODS:
        found = Calibration.load(Path(given))
        if found.model_sha256 != sha256_file(artifact.path):
            raise DataError(f"{given} was made from another file than {artifact.path}; calibrate this one with --data")
    else:
        assert fit is not None
        found = _calibrated(artifact, signature, fit, options.samples or SAMPLES, given)
    if options.save_calibration is not None:
        with publishing(options.save_calibration) as temporary:
            found.save(temporary)
    return found


def _calibrated(artifact: Artifact, signature: Signature, fit: Dataset, samples: int, method: str) -> Calibration:
    chosen = stratified(fit, samples, SEED)
    log.info("calibrating on %d samples of %s", len(chosen), chosen.label)
    return calibrate(
        artifact.path,
        calibration_feeds(artifact, chosen, signature),
        signature,
        method=method,
        data=chosen.label,
        format=artifact.format,
    )


def _with_missing(
    learned: Learned, artifact: Artifact, signature: Signature, fit: Dataset | None, options: QuantizeOptions
) -> Calibration:
    """The ranges that the file carries, and those of its other tensors from the calibration samples.

    Raises:
        DataError: there are such tensors, and no samples.
    """
    log.info("%s", learned.note)
    found, notes = learned.calibration, [learned.note]
    if learned.missing:
        if fit is None:
            raise DataError(
                f"{artifact.path} carries learnt ranges, but none for {len(learned.missing)} of its tensors "
                f"({', '.join(learned.missing[:4])}); give --data to calibrate these"
            )
        own = _calibrated(artifact, signature, fit, options.samples or SAMPLES, METHOD)
        added = {name: own.ranges[name] for name in learned.missing if name in own.ranges}
        found = replace(found, ranges={**found.ranges, **added})
        notes.append(f"{len(added)} ranges that were not learnt come from {own.samples} samples of {own.data}")
    return replace(found, model_sha256=sha256_file(artifact.path), notes=(*found.notes, *notes))
