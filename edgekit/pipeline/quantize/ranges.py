"""The ranges that a static scheme quantizes by: found on the calibration samples, or read from a file."""

from __future__ import annotations

import logging
from pathlib import Path

from edgekit.artifact import publishing, sha256_file
from edgekit.data.dataset import Dataset, stratified
from edgekit.errors import DataError
from edgekit.passes.calibration import METHODS, Calibration
from edgekit.passes.observe import calibrate
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
    if given not in METHODS:
        found = Calibration.load(Path(given))
        if found.model_sha256 != sha256_file(artifact.path):
            raise DataError(f"{given} was made from another file than {artifact.path}; calibrate this one with --data")
    else:
        assert fit is not None
        chosen = stratified(fit, options.samples or SAMPLES, SEED)
        log.info("calibrating on %d samples of %s", len(chosen), chosen.label)
        found = calibrate(
            artifact.path,
            calibration_feeds(artifact, chosen, signature),
            signature,
            method=given,
            data=chosen.label,
            format=artifact.format,
        )
    if options.save_calibration is not None:
        with publishing(options.save_calibration) as temporary:
            found.save(temporary)
    return found
