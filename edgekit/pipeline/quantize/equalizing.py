"""Whether a file is equalized before it is quantized: it is when the outputs of its int8 file are nearer then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.data.dataset import Dataset, stratified
from edgekit.errors import GateError
from edgekit.options.quantize import QuantizeOptions
from edgekit.passes import Pass, PassContext
from edgekit.pipeline.quantize.ranges import find_ranges
from edgekit.pipeline.quantize.samples import calibration_feeds
from edgekit.quality.integer_selftest import SEED
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.quantization.equalize import Equalize, Scaled
from edgekit.types import Array, Artifact, Feed, Signature

log = logging.getLogger("edgekit")
EQUALIZING_SAMPLES = 64
"""Calibration samples on which channels are observed, and both int8 files are compared with the float one."""
BETTER = 0.9
"""Largest error with equalizing, as a share of the one without, for it to be used: less is within the noise of so few
samples."""


@dataclass(frozen=True)
class Equalized:
    """The float file that is quantized: the user's, or one that computes the same.

    Attributes:
        artifact: that file.
        ranges: of its tensors.
        scaled: the sets of channels that were scaled.
        notes: what the user should know.
    """

    artifact: Artifact
    ranges: Calibration
    scaled: tuple[Scaled, ...] = ()
    notes: tuple[str, ...] = ()


def equalized(
    given: Equalized,
    signature: Signature,
    fit: Dataset | None,
    options: QuantizeOptions,
    quantizer: Callable[[Calibration], Pass],
    folder: Path,
) -> Equalized:
    """``given``, or the equalized file with ranges of its own, where its int8 file is better on calibration samples.

    Only for ``int8`` with ranges found on samples: those that were learnt or saved hold for the file as it is.

    Args:
        quantizer: ranges -> the pass that quantizes by them.
        folder: where files can be written.
    """
    found_here = options.calibration in (None, *METHODS) and given.ranges.method in METHODS
    if options.scheme != "int8" or fit is None or not found_here:
        return given
    parent = given.artifact
    some = stratified(fit, min(EQUALIZING_SAMPLES, options.samples or EQUALIZING_SAMPLES), SEED)
    feeds = tuple(calibration_feeds(parent, some, signature))
    equalizer, target = Equalize(feeds), folder / f"equalized.{parent.format}"
    try:
        made = equalizer.run(parent, PassContext(target)).model
    except GateError as error:
        return replace(given, notes=(f"not equalized: {error}",))
    scaled = tuple(equalizer.scaled)
    if not scaled:
        return given
    assert isinstance(made, Artifact)
    log.info("channels of %d layers have very different peaks; trying to equalize them", len(scaled))
    ranges = find_ranges(made, signature, fit, replace(options, save_calibration=None))
    wanted = _outputs(parent, feeds)
    errors = []
    for number, (source, own) in enumerate(((parent, given.ranges), (made, ranges))):
        trial = folder / f"trial{number}.{parent.format}"
        quantizer(own).run(source, PassContext(trial))
        errors.append(_distance(_outputs(Artifact(trial, parent.format, parent.card), feeds), wanted))
    change = f"error of the outputs on {len(some)} calibration samples {errors[0]:.2%} -> {errors[1]:.2%}"
    if not errors[1] < BETTER * errors[0]:
        return replace(given, notes=(f"equalizing channels was tried and left out: {change}",))
    layers = given.ranges.layers
    said = listed([f"{layers.get(one.tensor, one.source)} (peaks {one.spread:.3g}:1)" for one in scaled])
    return Equalized(made, ranges, scaled, (f"channels equalized behind {said}: {change}",))


def _outputs(artifact: Artifact, feeds: Sequence[Feed]) -> list[Array]:
    from edgekit.devices import open_runner

    with open_runner(artifact.path) as runner:
        return [np.asarray(value, np.float64).reshape(-1) for feed in feeds for value in runner.run(feed).values()]


def _distance(found: list[Array], wanted: list[Array]) -> float:
    """Root mean square of the differences, relative to that of ``wanted``."""
    one, other = np.concatenate(found), np.concatenate(wanted)
    whole = float((other**2).sum())
    return float(np.sqrt(((one - other) ** 2).sum() / whole)) if whole > 0 else 0.0
