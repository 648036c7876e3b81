"""``edgekit quantize``: a float model file becomes a smaller one with an account, published if it holds its gates."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import open_artifact, publishing, sha256_file, write_card
from edgekit.data.dataset import Dataset, held_out_splits, open_data, splits_of, stratified
from edgekit.data.preprocess import feeds
from edgekit.data.seeded import seeded_feed
from edgekit.errors import DataError, ModelError, QualityError, UnsupportedError, UsageError
from edgekit.passes import quantize_onnx, quantize_tflite
from edgekit.passes.base import Pass, PassContext
from edgekit.passes.calibration import METHODS, Calibration, check_method
from edgekit.passes.integer_io import integer_io as read_integer_io
from edgekit.passes.observe import calibrate
from edgekit.quality.account import Account, account, quantized_already
from edgekit.quality.anomaly import refit_threshold
from edgekit.quality.evaluate import Evaluation, batch_size, drop, evaluate, measurable
from edgekit.quality.integer_selftest import CALIBRATED, SEED, selftest_of
from edgekit.quality.lengths import LengthError, Probe, length_errors, probes
from edgekit.runtime.stream import sequence_signature, sequences, streaming_of
from edgekit.types import Artifact, Card, Feed, Format, Signature, Step, Task

log = logging.getLogger("edgekit")
SAMPLES = 300
"""Calibration samples where the user does not say; docs/quantization.md has what more of them changed."""
METHOD = "minmax"
_PROBED = 4
"""Test samples on which the error by length of a recurrent file is looked at."""
_FEW = 10
"""Below this many samples a set is not split: all calibrate, all are measured."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What to do to the file; see :func:`quantize`."""

    scheme: str
    data: str | None = None
    samples: int | None = None
    calibration: str | None = None
    save_calibration: Path | None = None
    max_drop: float | None = None
    limit: int | None = None
    integer_io: bool = False


@dataclass(frozen=True)
class QuantizeResult:
    """What ``edgekit quantize`` made."""

    artifact: Artifact
    bytes: int
    sha256: str
    parent: Path
    parent_bytes: int
    step: Step
    account: Account
    before: Evaluation | None
    after: Evaluation | None
    notes: tuple[str, ...]
    lengths: tuple[LengthError, ...] = ()

    @property
    def drop(self) -> float | None:
        """Quality lost (0.01 = one point of accuracy, or an error that rose by 1%); negative when quality rose."""
        return None if self.before is None or self.after is None else drop(self.before, self.after)

    def document(self) -> dict[str, Any]:
        """CONTRACT's ``quantize`` document, without the envelope."""
        quality = None
        if self.before is not None and self.after is not None:
            quality = {
                "metric": self.after.metric,
                "before": self.before.value,
                "after": self.after.value,
                "drop": self.drop,
                "data": self.after.data,
                "total": self.after.total,
            }
        return {
            "artifact": {
                "path": str(self.artifact.path),
                "format": str(self.artifact.format),
                "bytes": self.bytes,
                "sha256": self.sha256,
            },
            "parent": {"path": str(self.parent), "bytes": self.parent_bytes},
            "scheme": self.step.params["scheme"],
            "step": {"name": self.step.name, "params": dict(self.step.params), "versions": dict(self.step.versions)},
            "quality": quality,
            "length_errors": [asdict(one) for one in self.lengths],
            "account": self.account.document(),
            "notes": list(self.notes),
        }


def quantize(
    model: str | Path,
    *,
    scheme: str,
    out: str | Path,
    data: str | None = None,
    samples: int | None = None,
    calibration: str | None = None,
    save_calibration: str | Path | None = None,
    max_drop: float | None = None,
    limit: int | None = None,
    integer_io: bool = False,
) -> QuantizeResult:
    """Quantizes ``model`` (.onnx or .tflite) into ``out``.

    Args:
        scheme: ``int8``, ``int8-dynamic``, ``int8-weights``, ``fp16``; for TFLite also ``int16x8``, ``int4-weights``.
        data: calibrates on its train split and measures quality on its test split.
        samples: calibration samples, classes balanced (default 300).
        calibration: how ranges are chosen (``minmax``, ``percentile``, ``entropy``, ``mse``), or a file of ranges that
            ``save_calibration`` wrote.
        max_drop: largest loss of quality that is published, as a fraction.
        limit: measure quality on the first N test samples.
        integer_io: inputs and outputs of the file are integers, which suits devices without floating point.

    Raises:
        QualityError: the file grew, or quality dropped by more than ``max_drop``; nothing is published.
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    options = QuantizeOptions(
        scheme,
        data,
        samples,
        calibration,
        Path(save_calibration) if save_calibration else None,
        max_drop,
        limit,
        integer_io,
    )
    artifact = open_artifact(model)
    target = Path(out)
    _check(artifact, target, options)
    return _Run(artifact, target, options).result()


@dataclass(frozen=True)
class _Measured:
    """A file as it runs: quality where there is labelled data, signature, outputs for the seeded feed and for those of
    several lengths, runtime."""

    quality: Evaluation | None
    signature: Signature
    outputs: Feed
    by_length: Sequence[Feed]
    runtime: str


class _Run:
    """One quantization: what was given, and what is found on the way."""

    def __init__(self, artifact: Artifact, target: Path, options: QuantizeOptions) -> None:
        self.artifact, self.target, self.options = artifact, target, options
        self.notes: list[str] = []
        self.fit, self.test = _splits(options, self.notes)
        self.probes: tuple[Probe, ...] | None = None

    def result(self) -> QuantizeResult:
        before = self._measured(self.artifact, self.artifact.card)
        quantizer = self._pass(before.signature)
        parent_bytes = self.artifact.path.stat().st_size
        with publishing(self.target) as temporary:
            made = quantizer.run(self.artifact, PassContext(temporary))
            self.notes += made.notes
            unpublished = Artifact(temporary, self.artifact.format)
            found = account(unpublished, _reasons(self.artifact.format, self.options.scheme))
            step = quantizer.describe(self.artifact)
            card = self._card(before.signature, unpublished, step, found)
            write_card(temporary, card)
            card = self._refitted(unpublished, card)
            after = self._measured(unpublished, card)
            quality = () if after.quality is None else (after.quality.quality(after.runtime, "cpu"),)
            card = replace(card, quality=quality, selftest=selftest_of(after.outputs, self.options.scheme))
            write_card(temporary, card)
            size = temporary.stat().st_size
            _check_growth(parent_bytes, size)
            self._check_drop(before.quality, after.quality)
        done = Artifact(self.target, self.artifact.format, card)
        return QuantizeResult(
            done,
            size,
            sha256_file(self.target),
            self.artifact.path,
            parent_bytes,
            step,
            found,
            before.quality,
            after.quality,
            tuple(self.notes),
            length_errors(self.probes or (), before.by_length, after.by_length),
        )

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

    def _pass(self, signature: Signature) -> Pass:
        options = self.options
        ranges = self._calibration(signature) if options.scheme in CALIBRATED else None
        if self.artifact.format is Format.ONNX:
            return quantize_onnx.QuantizeOnnx(options.scheme, ranges, options.integer_io)
        return quantize_tflite.QuantizeTflite(options.scheme, ranges, options.integer_io)

    def _calibration(self, signature: Signature) -> Calibration:
        given = self.options.calibration or METHOD
        if given not in METHODS:
            found = Calibration.load(Path(given))
            if found.model_sha256 != sha256_file(self.artifact.path):
                raise DataError(
                    f"{given} was made from another file than {self.artifact.path}; calibrate this one with --data"
                )
        else:
            assert self.fit is not None
            chosen = stratified(self.fit, self.options.samples or SAMPLES, SEED)
            log.info("calibrating on %d samples of %s", len(chosen), chosen.label)
            found = calibrate(
                self.artifact.path,
                self._feeds(chosen, signature),
                signature,
                method=given,
                data=chosen.label,
                format=self.artifact.format,
            )
        self.notes += found.notes
        if self.options.save_calibration is not None:
            with publishing(self.options.save_calibration) as temporary:
                found.save(temporary)
        return found

    def _feeds(self, chosen: Dataset, signature: Signature) -> Iterator[Feed]:
        """The samples as the file takes them; for a file of one step, every step of every sample with its state."""
        card = self.artifact.card
        contract = card.contract if card is not None else {}
        whole = sequence_signature(signature, card)
        size = min(batch_size(whole), len(chosen))
        batches = _whole(feeds(chosen, whole, contract, batch=size), size, whole)
        if whole is signature:
            yield from batches
            return
        from edgekit.devices import open_runner

        with open_runner(self.artifact.path) as runner:
            for feed in batches:
                yield from runner.stream().step_feeds(feed)

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
            account=found.document(),
            quality=(),
            selftest=None,
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
                f"--max-drop allows {allowed:g}; nothing was published. Try another --calibration, more --samples, or "
                "--scheme int8-weights"
            )


def _check(artifact: Artifact, target: Path, options: QuantizeOptions) -> None:
    """Everything that can be refused before any work."""
    if artifact.format not in (Format.ONNX, Format.TFLITE):
        raise UnsupportedError(
            f"{artifact.path} is a {artifact.format} model; export it first (--to onnx or tflite) and quantize that"
        )
    known = quantize_onnx.SCHEMES if artifact.format is Format.ONNX else quantize_tflite.SCHEMES
    quantize_onnx.check_scheme(options.scheme, artifact.format, known)
    if target.suffix.lower() != f".{artifact.format}":
        raise UsageError(f"-o {target} must end in .{artifact.format}, as the model does: quantizing keeps the format")
    if target.resolve() == artifact.path.resolve():
        raise UsageError(f"-o names the model itself ({target}); give another name, the parent is kept")
    if options.max_drop is not None and not 0 <= options.max_drop < 1:
        raise UsageError(
            f"--max-drop is {options.max_drop}; give a fraction from 0 to below 1 (0.01 = one point of accuracy)"
        )
    if options.max_drop is not None and options.data is None:
        raise UsageError("--max-drop needs --data to measure the drop on")
    for name, value in (("--samples", options.samples), ("--limit", options.limit)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; give 1 or more")
    from_file = options.calibration is not None and options.calibration.endswith(".json")
    if options.calibration is not None and not from_file:
        check_method(options.calibration)
    if options.scheme in CALIBRATED and options.data is None and not from_file:
        raise UsageError(
            f"scheme {options.scheme} calibrates on real samples: give --data (cifar10, images:DIR, npz:FILE). Without "
            "data there are int8-dynamic, int8-weights and fp16"
        )
    evidence = quantized_already(artifact)
    if evidence:
        raise ModelError(f"{artifact.path} is quantized already ({evidence}); give the float file it was made from")


def _splits(options: QuantizeOptions, notes: list[str]) -> tuple[Dataset | None, Dataset | None]:
    """(calibration samples, test samples): the train and the test split of the data set, or another held-out one where
    it is named (``sst2@dev``)."""
    if options.data is None:
        return None, None
    base, at, split = options.data.rpartition("@")
    name = base if at and split in splits_of(base) else options.data
    whole = open_data(f"{name}@all") if split == "all" else None
    measured = split if name == base and split in held_out_splits(base) else "test"
    if whole is None:
        fit = open_data(f"{name}@train", default_split="train")
        if fit.own_split or len(fit) >= _FEW:
            return fit, open_data(f"{name}@{measured}")
        whole = open_data(f"{name}@all")
    notes.append(f"calibrated and measured on the same {len(whole)} samples of {whole.label}")
    return whole, whole


def _whole(given: Iterator[Feed], size: int, signature: Signature) -> Iterator[Feed]:
    """Feeds of the size the file fixes; a shorter last one is filled up with its own last sample."""
    fixed = not any(isinstance(spec.shape[0], str) for spec in signature.inputs if spec.shape)
    for feed in given:
        missing = size - len(next(iter(feed.values()))) if fixed else 0
        yield (
            {n: np.concatenate([v, np.repeat(v[-1:], missing, axis=0)]) for n, v in feed.items()}
            if missing > 0
            else feed
        )


def _reasons(format_: Format, scheme: str) -> dict[str, str]:
    return quantize_onnx.float_reasons(scheme) if format_ is Format.ONNX else {}


def _check_growth(before: int, after: int) -> None:
    if after > before:
        raise QualityError(
            f"the quantized file has {after:,} bytes, its parent {before:,}: it grew, nothing was published. Files so "
            "small gain nothing from quantization: ship the float one"
        )
