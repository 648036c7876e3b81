"""One quantization: measured, calibrated, quantized, measured again, gated, published."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.artifact import open_artifact, sha256_file, sha256_model, size_bytes, write_card
from edgekit.data.dataset import Dataset, stratified
from edgekit.data.preprocess import feeds
from edgekit.data.seeded import seeded_feed
from edgekit.errors import DataError, QualityError
from edgekit.leftovers import scratch_folder
from edgekit.outputs import publishing
from edgekit.passes import quantize_onnx, quantize_tflite
from edgekit.passes.base import Pass, PassContext
from edgekit.passes.calibration import Calibration
from edgekit.passes.equalize import Scaled
from edgekit.passes.integer_io import integer_io as read_integer_io
from edgekit.passes.integer_io import output_steps
from edgekit.passes.operators import check_names, named, operators
from edgekit.pipeline.quantize.equalizing import Equalized, equalized
from edgekit.pipeline.quantize.options import QuantizeOptions, check_options, one_model, read_options
from edgekit.pipeline.quantize.ranges import find_ranges
from edgekit.pipeline.quantize.result import QuantizeResult
from edgekit.pipeline.quantize.samples import calibration_feeds, fit_and_test
from edgekit.pipeline.quantize.saturating import SAMPLES, isa_of, relieved
from edgekit.pipeline.quantize.sensitivity import SAMPLES as SENSITIVITY_SAMPLES
from edgekit.pipeline.quantize.sensitivity import Plan, load_plan, sensitivities
from edgekit.pipeline.quantize.timing import time_ratio
from edgekit.quality.account import Account, account
from edgekit.quality.anomaly import refit_threshold
from edgekit.quality.evaluate import Evaluation, drop, evaluate, measurable
from edgekit.quality.integer_selftest import CALIBRATED, SEED, selftest_of
from edgekit.quality.lengths import Probe, length_errors, probes
from edgekit.quality.paired import quality_document
from edgekit.runtime.stream import sequences, streaming_of
from edgekit.types import Artifact, Card, Feed, Format, Signature, Step, Task

log = logging.getLogger("edgekit")
_PROBED = 4
"""Test samples on which the error by length of a recurrent file is looked at."""


def quantize(
    model: str | Path | Sequence[str | Path],
    *,
    scheme: str,
    out: str | Path,
    data: str | None = None,
    max_drop: float | None = None,
    **keywords: Any,
) -> QuantizeResult:
    """Quantizes ``model`` (.onnx or .tflite) into ``out``.

    Args:
        model: the file; for ``auto`` also several, of different formats, or a network.
        scheme: ``int8``, ``int8-dynamic``, ``int8-weights``, ``int4-weights``, ``fp16``; for TFLite also ``int16x8``;
            ``auto`` tries them on a device and takes the fastest within ``max_drop``.
        data: calibrates on its train split and measures quality on its test split.
        max_drop: largest loss of quality that is published, as a fraction.
        keywords: the other fields of :class:`edgekit.pipeline.quantize.QuantizeOptions`; with ``auto`` also those of
            :class:`edgekit.pipeline.auto.AutoOptions`.

    Raises:
        QualityError: the file grew, or quality dropped by more than ``max_drop``; nothing is published.
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    options, auto = read_options(scheme, {"data": data, "max_drop": max_drop, **keywords})
    if scheme == "auto":
        from edgekit.pipeline.auto import quantize_auto

        return quantize_auto(model, out, options, auto)
    artifact = open_artifact(one_model(model, auto))
    target = Path(out)
    check_options(artifact, target, options)
    notes: list[str] = []
    return _Run(artifact, target, options, fit_and_test(data, notes), notes).result()


def plan_mixed(model: str | Path | Sequence[str | Path], *, scheme: str, out: str | Path, **keywords: Any) -> Plan:
    """The plan of mixed precision that :func:`quantize` with ``mixed="auto"`` would apply, written to ``out`` (.json).

    No model is written. ``keywords``: as of :func:`quantize`.

    Raises:
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    options, auto = read_options(scheme, {"mixed": "auto", **keywords})
    artifact = open_artifact(one_model(model, auto))
    check_options(artifact, Path(out), options, suffix=".json")
    notes: list[str] = []
    plan = _Run(artifact, Path(out), options, fit_and_test(options.data, notes), notes).plan()
    plan.save(Path(out))
    return plan


def quantize_on(
    artifact: Artifact, target: Path, options: QuantizeOptions, fit: Dataset, test: Dataset | None = None
) -> QuantizeResult:
    """Like :func:`quantize`, with the samples given: ``fit`` for the ranges, ``test`` (None: nothing) to measure on."""
    check_options(artifact, target, options)
    return _Run(artifact, target, options, (fit, test), []).result()


@dataclass(frozen=True)
class _Measured:
    """A file as it runs: quality where there is labelled data, signature, outputs for the seeded feed and for those of
    several lengths, runtime."""

    quality: Evaluation | None
    signature: Signature
    outputs: Feed
    by_length: Sequence[Feed]
    runtime: str


@dataclass(frozen=True)
class _Made:
    """A quantized file that is not published yet."""

    card: Card
    after: _Measured
    account: Account
    step: Step


class _Run:
    """One quantization: what was given, and what is found on the way."""

    def __init__(
        self,
        artifact: Artifact,
        target: Path,
        options: QuantizeOptions,
        samples: tuple[Dataset | None, Dataset | None],
        notes: list[str],
    ) -> None:
        self.artifact, self.target, self.options = artifact, target, options
        self.fit, self.test = samples
        self.notes = notes
        self.probes: tuple[Probe, ...] | None = None
        self.ranges: Calibration | None = None
        self.source, self.scaled = artifact, tuple[Scaled, ...]()  # the float file that is quantized
        self.chosen: Plan | None = None
        self.told = 0

    def result(self) -> QuantizeResult:
        with scratch_folder() as folder:
            return self._result(folder)

    def _result(self, folder: Path) -> QuantizeResult:
        self.chosen = self._given_plan()
        before = self._measured(self.artifact, self.artifact.card)
        self._prepare(before.signature, folder)
        parent_bytes = size_bytes(self.artifact.path)
        with publishing(self.target, f".{self.artifact.format}") as temporary:
            made = self._mixed(temporary, before) if self.options.mixed else self._made(temporary, before)
            card, after, found, step = made.card, made.after, made.account, made.step
            _check_growth(parent_bytes, temporary.stat().st_size)
            self._check_drop(before.quality, after.quality)
            card = replace(card, parent=self._against(temporary, found, before.quality, after.quality))
            write_card(temporary, card)
            size, digest = temporary.stat().st_size, sha256_file(temporary)
            _check_growth(parent_bytes, size)  # the card itself takes a few bytes
        done = Artifact(self.target, self.artifact.format, card)
        return QuantizeResult(
            done,
            size,
            digest,
            self.artifact.path,
            parent_bytes,
            step,
            found,
            before.quality,
            after.quality,
            tuple(self.notes),
            length_errors(self.probes or (), before.by_length, after.by_length),
            card.parent or {},
            self.chosen,
        )

    def plan(self) -> Plan:
        """The plan of mixed precision: found as :meth:`result` finds it, nothing published."""
        before = self._measured(self.artifact, self.artifact.card)
        with scratch_folder() as folder:
            self._prepare(before.signature, folder)
            self._mixed(folder / f"mixed.{self.artifact.format}", before)
        assert self.chosen is not None
        return self.chosen

    def _made(
        self, target: Path, before: _Measured, keep: Sequence[str] = (), why: Mapping[str, str] | None = None
    ) -> _Made:
        """The file with all operators but those of ``keep`` quantized, with its card but for its comparison with the
        parent. ``why``: reasons for the account."""
        quantizer = self._pass(frozenset(keep))
        told = len(self.notes)
        made = quantizer.run(self.source, PassContext(target))
        if isinstance(quantizer, quantize_onnx.QuantizeOnnx) and self.options.scheme == "int8" and self.fit:
            some = calibration_feeds(self.source, stratified(self.fit, SAMPLES, SEED), before.signature)
            quantizer, made, said = relieved(quantizer, self.source, made, some, isa_of(self.options.on))
            self.notes += said
        self.notes += made.notes
        unpublished = Artifact(target, self.artifact.format)
        reasons = {**_reasons(self.artifact, self.options), **(why or {})}
        found, step = account(unpublished, reasons), quantizer.describe(self.artifact)
        if self.scaled:
            step = replace(step, params={**step.params, "equalized": [one.source for one in self.scaled]})
        card = self._card(before.signature, unpublished, step, found)
        write_card(target, card)
        card = self._refitted(unpublished, card)
        after = self._measured(unpublished, card)
        quality = () if after.quality is None else (after.quality.quality(after.runtime, "cpu"),)
        # the account counts the main graph; the products of a loop are hybrid in these schemes, too
        integers = self.options.scheme in (*CALIBRATED, "int8-dynamic") or found.integer_operators > 0
        selftest = selftest_of(after.outputs, integers, output_steps(unpublished))
        card = replace(card, quality=quality, selftest=selftest)
        write_card(target, card)
        self.told = told
        return _Made(card, after, found, step)

    def _mixed(self, target: Path, before: _Measured) -> _Made:
        """The file with the worst layers in float: as few as hold ``max_drop``, or those of the plan that was given."""
        options, given = self.options, self.chosen is not None
        if self.chosen is None:
            assert self.fit is not None
            layers = sensitivities(self.source, before.signature, operators(self.artifact), self.fit, self._pass)
            few = min(SENSITIVITY_SAMPLES, len(self.fit))
            digest = sha256_model(self.artifact.path)
            self.chosen = Plan(options.scheme, digest, self.fit.label, few, layers, (), options.max_drop)
        made = self._made(target, before, self.chosen.keep, self.chosen.reasons())
        while not given and (lost := self._lost_too_much(before, made.after)) is not None:
            left = [one for one in self.chosen.layers if one.name not in self.chosen.keep and not one.reason]
            if not left:
                break
            log.info("down %.4f; %s stays in float", lost, left[0].name)
            self.chosen = replace(self.chosen, keep=(*self.chosen.keep, left[0].name))
            del self.notes[self.told :]
            made = self._made(target, before, self.chosen.keep, self.chosen.reasons())
        if before.quality is not None and made.after.quality is not None:
            self.chosen = replace(self.chosen, drop=drop(before.quality, made.after.quality))
        return made

    def _given_plan(self) -> Plan | None:
        """What the user wants in float, checked against the file; None where that is to be found."""
        options, how = self.options, self.options.mixed
        if how is None or how == "auto":
            return None
        known = operators(self.artifact)
        if how.endswith(".json"):
            plan = load_plan(Path(how), self.artifact, options.scheme)
        else:
            plan = Plan(options.scheme, sha256_model(self.artifact.path), "", 0, (), named(how, known))
        check_names(frozenset(plan.keep), known)
        return plan

    def _lost_too_much(self, before: _Measured, after: _Measured) -> float | None:
        """The drop where it is beyond ``max_drop``; None where it is not, or where there is no limit."""
        if self.options.max_drop is None or before.quality is None or after.quality is None:
            return None
        lost = drop(before.quality, after.quality)
        return lost if lost > self.options.max_drop else None

    def _measured(self, artifact: Artifact, card: Card | None) -> _Measured:
        """What a file gives: quality on the test samples, if they say what is right, and its own seeded outputs."""
        from edgekit.devices import open_runner

        with open_runner(artifact.path) as runner:
            feed = seeded_feed(runner.signature, card.contract if card else {}, SEED)
            outputs = runner.run(feed)
            found = None
            if self.test is not None and measurable(self.test, card):
                found = evaluate(sequences(runner), self.test, card, limit=self.options.limit)
            if self.probes is None:
                self.probes = self._probes(artifact, card, runner.signature)
            by_length = [runner.run(probe.feed) for probe in self.probes]
            return _Measured(found, runner.signature, outputs, by_length, runner.name)

    def _against(
        self, made: Path, found: Account, before: Evaluation | None, after: Evaluation | None
    ) -> dict[str, Any]:
        """How the file compares with its parent: what the card says of both."""
        parent, options = self.artifact.path, self.options
        return {
            "sha256": sha256_model(parent),
            "bytes": size_bytes(parent),
            "inserted": found.inserted(account(self.artifact)),
            "quality": None if before is None or after is None else quality_document(before, after),
            "time": None if options.seconds is None else time_ratio(made, parent, options.seconds, options.on),
        }

    def _probes(self, artifact: Artifact, card: Card | None, signature: Signature) -> tuple[Probe, ...]:
        if streaming_of(card) is not None:  # every run is one step
            return ()
        contract = card.contract if card else {}
        real = feeds(self.test, signature, contract, limit=_PROBED) if self.test is not None else ()
        return probes(artifact, signature, contract, real)

    def _refitted(self, made: Artifact, card: Card) -> Card:
        """An anomaly detector's card with the threshold that the scores of the quantized file itself give."""
        from edgekit.devices import open_runner

        old = card.task.params.get("threshold")
        if card.task.kind != "anomaly" or old is None:
            return card
        task = card.task
        if self.fit is None:
            note = f"the threshold {old:g} is that of the float file: give --data to fit it to this one"
        else:
            with open_runner(made.path) as runner:
                task = refit_threshold(runner, self.fit, card)
            note = f"the threshold was fitted to this file's own scores: {old:g} -> {task.params['threshold']:g}"
        self.notes.append(note)
        return replace(card, task=task, notes=(*card.notes, note))

    def _prepare(self, signature: Signature, folder: Path) -> None:
        """Finds the ranges, and the float file that is quantized by them."""
        if self.options.scheme not in CALIBRATED:
            return
        ranges = find_ranges(self.artifact, signature, self.fit, self.options)
        given = Equalized(self.artifact, ranges)
        found = equalized(given, signature, self.fit, self.options, partial(self._pass, frozenset()), folder)
        self.source, self.ranges, self.scaled = found.artifact, found.ranges, found.scaled
        self.notes += (*ranges.notes, *found.notes)

    def _pass(self, keep_float: frozenset[str], ranges: Calibration | None = None) -> Pass:
        options = self.options
        given = (options.scheme, ranges or self.ranges, options.integer_io)
        if self.artifact.format is Format.ONNX:
            return quantize_onnx.QuantizeOnnx(*given, keep_float=keep_float)
        return quantize_tflite.QuantizeTflite(*given, keep_float=keep_float)

    def _card(self, signature: Signature, made: Artifact, step: Step, found: Account) -> Card:
        """The parent's card with the step, the account, integer inputs and outputs; no quality or self-test yet."""
        parent = self.artifact.card or Card(self.artifact.path.stem, "custom", Task(), signature)
        sides = read_integer_io(made)
        specs = (parent.signature.inputs, parent.signature.outputs)
        quantized = {
            spec.name: how
            for side, hows in zip(specs, sides, strict=True)
            for spec, how in zip(side, hows, strict=True)
            if how
        }
        retyped = [
            tuple(replace(s, dtype=quantized[s.name].dtype) if s.name in quantized else s for s in side)
            for side in specs
        ]
        return replace(
            parent.with_step(step, *self.notes),
            signature=Signature(*retyped),
            quantized_io=quantized,
            account=found.card_document(),
            quality=(),
            selftest=None,
            ranges=None,
        )

    def _check_drop(self, before: Evaluation | None, after: Evaluation | None) -> None:
        allowed = self.options.max_drop
        if allowed is None:
            return
        if before is None or after is None:
            raise DataError("--max-drop needs labelled data to measure the drop on; this data has no labels")
        lost = drop(before, after)
        if lost > allowed:
            raise QualityError(
                f"{after.metric} on {after.data} went from {before.value:.4f} to {after.value:.4f}, down {lost:.4f}; "
                f"--max-drop allows {allowed:g}; nothing was published. Try --mixed, another --calibration, more "
                "--samples, or --scheme int8-weights"
            )


def _reasons(artifact: Artifact, options: QuantizeOptions) -> dict[str, str]:
    if artifact.format is Format.ONNX:
        return quantize_onnx.float_reasons(artifact.path, options.scheme, options.integer_io)
    return quantize_tflite.float_reasons(artifact.path, options.scheme, options.integer_io)


def _check_growth(before: int, after: int) -> None:
    if after > before:
        raise QualityError(
            f"the quantized file has {after:,} bytes, its parent {before:,}: it grew, nothing was published. Files so "
            "small gain nothing from quantization: ship the float one"
        )
