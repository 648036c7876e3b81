"""One compressed file, made and described but not published: the pass, its coverage, its card."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.artifact import write_card
from edgekit.bench.environment import environment
from edgekit.data.dataset import stratified
from edgekit.devices import open_runner, open_worker
from edgekit.options.quantize import QuantizeOptions
from edgekit.passes import Pass
from edgekit.pipeline.quantize.calibrate import Source
from edgekit.pipeline.quantize.kernels import KernelPlan
from edgekit.pipeline.quantize.measure import Measured, measure
from edgekit.pipeline.quantize.samples import DividedSamples, calibration_feeds
from edgekit.quality.anomaly import refit_threshold
from edgekit.quality.as_app import refusing
from edgekit.quality.coverage import coverage
from edgekit.quality.integer_selftest import SEED, selftest_of
from edgekit.quality.state import RULE
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.integer_io import integer_io as read_integer_io
from edgekit.quantization.integer_io import output_steps
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.onnx.saturation import Clipping, clipping, saturates
from edgekit.quantization.pixel_io import with_pixel_ranges
from edgekit.quantization.prepared import Prepared
from edgekit.quantization.schemes import Scheme, SchemeRequest, scheme
from edgekit.results.compressed import CoverageReport
from edgekit.types import Artifact, Card, Feed, PassResult, Signature, Step, Task

SATURATION_SAMPLES = 16
"""Calibration samples on which clipping is looked for: together they have hundreds of places."""


@dataclass(frozen=True)
class Work:
    """What one quantization is made from.

    Attributes:
        parent: the user's float file.
        before: what it gives.
        source: the float file that is quantized, and its ranges.
        kernels: which operators stay in float since their integer kernels are slow.
    """

    parent: Artifact
    options: QuantizeOptions
    samples: DividedSamples
    before: Measured
    source: Source
    kernels: KernelPlan

    @property
    def scheme(self) -> Scheme:
        """How it is quantized."""
        return scheme(self.options.scheme)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know so far."""
        return (*self.samples.notes, *self.source.notes)

    @property
    def _ranges(self) -> Calibration | None:
        """The ranges of the source; of images that become integers the whole range of their pixels."""
        ranges, card = self.source.ranges, self.parent.card
        if ranges is None or card is None or not self.options.integer_io:
            return ranges
        return with_pixel_ranges(ranges, card.contract, self.source.prepared.input_tensors())

    def quantizer(self, keep_float: Collection[str] = ()) -> Pass:
        """The pass that quantizes all operators but those of ``keep_float``."""
        plan, options = self.kernels, self.options
        return self.scheme.make(
            SchemeRequest(
                self.parent,
                self._ranges,
                options.integer_io,
                options.stateful,
                frozenset(keep_float),
                plan.keep_float if plan.weighed else None,
                plan.products,
                options.io == "uint8",
                options.io == "int8",
            )
        )


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


def make(work: Work, target: Path, keep: Collection[str] = (), why: Mapping[str, str] | None = None) -> QuantizedFile:
    """The file with all operators but those of ``keep`` quantized, and its card but for how it compares to its parent.

    Args:
        why: reasons for the coverage, by operator.

    Raises:
        EdgekitError: the pass refuses it, or what it made does not run.
    """
    parent, options, signature = work.parent, work.options, work.before.signature
    quantizer, source = work.quantizer(keep), work.source
    result = quantizer.run(source.artifact, source.prepared.context(target))
    notes = work.notes
    if isinstance(quantizer, QuantizeOnnx) and options.scheme == "int8" and work.samples.fit:
        some = calibration_feeds(source.artifact, stratified(work.samples.fit, SATURATION_SAMPLES, SEED), signature)
        isa = isa_of(options.device)
        with refusing("the compressed file"):
            quantizer, result, said = reduce_range_where_saturating(quantizer, source.prepared, result, some, isa)
        notes += said
    notes += result.notes
    unpublished = Artifact(target, parent.format)
    found = coverage(unpublished, {**result.left_in_float, **work.kernels.reasons(), **(why or {})})
    step = quantizer.describe(parent)
    if source.scaled:
        step = replace(step, params={**step.params, "equalized": [one.source for one in source.scaled]})
    card = _card(_keeping(work), signature, unpublished, step, found, notes)
    write_card(target, card)
    with refusing("the compressed file"):
        card, notes = _refitted(work, unpublished, card, notes)
        after = measure(unpublished, card, work.samples.test, options.limit, work.before.probes, options.metric)
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


def isa_of(device: str) -> tuple[str, ...]:
    """The instruction sets of the CPU that ``device`` has."""
    if device == "cpu":
        return tuple(environment()["isa"])
    with open_worker(device) as client:
        return tuple(client.environment()["isa"])


def reduce_range_where_saturating(
    quantizer: QuantizeOnnx,
    source: Prepared,
    made: PassResult,
    feeds: Iterable[Feed],
    isa: Collection[str],
) -> tuple[QuantizeOnnx, PassResult, tuple[str, ...]]:
    """The quantizer and its result for a CPU with the flags ``isa``, and what to say of layers that clip.

    Where that CPU adds pairs of products in 16 bits, the layers that lose by it are quantized again with 7-bit weights.
    """
    if not saturates(isa):
        return quantizer, made, ()
    assert isinstance(made.model, Artifact)
    found = [one for one in clipping(made.model.path, feeds) if one.matters]
    if not found:
        return quantizer, made, ()
    fitting = replace(quantizer, reduce_range={one.weight: one.axis for one in found})
    again = fitting.run(source.artifact, source.context(made.model.path))
    note = f"the CPU has no VNNI, so these layers have 7-bit weights, as they would clip: {_said(found)}"
    return fitting, again, (note,)


def _said(found: list[Clipping]) -> str:
    return listed([str(one) for one in sorted(found, key=lambda one: -one.error)])
