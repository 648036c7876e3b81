"""One quantization: measured, calibrated, quantized, proved, measured again, gated, published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.artifact import open_artifact, publishing, sha256_file, sha256_model, size_bytes, write_card
from edgekit.data.dataset import Dataset
from edgekit.devices import kept_workers
from edgekit.errors import DataError, QualityError
from edgekit.pipeline.quantize.make import Made, Work, prepare
from edgekit.pipeline.quantize.mixed import given_plan, mixed, ranked, whole
from edgekit.pipeline.quantize.options import QuantizeOptions, check_options, one_model, read_options
from edgekit.pipeline.quantize.plan import Plan
from edgekit.pipeline.quantize.proof import Proof
from edgekit.pipeline.quantize.result import QuantizeResult
from edgekit.pipeline.quantize.samples import Samples, divided, samples_of
from edgekit.pipeline.quantize.timing import time_ratio
from edgekit.quality.account import account
from edgekit.quality.evaluate import Evaluation, drop
from edgekit.quality.lengths import length_errors
from edgekit.quality.paired import quality_document
from edgekit.types import Artifact

COSTLIEST = 3
"""Operators that a refusal names."""


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
        QualityError: the file grew, quality dropped by more than ``max_drop``, the outputs miss their floor, or it
            fails as an app runs it; nothing is published.
        ParityError: it does not compute what its own scales say; nothing is published.
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    options, auto = read_options(scheme, {"data": data, "max_drop": max_drop, **keywords})
    if scheme == "auto":
        from edgekit.pipeline.auto import quantize_auto

        return quantize_auto(model, out, options, auto)
    artifact = open_artifact(one_model(model, auto))
    target = Path(out)
    check_options(artifact, target, options)
    return _quantized(artifact, target, options, samples_of(data, options.samples))


def plan_mixed(model: str | Path | Sequence[str | Path], *, scheme: str, out: str | Path, **keywords: Any) -> Plan:
    """The plan of mixed precision that :func:`quantize` with ``mixed="auto"`` would apply, written to ``out`` (.json).

    No model is written. ``keywords``: as of :func:`quantize`.

    Raises:
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
    """
    options, auto = read_options(scheme, {"mixed": "auto", **keywords})
    artifact = open_artifact(one_model(model, auto))
    check_options(artifact, Path(out), options, suffix=".json")
    with kept_workers(), TemporaryDirectory() as folder:
        work = prepare(artifact, options, samples_of(options.data, options.samples), Path(folder))
        plan, _, _ = mixed(work, Path(folder) / f"mixed.{artifact.format}", None)
        assert plan is not None
    plan.save(Path(out))
    return plan


def quantize_on(
    artifact: Artifact, target: Path, options: QuantizeOptions, fit: Dataset, test: Dataset | None = None
) -> QuantizeResult:
    """Like :func:`quantize`, with the samples given: ``fit`` for the ranges, ``test`` (None: nothing) to measure on.

    The caller measures the loss of quality where the file will run, so that the scheme's own floor is only a note.
    """
    check_options(artifact, target, options)
    return _quantized(artifact, target, options, divided(fit, test, options.samples), by_labels=True)


def _quantized(
    artifact: Artifact, target: Path, options: QuantizeOptions, samples: Samples, *, by_labels: bool = False
) -> QuantizeResult:
    """Each stage hands on what it found; the file is published when all of them passed."""
    plan = given_plan(artifact, options)
    with kept_workers(), TemporaryDirectory() as folder, publishing(target) as temporary:
        work = prepare(artifact, options, samples, Path(folder))
        plan, made, proof = whole(work, temporary) if options.mixed is None else mixed(work, temporary, plan)
        _check_growth(artifact, temporary)
        _check_drop(options, work.before.quality, made.after.quality)
        binding = options.min_snr is not None or not (by_labels or options.max_drop is not None)
        made = _checked_floor(work, made, proof, binding=binding)
        made = replace(made, card=replace(made.card, parent=_against(work, made, proof.document(binding=binding))))
        write_card(temporary, made.card)
        _check_growth(artifact, temporary)  # the card itself takes a few bytes
    return _result(work, made, target, plan)


def _result(work: Work, made: Made, target: Path, plan: Plan | None) -> QuantizeResult:
    before, after = work.before, made.after
    return QuantizeResult(
        Artifact(target, work.parent.format, made.card),
        size_bytes(target),
        sha256_file(target),
        work.parent.path,
        size_bytes(work.parent.path),
        made.step,
        made.account,
        before.quality,
        after.quality,
        (*work.notes, *made.notes),
        length_errors(before.probes, before.by_length, after.by_length),
        made.card.parent or {},
        plan,
    )


def _against(work: Work, made: Made, fidelity: dict[str, Any]) -> dict[str, Any]:
    """How the file compares with its parent: what the card says of both."""
    parent, options = work.parent, work.options
    before, after = work.before.quality, made.after.quality
    return {
        "sha256": sha256_model(parent.path),
        "bytes": size_bytes(parent.path),
        "inserted": made.account.inserted(account(parent)),
        "quality": None if before is None or after is None else quality_document(before, after),
        "fidelity": fidelity,
        "time": None if options.seconds is None else time_ratio(made.path, parent.path, options.seconds, options.on),
    }


def _checked_floor(work: Work, made: Made, proof: Proof, *, binding: bool) -> Made:
    """``made``, with a note where it misses a floor that does not bind.

    Raises:
        QualityError: it misses one that does.
    """
    if not proof.failures:
        return made
    said = "; ".join(proof.failures)
    if not binding:
        note = f"{said}. That is below the floor; the loss of quality on labelled data is what decides"
        return replace(made, notes=(*made.notes, note), card=replace(made.card, notes=(*made.card.notes, note)))
    costs = "; ".join(str(one) for one in ranked(work, proof).layers[:COSTLIEST])
    raise QualityError(
        f"the compressed file is too far from its parent on {work.samples.said}: {said}. Nothing was published. What "
        f"costs most: {costs}. Try --mixed, which keeps the worst operators in float, or --keep-float NAMES, another "
        "--calibration, --scheme int8-weights or fp16; --min-snr DB sets another floor, --max-drop with labelled data "
        "decides by these instead"
    )


def _check_drop(options: QuantizeOptions, before: Evaluation | None, after: Evaluation | None) -> None:
    allowed = options.max_drop
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


def _check_growth(parent: Artifact, made: Path) -> None:
    before, after = size_bytes(parent.path), made.stat().st_size
    if after > before:
        raise QualityError(
            f"the quantized file has {after:,} bytes, its parent {before:,}: it grew, nothing was published. Files so "
            "small gain nothing from quantization: ship the float one"
        )
