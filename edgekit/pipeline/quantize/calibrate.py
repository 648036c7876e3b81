"""The ranges that a static scheme quantizes by, and the float file that is quantized by them.

Ranges are learnt in training, found on samples, or read from a file. The float file is equalized where the outputs of
its int8 file are nearer then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgekit.artifact import sha256_model
from edgekit.data.dataset import Dataset, stratified
from edgekit.devices import open_runner
from edgekit.errors import DataError, GateError
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.learned_ranges import Learned, learned_in
from edgekit.pipeline.quantize.samples import CALIBRATION_SAMPLES, calibration_feeds, is_whole
from edgekit.progress import track
from edgekit.quality.integer_selftest import SEED
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.checks import listed, missing_classes
from edgekit.quantization.calibrate.histogram import METHODS, Channels
from edgekit.quantization.calibrate.observe import calibrate, without_range
from edgekit.quantization.calibrate.transfer import transfer
from edgekit.quantization.equalize import Scaled, channels_read, equalize_file
from edgekit.quantization.linear_graph import LinearGraph
from edgekit.quantization.prepared import Prepared, prepare
from edgekit.quantization.schemes import SchemeRequest, scheme
from edgekit.types import Array, Artifact, Feed, Format, Signature

log = logging.getLogger("edgekit")
METHOD = "minmax"
EQUALIZING_SAMPLES = 64
"""Calibration samples on which both int8 files are compared with the float one."""
BETTER = 0.9
"""Largest error with equalizing, as a share of the one without, for it to be used: less is within the noise of so few
samples."""


@dataclass(frozen=True)
class Source:
    """What is quantized.

    Attributes:
        prepared: the float file: the user's, or one that computes the same with its channels scaled.
        ranges: of its tensors, None for schemes without.
        scaled: the sets of channels that were scaled.
        notes: what the user should know.
    """

    prepared: Prepared
    ranges: Calibration | None = None
    scaled: tuple[Scaled, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def artifact(self) -> Artifact:
        """The float file."""
        return self.prepared.artifact


def calibrated(
    parent: Prepared, signature: Signature, fit: Dataset | None, options: QuantizeOptions, folder: Path
) -> Source:
    """The ranges that ``options`` ask for, and what is quantized by them.

    Equalizing is tried for ``int8`` with ranges found on samples: those that were learnt or saved hold for the file as
    it is.

    Args:
        fit: samples to calibrate on.
        folder: where files can be written.

    Raises:
        EdgekitError: the file does not run, or not on these samples.
    """
    if not scheme(options.scheme).calibrated:
        return Source(parent)
    graph, channels = None, dict[str, Channels]()
    if options.scheme == "int8" and fit is not None and options.calibration in (None, *METHODS):
        graph = parent.linear_graph()
        channels = channels_read(graph.scaling_groups())
    ranges = find_ranges(parent, signature, fit, options, channels)
    source = Source(parent, ranges, notes=ranges.notes)
    if graph is None or fit is None or ranges.method not in METHODS:
        return source
    return _equalized(source, graph, channels, signature, fit, options, folder)


def prepared_for(artifact: Artifact, options: QuantizeOptions) -> Prepared:
    """The float file in the form that the options want to quantize."""
    return prepare(
        artifact,
        between_integers=scheme(options.scheme).calibrated,
        integers_only=options.integers_only,
        keeps_state=options.stateful,
    )


def find_ranges(
    source: Prepared,
    signature: Signature,
    fit: Dataset | None,
    options: QuantizeOptions,
    channels: Mapping[str, Channels] = MappingProxyType({}),
) -> Calibration:
    """The ranges the options ask for, saved where they say so; those that the file carries where they say nothing.

    Args:
        fit: samples to calibrate on; of learnt or saved ranges, only for tensors that these do not know.
        channels: tensor -> what its channels are told to, where ranges are found on samples.

    Raises:
        DataError: the saved ranges are those of another network, or do not cover this file and there are no samples.
    """
    artifact, given = source.artifact, options.calibration or METHOD
    feeds = None if fit is None else _feeds(artifact, signature, fit, options)
    learned = learned_in(artifact) if options.calibration is None else None
    if learned is not None:
        found = _completed(learned, source, signature, feeds)
    elif given not in METHODS:
        saved = Calibration.load(Path(given))
        try:
            found = transfer(saved, artifact, feeds, source.content)
        except DataError as error:
            raise DataError(f"{given}: {error}") from error
    else:
        assert fit is not None and feeds is not None
        found = calibrate(
            artifact.path,
            feeds,
            signature,
            method=given,
            data=fit.label,
            format=artifact.format,
            prepared=source.content,
            channels=channels,
        )
        chosen = _chosen(fit, options)
        if is_whole(artifact, chosen, signature):  # how many there are does not show in the shapes of the feeds
            found = replace(found, samples=len(chosen))
        found = replace(found, notes=(*found.notes, *missing_classes(chosen)))
    if options.integers_only and artifact.format is Format.TFLITE:
        found = _with_loops(found, source, signature, fit, options)
    if options.save_calibration is not None:
        with publishing(Path(options.save_calibration)) as temporary:
            found.save(temporary)
    return found


def _with_loops(
    found: Calibration, source: Prepared, signature: Signature, fit: Dataset | None, options: QuantizeOptions
) -> Calibration:
    """Ranges that were learnt, or saved for another target, with those of the loops that layers became.

    Raises:
        DataError: there are no samples.
    """
    missing = without_range(source.content, found.ranges)
    if not missing:
        return found
    artifact = source.artifact
    if fit is None:
        raise DataError(
            f"the ranges that are there know nothing of {len(missing)} tensors of recurrent layers, which --for "
            f"{options.for_} makes loops of ({', '.join(missing[:3])}); give --data to calibrate these"
        )
    feeds = _feeds(artifact, signature, fit, options)
    own = calibrate(artifact.path, feeds, signature, format=artifact.format, prepared=source.content)
    added = {name: own.ranges[name] for name in missing if name in own.ranges}
    note = f"{len(added)} ranges inside of recurrent layers come from {own.samples} samples"
    return replace(found, ranges={**found.ranges, **added}, notes=(*found.notes, note))


def _feeds(artifact: Artifact, signature: Signature, fit: Dataset, options: QuantizeOptions) -> Iterator[Feed]:
    """The calibration samples as the file takes them."""
    chosen = _chosen(fit, options)
    log.info("calibrating on %d samples of %s", len(chosen), chosen.label)
    yield from track(calibration_feeds(artifact, chosen, signature), "calibrating", len(chosen))


def _chosen(fit: Dataset, options: QuantizeOptions) -> Dataset:
    return stratified(fit, options.samples or CALIBRATION_SAMPLES, SEED)


def _completed(learned: Learned, source: Prepared, signature: Signature, feeds: Iterator[Feed] | None) -> Calibration:
    """The ranges that the file carries, and those of its other tensors from the calibration samples.

    Raises:
        DataError: there are such tensors, and no samples.
    """
    log.info("%s", learned.note)
    artifact, found, notes = source.artifact, learned.calibration, [learned.note]
    if learned.missing:
        if feeds is None:
            raise DataError(
                f"{artifact.path} carries learnt ranges, but none for {len(learned.missing)} of its tensors "
                f"({', '.join(learned.missing[:4])}); give --data to calibrate these"
            )
        own = calibrate(artifact.path, feeds, signature, format=artifact.format, prepared=source.content)
        added = {name: own.ranges[name] for name in learned.missing if name in own.ranges}
        found = replace(found, ranges={**found.ranges, **added})
        notes.append(f"{len(added)} ranges that were not learnt come from {own.samples} samples")
    return replace(found, model_sha256=sha256_model(artifact.path), notes=(*found.notes, *notes))


def _equalized(
    plain: Source,
    graph: LinearGraph,
    channels: Mapping[str, Channels],
    signature: Signature,
    fit: Dataset,
    options: QuantizeOptions,
    folder: Path,
) -> Source:
    """``plain``, or the equalized file with ranges of its own, where its int8 file is better on calibration samples."""
    parent = plain.artifact
    some = stratified(fit, min(EQUALIZING_SAMPLES, options.samples or EQUALIZING_SAMPLES), SEED)
    target = folder / f"equalized.{parent.format}"
    try:
        scaled = equalize_file(graph, parent, channels, calibration_feeds(parent, some, signature), target)
    except GateError as error:
        return replace(plain, notes=(*plain.notes, f"not equalized: {error}"))
    if not scaled:
        return plain
    log.info("channels of %d layers have very different peaks; trying to equalize them", len(scaled))
    prepared = prepared_for(Artifact(target, parent.format, parent.card), options)
    ranges = find_ranges(prepared, signature, fit, replace(options, save_calibration=None))
    feeds = tuple(calibration_feeds(parent, some, signature))
    wanted = _outputs(parent, feeds)
    errors = []
    for number, source in enumerate((plain, Source(prepared, ranges))):
        trial = folder / f"trial{number}.{parent.format}"
        request = SchemeRequest(parent, source.ranges, options.integer_io, options.stateful)
        scheme(options.scheme).make(request).run(source.artifact, source.prepared.context(trial))
        errors.append(_distance(_outputs(Artifact(trial, parent.format, parent.card), feeds), wanted))
    change = f"error of the outputs on {len(some)} calibration samples {errors[0]:.2%} -> {errors[1]:.2%}"
    if not errors[1] < BETTER * errors[0]:
        return replace(plain, notes=(*plain.notes, f"equalizing channels was tried and left out: {change}"))
    assert plain.ranges is not None
    layers = plain.ranges.layers
    said = listed([f"{layers.get(one.tensor, one.source)} (peaks {one.spread:.3g}:1)" for one in scaled])
    return Source(prepared, ranges, scaled, (*plain.notes, f"channels equalized behind {said}: {change}"))


def _outputs(artifact: Artifact, feeds: Sequence[Feed]) -> list[Array]:
    with open_runner(artifact.path) as runner:
        return [np.asarray(value, np.float64).reshape(-1) for feed in feeds for value in runner.run(feed).values()]


def _distance(found: list[Array], wanted: list[Array]) -> float:
    """Root mean square of the differences, relative to that of ``wanted``."""
    one, other = np.concatenate(found), np.concatenate(wanted)
    whole = float((other**2).sum())
    return float(np.sqrt(((one - other) ** 2).sum() / whole)) if whole > 0 else 0.0
