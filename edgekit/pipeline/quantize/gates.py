"""What a compressed file has to be before it is published: near its parent, as good, smaller, and not slower."""

from __future__ import annotations

from pathlib import Path

from edgekit.artifact import size_bytes
from edgekit.errors import DataError, ModelError, QualityError
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline.quantize.make import QuantizedFile, Work
from edgekit.pipeline.quantize.mixed import ranked
from edgekit.pipeline.quantize.proof import Proof
from edgekit.quality.coverage_tflite import IN_LOOP, hybrid_products
from edgekit.quantization.schemes import scheme
from edgekit.results.compressed import TimeRatio
from edgekit.results.eval import Evaluation, drop
from edgekit.results.quantize import MixedPlan
from edgekit.types import Artifact, Format, Verdict

GAIN = 0.1
"""Share of the bytes that an int8 file which is not faster has to save."""
COSTLIEST = 3
"""Operators that a refusal names."""


def check_integers(options: QuantizeOptions, made: QuantizedFile) -> None:
    """Refuses recurrent layers that compute in float all the same, for a target without floating point.

    Raises:
        QualityError: there are such.
    """
    if not options.integers_only:
        return
    recurrent = ops.names(Format.TFLITE, Family.RECURRENT)
    left = [one for one in made.account.left_float if one.operator in recurrent or one.reason.endswith(IN_LOOP)]
    hybrid = hybrid_products(made.path) if made.account.hybrid_operators else ()
    if left or hybrid:
        found = ", ".join(dict.fromkeys(one.operator for one in left)) or f"hybrid {', '.join(hybrid)}"
        raise QualityError(
            f"--for {options.for_} computes on integers only, and {found} of recurrent layers would not: "
            f"{'; '.join(made.notes) or 'see --dry-run'}. Nothing was published; leave --for out for a CPU"
        )


def check_time(options: QuantizeOptions, time: TimeRatio | None) -> tuple[str, ...]:
    """What is to be said of the time of the file.

    Args:
        time: what :func:`edgekit.pipeline.quantize.timing.timed` gives; None where it was not timed.

    Raises:
        QualityError: the scheme is there to make files faster, and this one is called slower than its parent.
    """
    if time is None or time.verdict is not Verdict.SLOWER:
        return ()
    found = f"{time.ratio_p50:.2f} times its parent's time on {options.device}"
    if not scheme(options.scheme).for_speed:
        return (f"slower: it takes {found}",)
    if options.allow_slower:
        return (f"slower: it takes {found}; published since slower files are allowed",)
    raise QualityError(
        f"the file takes {found} and is called slower; nothing was published. Another format or runtime may have "
        "faster integer kernels (--scheme auto tries them), int8-weights is as small; --allow-slower publishes it"
    )


def check_gain(options: QuantizeOptions, parent: Artifact, made: Path, time: TimeRatio | None) -> tuple[str, ...]:
    """What is to be said of an int8 file that is less than a tenth smaller than its parent, where nobody timed it.

    A target that computes on integers only gains by it what no float file has: it may even grow there.

    Raises:
        QualityError: it is not called faster, either.
    """
    if options.scheme != "int8" or options.integers_only or options.allow_slower:
        return ()
    before, after = size_bytes(parent.path), made.stat().st_size
    found = f"the file has {after:,} bytes, its parent {before:,}"
    if after <= (1 - GAIN) * before or (time is not None and time.verdict is Verdict.FASTER):
        return ()
    if time is None:
        return (f"{found}, and it was not timed: whether anything was gained is not known",)
    raise QualityError(
        f"{found}, and it is not called faster: nothing was gained and nothing was published. Ship the float file, or "
        "try --scheme int8-weights; --for mcu makes a file for a device without floating point"
    )


def check_drop(options: QuantizeOptions, before: Evaluation | None, after: Evaluation | None) -> None:
    """Raises QualityError for a loss of quality beyond ``max_drop``.

    Raises:
        DataError: there is no quality to compare.
    """
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


def check_growth(options: QuantizeOptions, parent: Artifact, made: Path) -> None:
    """Raises QualityError for a file that is larger than its parent, unless its target wants integers at any size."""
    before, after = size_bytes(parent.path), made.stat().st_size
    if after > before and not options.integers_only:
        raise QualityError(
            f"the quantized file has {after:,} bytes, its parent {before:,}: it grew, nothing was published. Files so "
            "small gain nothing from quantization: ship the float one"
        )


def check_floor(work: Work, proof: Proof, plan: MixedPlan | None, *, binding: bool) -> tuple[str, ...]:
    """What is to be said of a file that misses a floor that does not bind.

    Args:
        plan: what each operator costs, where that was found already.

    Raises:
        QualityError: it misses one that does.
    """
    if not proof.failures:
        return ()
    said = "; ".join(proof.failures)
    if not binding:
        return (f"{said}. That is below the floor; the loss of quality on labelled data is what decides",)
    mixed = "" if work.options.keep else "--mixed, which keeps the worst operators in float, or "
    raise QualityError(
        f"the compressed file is too far from its parent on {work.samples.said}: {said}. Nothing was published. "
        f"{_costs(work, proof, plan)}. Try {mixed}--keep-float NAMES, "
        "another --calibration, --scheme int8-weights or fp16; --min-snr DB sets another floor, --max-drop with "
        "labelled data decides by these instead"
    )


def _costs(work: Work, proof: Proof, plan: MixedPlan | None) -> str:
    """Which operators cost most, or why that is not known: some run in a delegate alone."""
    kept = plan.keep if plan is not None else ()
    try:
        layers = plan.layers if plan is not None and plan.layers else ranked(work, proof).layers
    except ModelError as error:
        return f"What each operator costs is not known ({error})"
    worst = [str(one) for one in layers if one.name not in kept][:COSTLIEST]
    if not worst:
        return "No operator on integers is left in the main graph; those in loops and branches are not taken apart"
    return f"What costs most: {'; '.join(worst)}"
