"""One compressed file, made and described but not published: the pass, its coverage, its card."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgekit.artifact import write_card
from edgekit.data.dataset import stratified
from edgekit.devices import open_runner
from edgekit.options.quantize import QuantizeOptions
from edgekit.passes import Pass, PassContext
from edgekit.pipeline.quantize.equalizing import Equalized, equalized
from edgekit.pipeline.quantize.gates import is_timed
from edgekit.pipeline.quantize.kernels import KernelPlan, plan_kernels
from edgekit.pipeline.quantize.measure import Measured, measure
from edgekit.pipeline.quantize.ranges import find_ranges
from edgekit.pipeline.quantize.samples import DividedSamples, calibration_feeds
from edgekit.pipeline.quantize.saturating import SATURATION_SAMPLES, isa_of, reduce_range_where_saturating
from edgekit.quality.anomaly import refit_threshold
from edgekit.quality.as_app import refusing
from edgekit.quality.coverage import coverage
from edgekit.quality.integer_selftest import SEED, selftest_of
from edgekit.quality.state import RULE
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.equalize import Scaled
from edgekit.quantization.integer_io import integer_io as read_integer_io
from edgekit.quantization.integer_io import output_steps
from edgekit.quantization.onnx import quantize as quantize_onnx
from edgekit.quantization.schemes import Scheme, SchemeRequest, scheme
from edgekit.results.compressed import CoverageReport
from edgekit.types import Artifact, Card, Format, Signature, Step, Task

log = logging.getLogger("edgekit")


@dataclass(frozen=True)
class Work:
    """What one quantization is made from.

    Attributes:
        parent: the user's float file.
        before: what it gives.
        source: the float file that is quantized: the user's, or one that computes the same.
        ranges: of its tensors, None for schemes without.
        scaled: the sets of channels that were scaled in it.
        notes: what the user should know so far.
        kernels: which operators stay in float since their integer kernels are slow.
    """

    parent: Artifact
    options: QuantizeOptions
    samples: DividedSamples
    before: Measured
    source: Artifact
    ranges: Calibration | None = None
    scaled: tuple[Scaled, ...] = ()
    notes: tuple[str, ...] = ()
    kernels: KernelPlan = field(default_factory=KernelPlan)

    @property
    def scheme(self) -> Scheme:
        """How it is quantized."""
        return scheme(self.options.scheme)


@dataclass(frozen=True)
class QuantizedFile:
    """A quantized file that is not published yet, by ``quantizer``. ``notes``: what is to know of this file alone."""

    path: Path
    card: Card
    after: Measured
    account: CoverageReport
    step: Step
    notes: tuple[str, ...]
    quantizer: Pass

    def with_notes(self, notes: tuple[str, ...]) -> QuantizedFile:
        """A copy that says more, on its card, too."""
        card = replace(self.card, notes=(*self.card.notes, *notes))
        return replace(self, notes=(*self.notes, *notes), card=card)


def prepare(parent: Artifact, options: QuantizeOptions, samples: DividedSamples, folder: Path) -> Work:
    """Measures the float file, finds its ranges, and the float file that is quantized by them.

    Args:
        folder: where files can be written.

    Raises:
        EdgekitError: the file does not run, or not on these samples.
    """
    before = measure(parent, parent.card, samples.test, options.limit)
    work = Work(parent, options, samples, before, parent, notes=samples.notes)
    if not work.scheme.calibrated:
        return work
    ranges = find_ranges(parent, before.signature, samples.fit, options)
    given = Equalized(parent, ranges)
    found = equalized(given, before.signature, samples.fit, options, partial(quantizer_of, work, frozenset()), folder)
    notes = (*work.notes, *ranges.notes, *found.notes)
    work = replace(work, source=found.artifact, ranges=found.ranges, scaled=found.scaled, notes=notes)
    return replace(work, kernels=_weighed(work))


def _weighed(work: Work) -> KernelPlan:
    """Which operators stay in float on the target; none where it wants integers throughout."""
    options, source = work.options, work.source
    if options.scheme != "int8" or options.integer_io:
        return KernelPlan()
    on = options.device if is_timed(options) and not _is_free(work.before.signature) else None
    log.info("weighing kernels %s", f"on {on}" if on else "by what XNNPACK has for integers")

    def with_plan(keep: frozenset[str], products: frozenset[str]) -> Pass:
        plan = KernelPlan((), keep, products, weighed=True)
        bare = replace(options, stateful=source.format is Format.TFLITE)  # layers without what resets them
        return quantizer_of(replace(work, options=bare, kernels=plan), ())

    return plan_kernels(source, with_plan, on)


def _is_free(signature: Signature) -> bool:
    """Whether an input has a free size beside its first axis: operators cut out of the file have none of their own."""
    return any(isinstance(size, str) for spec in signature.inputs for size in spec.shape[1:])


def quantizer_of(work: Work, keep_float: Collection[str], ranges: Calibration | None = None) -> Pass:
    """The pass that quantizes as ``work`` asks, all operators but those of ``keep_float``."""
    return work.scheme.make(_request(work, frozenset(keep_float), ranges or work.ranges))


def _request(work: Work, keep: frozenset[str] = frozenset(), ranges: Calibration | None = None) -> SchemeRequest:
    plan, options = work.kernels, work.options
    kernels = plan.keep_float if plan.weighed else None
    return SchemeRequest(work.parent, ranges, options.integer_io, options.stateful, keep, kernels, plan.products)


def make(work: Work, target: Path, keep: Collection[str] = (), why: Mapping[str, str] | None = None) -> QuantizedFile:
    """The file with all operators but those of ``keep`` quantized, and its card but for how it compares to its parent.

    Args:
        why: reasons for the coverage, by operator.

    Raises:
        EdgekitError: the pass refuses it, or what it made does not run.
    """
    parent, options, signature = work.parent, work.options, work.before.signature
    quantizer = quantizer_of(work, keep)
    result = quantizer.run(work.source, PassContext(target))
    notes = work.notes
    if isinstance(quantizer, quantize_onnx.QuantizeOnnx) and options.scheme == "int8" and work.samples.fit:
        some = calibration_feeds(work.source, stratified(work.samples.fit, SATURATION_SAMPLES, SEED), signature)
        isa = isa_of(options.device)
        with refusing("the compressed file"):
            quantizer, result, said = reduce_range_where_saturating(quantizer, work.source, result, some, isa)
        notes += said
    notes += result.notes
    unpublished = Artifact(target, parent.format)
    found = coverage(unpublished, {**float_reasons(work), **work.kernels.reasons(), **(why or {})})
    step = quantizer.describe(parent)
    if work.scaled:
        step = replace(step, params={**step.params, "equalized": [one.source for one in work.scaled]})
    card = _card(_keeping(work), signature, unpublished, step, found, notes)
    write_card(target, card)
    with refusing("the compressed file"):
        card, notes = _refitted(work, unpublished, card, notes)
        after = measure(unpublished, card, work.samples.test, options.limit, work.before.probes)
    quality = () if after.quality is None else (after.quality.quality(after.runtime, "cpu"),)
    # the account counts the main graph; the products of a loop are hybrid in these schemes, too
    integers = work.scheme.computes_on_integers or found.integer_operators > 0
    card = replace(card, quality=quality, selftest=selftest_of(after.outputs, integers, output_steps(unpublished)))
    write_card(target, card)
    return QuantizedFile(target, card, after, found, step, notes[len(work.notes) :], quantizer)


def _keeping(work: Work) -> Artifact:
    """The parent, whose card says that state is kept where that was asked for."""
    card = work.parent.card or Card(work.parent.path.stem, "custom", Task(), work.before.signature)
    if not work.options.stateful or card.stateful:
        return work.parent
    card = replace(card, stateful=True, notes=(*card.notes, f"keeps its state between calls: {RULE}"))
    return replace(work.parent, card=card)


def _card(
    parent: Artifact, signature: Signature, made: Artifact, step: Step, found: CoverageReport, notes: tuple[str, ...]
) -> Card:
    """The parent's card with the step, the coverage, integer inputs and outputs; no quality or self-test yet."""
    old = parent.card or Card(parent.path.stem, "custom", Task(), signature)
    sides = read_integer_io(made)
    specs = (old.signature.inputs, old.signature.outputs)
    quantized = {
        spec.name: how
        for side, hows in zip(specs, sides, strict=True)
        for spec, how in zip(side, hows, strict=True)
        if how
    }
    retyped = [
        tuple(replace(s, dtype=quantized[s.name].dtype) if s.name in quantized else s for s in side) for side in specs
    ]
    return replace(
        old.with_step(step, *notes),
        signature=Signature(*retyped),
        quantized_io=quantized,
        account=found.card_document(),
        quality=(),
        selftest=None,
        ranges=None,
    )


def _refitted(work: Work, made: Artifact, card: Card, notes: tuple[str, ...]) -> tuple[Card, tuple[str, ...]]:
    """An anomaly detector's card with the threshold that the scores of the quantized file itself give."""
    old = card.task.params.get("threshold")
    if card.task.kind != "anomaly" or old is None:
        return card, notes
    task = card.task
    if work.samples.whole is None:
        note = f"the threshold {old:g} is that of the float file: give --data to fit it to this one"
    else:
        with open_runner(made.path) as runner:
            task = refit_threshold(runner, work.samples.whole, card)
        note = f"the threshold was fitted to this file's own scores: {old:g} -> {task.params['threshold']:g}"
    return replace(card, task=task, notes=(*card.notes, note)), (*notes, note)


def float_reasons(work: Work) -> dict[str, str]:
    """Operator, or type of operators -> why the scheme leaves it in float whatever it takes."""
    return dict(work.scheme.float_reasons(_request(work, ranges=work.ranges)))
