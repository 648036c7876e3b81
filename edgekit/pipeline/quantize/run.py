"""One quantization, stage by stage: each takes what those before it gave, and changes nothing of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import open_artifact, sha256_file, sha256_model, size_bytes, write_card
from edgekit.devices import kept_workers
from edgekit.errors import UsageError
from edgekit.leftovers import scratch_folder
from edgekit.options.base import with_options
from edgekit.options.quantize import AUTO, QuantizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.quantize.calibrate import calibrated, prepared_for
from edgekit.pipeline.quantize.checks import check_layers, check_options, of_one_scheme, one_model
from edgekit.pipeline.quantize.gates import (
    check_drop,
    check_floor,
    check_gain,
    check_growth,
    check_integers,
    check_time,
)
from edgekit.pipeline.quantize.kernels import weigh
from edgekit.pipeline.quantize.make import QuantizedFile, Work
from edgekit.pipeline.quantize.measure import measure
from edgekit.pipeline.quantize.micro import check_target, prove_on_microcontroller
from edgekit.pipeline.quantize.mixed import given_plan, mixed, reasons, save_plan, whole
from edgekit.pipeline.quantize.samples import DividedSamples, samples_of
from edgekit.pipeline.quantize.timing import timed
from edgekit.progress import task
from edgekit.quality.contents import with_iospec
from edgekit.quality.coverage import coverage
from edgekit.quality.lengths import length_errors
from edgekit.quality.paired import quality_change
from edgekit.quantization.prepared import Prepared
from edgekit.results.base import PublishedFile, to_json
from edgekit.results.compressed import FidelityFigures, Parent, TimeRatio
from edgekit.results.quantize import LeftReason, MixedPlan, ParentFile, QuantizePlan, QuantizeResult
from edgekit.types import Artifact

log = logging.getLogger("edgekit")


def quantize_one(options: QuantizeOptions) -> QuantizeResult:
    """Quantizes a float ``.onnx`` or ``.tflite`` file by one scheme; see :func:`edgekit.quantize`."""
    artifact, options = _checked(options)
    return _quantized(artifact, Path(options.out), options, samples_of(options.data, options.samples))


@with_options(QuantizeOptions)
def plan_mixed(options: QuantizeOptions) -> MixedPlan:
    """The plan of mixed precision that :func:`quantize_one` with ``mixed`` would apply, written to ``out`` (.json).

    No model is written.

    Raises:
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    artifact, options = _checked(options, suffix=".json")
    with kept_workers(), scratch_folder() as folder:
        work = _ready(
            prepared_for(artifact, options),
            options,
            samples_of(options.data, options.samples),
            folder,
        )
        plan, _, _ = mixed(work, folder / f"mixed.{artifact.format}", None)
        assert plan is not None
    save_plan(plan, Path(options.out))
    return plan


@with_options(QuantizeOptions)
def plan_quantize(options: QuantizeOptions) -> QuantizePlan:
    """What :func:`quantize_one` would do with the same arguments: ranges are found, kernels are weighed, and the file
    is quantized, but not proved, and not written.

    Raises:
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work.
    """
    if options.scheme == AUTO:
        raise UsageError("--scheme auto finds its plan by making and timing files; --dry-run needs one scheme")
    artifact, options = _checked(options)
    with kept_workers(), scratch_folder() as folder:
        parent = prepared_for(artifact, options)
        plan = given_plan(parent, options)
        work = _ready(parent, options, samples_of(options.data, options.samples), folder)
        quantizer = work.quantizer(() if plan is None else plan.keep)
        trial = work.source.prepared.context(folder / f"trial.{artifact.format}")
        left = quantizer.run(work.source.artifact, trial).left_in_float
        why = {**left, **work.kernels.reasons(), **({} if plan is None else reasons(plan))}
        return QuantizePlan(
            model=artifact.path,
            step=quantizer.describe(artifact),
            kernels=work.kernels.rows(),
            left_float=tuple(LeftReason(name, reason) for name, reason in why.items()),
            notes=work.notes,
        )


def _checked(options: QuantizeOptions, suffix: str | None = None) -> tuple[Artifact, QuantizeOptions]:
    """The float file, and the options of one scheme, of which all that can be is refused before any work."""
    options = of_one_scheme(options)
    artifact = with_iospec(open_artifact(one_model(options)), options.io_file)
    check_options(artifact, Path(options.out), options, suffix)
    check_target(artifact, options)
    return artifact, options


def _ready(parent: Prepared, options: QuantizeOptions, samples: DividedSamples, folder: Path) -> Work:
    """All that stands before a file is quantized: what its parent gives, its ranges, the kernels of the target."""
    artifact = parent.artifact
    check_layers(parent, options)
    log.info("measuring %s%s", artifact.path.name, f" on {samples.test.label}" if samples.test is not None else "")
    before = measure(artifact, artifact.card, samples.test, options.limit, metric=options.metric)
    source = calibrated(parent, before.signature, samples.fit, options, folder)
    kernels = weigh(source, artifact, before.signature, options)
    return Work(artifact, options, samples, before, source, kernels)


def _quantized(artifact: Artifact, target: Path, options: QuantizeOptions, samples: DividedSamples) -> QuantizeResult:
    """The order of the stages: prepare, measure the parent, calibrate, weigh kernels, quantize, prove, judge, time,
    publish."""
    with (
        task(f"quantizing {artifact.path.name} to {options.scheme}"),
        kept_workers(),
        scratch_folder() as folder,
        publishing(target, f".{artifact.format}") as temporary,
    ):
        parent = prepared_for(artifact, options)
        plan = given_plan(parent, options)
        work = _ready(parent, options, samples, folder)
        plan, made, proof = whole(work, temporary) if options.keep is None else mixed(work, temporary, plan)
        check_integers(options, made)
        check_growth(options, artifact, temporary)
        check_drop(options, work.before.quality, made.after.quality)
        binding = options.min_snr is not None or options.max_drop is None
        below_floor = check_floor(work, proof, plan, binding=binding)
        micro = prove_on_microcontroller(work, made)
        time = timed(work, made)
        slower = check_time(options, time)
        against = _against(work, made, proof.figures(binding=binding), time)
        card = replace(made.card, notes=(*made.card.notes, *below_floor), parent=to_json(against))
        write_card(temporary, card)
        check_growth(options, artifact, temporary)  # the card itself takes a few bytes
        gain = check_gain(options, artifact, temporary, time)
        size, digest = temporary.stat().st_size, sha256_file(temporary)  # the target may be a pipe
    file = PublishedFile(target, artifact.format, card, size, digest)
    result = _result(work, made, file, against, plan, (*below_floor, *slower, *gain))
    return replace(result, micro=micro)


def _result(
    work: Work,
    made: QuantizedFile,
    file: PublishedFile,
    against: Parent,
    plan: MixedPlan | None,
    notes: tuple[str, ...],
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
        notes=(*work.notes, *made.notes, *notes),
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
