"""One quantization: measured, calibrated, quantized, proved, measured again, gated, published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import open_artifact, sha256_file, sha256_model, size_bytes, write_card
from edgekit.data.arrays import save_npz
from edgekit.data.dataset import Dataset
from edgekit.devices import kept_workers
from edgekit.errors import UsageError
from edgekit.leftovers import scratch_folder
from edgekit.options.base import with_options
from edgekit.options.quantize import AUTO, QuantizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.quantize.checks import check_options, of_one_scheme, one_model
from edgekit.pipeline.quantize.floor import check_floor
from edgekit.pipeline.quantize.gates import check_drop, check_gain, check_growth, check_time
from edgekit.pipeline.quantize.make import QuantizedFile, Work, float_reasons, prepare, quantizer_of
from edgekit.pipeline.quantize.mixed import given_plan, mixed, whole
from edgekit.pipeline.quantize.plan import reasons, save_plan
from edgekit.pipeline.quantize.samples import DividedSamples, divided, held_feeds, samples_of
from edgekit.pipeline.quantize.timing import time_ratio
from edgekit.quality.coverage import coverage
from edgekit.quality.lengths import length_errors
from edgekit.quality.paired import quality_change
from edgekit.results.base import PublishedFile, to_json
from edgekit.results.compressed import FidelityFigures, Parent, TimeRatio
from edgekit.results.quantize import LeftReason, MixedPlan, ParentFile, QuantizePlan, QuantizeResult
from edgekit.types import Artifact


def quantize_one(options: QuantizeOptions) -> QuantizeResult:
    """Quantizes a float ``.onnx`` or ``.tflite`` file by one scheme; see :func:`edgekit.quantize`."""
    options = of_one_scheme(options)
    artifact = open_artifact(one_model(options))
    target = Path(options.out)
    check_options(artifact, target, options)
    return _quantized(artifact, target, options, samples_of(options.data, options.samples))


@with_options(QuantizeOptions)
def plan_mixed(options: QuantizeOptions) -> MixedPlan:
    """The plan of mixed precision that :func:`quantize_one` with ``mixed`` would apply, written to ``out`` (.json).

    No model is written.

    Raises:
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    options = of_one_scheme(options)
    artifact = open_artifact(one_model(options))
    target = Path(options.out)
    check_options(artifact, target, options, suffix=".json")
    with kept_workers(), scratch_folder() as folder:
        work = prepare(artifact, options, samples_of(options.data, options.samples), folder)
        plan, _, _ = mixed(work, folder / f"mixed.{artifact.format}", None)
        assert plan is not None
    save_plan(plan, target)
    return plan


@with_options(QuantizeOptions)
def plan_quantize(options: QuantizeOptions) -> QuantizePlan:
    """What :func:`quantize_one` would do with the same arguments: ranges are found and kernels weighed, nothing is
    written.

    Raises:
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work.
    """
    if options.scheme == AUTO:
        raise UsageError("--scheme auto finds its plan by making and timing files; --dry-run needs one scheme")
    options = of_one_scheme(options)
    artifact = open_artifact(one_model(options))
    check_options(artifact, Path(options.out), options)
    plan = given_plan(artifact, options)
    with kept_workers(), scratch_folder() as folder:
        work = prepare(artifact, options, samples_of(options.data, options.samples), folder)
        keep = frozenset() if plan is None else frozenset(plan.keep)
        why = {**float_reasons(work), **work.kernels.reasons(), **({} if plan is None else reasons(plan))}
        return QuantizePlan(
            model=artifact.path,
            step=quantizer_of(work, keep).describe(artifact),
            kernels=work.kernels.rows(),
            left_float=tuple(LeftReason(name, reason) for name, reason in why.items()),
            notes=work.notes,
        )


def quantize_on(
    artifact: Artifact, target: Path, options: QuantizeOptions, fit: Dataset, test: Dataset | None = None
) -> QuantizeResult:
    """Like :func:`quantize_one` on samples of the caller: ``fit`` for the ranges, ``test`` to measure on.

    The caller measures the loss of quality where the file will run, so that the scheme's own floor is only a note.
    """
    check_options(artifact, target, options)
    return _quantized(artifact, target, options, divided(fit, test, options.samples), by_labels=True)


def _quantized(
    artifact: Artifact, target: Path, options: QuantizeOptions, samples: DividedSamples, *, by_labels: bool = False
) -> QuantizeResult:
    """Each stage hands on what it found; the file is published when all of them passed."""
    plan = given_plan(artifact, options)
    suffix = f".{artifact.format}"
    with kept_workers(), scratch_folder() as folder, publishing(target, suffix) as temporary:
        work = prepare(artifact, options, samples, folder)
        plan, made, proof = whole(work, temporary) if options.keep is None else mixed(work, temporary, plan)
        check_growth(options, artifact, temporary)
        check_drop(options, work.before.quality, made.after.quality)
        binding = options.min_snr is not None or not (by_labels or options.max_drop is not None)
        made = made.with_notes(check_floor(work, proof, plan, binding=binding))
        time = _time(work, made)
        against = _against(work, made, proof.figures(binding=binding), time)
        made = replace(made, notes=(*made.notes, *check_time(options, time)))
        made = replace(made, card=replace(made.card, parent=to_json(against)))
        write_card(temporary, made.card)
        check_growth(options, artifact, temporary)  # the card itself takes a few bytes
        made = replace(made, notes=(*made.notes, *check_gain(options, artifact, temporary, time)))
        size, digest = temporary.stat().st_size, sha256_file(temporary)  # the target may be a pipe
    return _result(work, made, PublishedFile(target, artifact.format, made.card, size, digest), against, plan)


def _result(
    work: Work, made: QuantizedFile, file: PublishedFile, against: Parent, plan: MixedPlan | None
) -> QuantizeResult:
    before, after = work.before, made.after
    return QuantizeResult(
        artifact=file,
        parent=ParentFile(path=work.parent.path, sha256=against.sha256, bytes=against.bytes),
        step=made.step,
        length_errors=length_errors(before.probes, before.by_length, after.by_length),
        account=made.account,
        mixed=plan,
        kernels=work.kernels.rows(),
        notes=(*work.notes, *made.notes),
        against=against,
        before=before.quality,
        after=after.quality,
    )


def _against(work: Work, made: QuantizedFile, fidelity: FidelityFigures, time: TimeRatio | None) -> Parent:
    """How the file compares with its parent: what the card says of both."""
    parent = work.parent
    before, after = work.before.quality, made.after.quality
    return Parent(
        sha256=sha256_model(parent.path),
        bytes=size_bytes(parent.path),
        inserted=made.account.inserted(coverage(parent)),
        quality=None if before is None or after is None else quality_change(before, after),
        fidelity=fidelity,
        time=time,
    )


def _time(work: Work, made: QuantizedFile) -> TimeRatio | None:
    """How long the file takes relative to its parent, on a sample of the calibration data where there is any."""
    options = work.options
    if not options.seconds or options.for_ != "cpu":
        return None
    with _sample(work) as sample:
        return time_ratio(
            made.path,
            work.parent.path,
            options.seconds,
            options.device,
            shape=options.shape,
            input=str(options.input) if options.input else sample,
        )


@contextmanager
def _sample(work: Work) -> Iterator[str | None]:
    """A file with a sample that did not calibrate; None where the user gives sizes or an input, or there is no data."""
    options = work.options
    if options.shape or options.input is not None or work.samples.held is None:
        yield None
        return
    feed = next(iter(held_feeds(work.parent, work.samples, work.before.signature)))
    with scratch_folder() as folder:
        path = folder / "sample.npz"
        save_npz(path, feed)
        yield str(path)
