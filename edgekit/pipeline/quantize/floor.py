"""The floor of a compressed file's outputs: what is said, or refused, where they miss it."""

from __future__ import annotations

from edgekit.errors import ModelError, QualityError
from edgekit.pipeline.quantize.make import Work
from edgekit.pipeline.quantize.mixed import ranked
from edgekit.pipeline.quantize.plan import Plan
from edgekit.pipeline.quantize.proof import Proof

COSTLIEST = 3
"""Operators that a refusal names."""


def check_floor(work: Work, proof: Proof, plan: Plan | None, *, binding: bool) -> tuple[str, ...]:
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


def _costs(work: Work, proof: Proof, plan: Plan | None) -> str:
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
