"""The ranges that a static scheme quantizes by: found on the calibration samples, or read from a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from edgekit.artifact import publishing
from edgekit.data.dataset import Dataset, stratified
from edgekit.errors import DataError
from edgekit.passes.calibration import Calibration
from edgekit.passes.histogram import METHODS
from edgekit.passes.observe import calibrate
from edgekit.passes.transfer import transfer
from edgekit.pipeline.quantize.options import QuantizeOptions
from edgekit.pipeline.quantize.samples import calibration_feeds
from edgekit.quality.integer_selftest import SEED
from edgekit.types import Artifact, Feed, Signature

log = logging.getLogger("edgekit")
SAMPLES = 300
"""Calibration samples where the user does not say; docs/quantization.md has what more of them changed."""
METHOD = "minmax"


def find_ranges(artifact: Artifact, signature: Signature, fit: Dataset | None, options: QuantizeOptions) -> Calibration:
    """The ranges the options ask for, saved where they say so.

    Args:
        fit: samples to calibrate on; where ``--calibration`` names a file, only for tensors that it does not know.

    Raises:
        DataError: the saved ranges are those of another network, or do not cover this file and there are no samples.
    """
    given = options.calibration or METHOD
    if given not in METHODS:
        feeds = None if fit is None else _feeds(artifact, signature, fit, options)
        try:
            found = transfer(Calibration.load(Path(given)), artifact, feeds)
        except DataError as error:
            raise DataError(f"{given}: {error}") from error
    else:
        assert fit is not None
        feeds = _feeds(artifact, signature, fit, options)
        found = calibrate(artifact.path, feeds, signature, method=given, data=fit.label, format=artifact.format)
    if options.save_calibration is not None:
        with publishing(options.save_calibration) as temporary:
            found.save(temporary)
    return found


def _feeds(artifact: Artifact, signature: Signature, fit: Dataset, options: QuantizeOptions) -> Iterator[Feed]:
    """The calibration samples as the file takes them."""
    chosen = stratified(fit, options.samples or SAMPLES, SEED)
    log.info("calibrating on %d samples of %s", len(chosen), chosen.label)
    yield from calibration_feeds(artifact, chosen, signature)
