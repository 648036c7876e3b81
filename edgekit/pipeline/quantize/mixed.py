"""Mixed precision: which operators stay in float, and the file that has them so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import sha256_model
from edgekit.errors import ModelError
from edgekit.options.quantize import INTEGERS_ONLY, QuantizeOptions
from edgekit.pipeline.quantize.make import QuantizedFile, Work, make
from edgekit.pipeline.quantize.plan import load_plan, reasons
from edgekit.pipeline.quantize.proof import Proof, prove
from edgekit.quality.fidelity import Fidelity, Floor
from edgekit.quality.simulate import Simulation
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.operators import check_names, named, operators
from edgekit.results.eval import drop
from edgekit.results.quantize import MixedPlan, Sensitivity
from edgekit.types import Artifact

log = logging.getLogger("edgekit")
SENSITIVITY_SAMPLES = 4
"""Samples on which an operator is tried by itself: of each the parent runs once an operator."""
SURE_DB = 15.0
"""By how much an operator has to be above its floor on the first of them not to be tried on the others."""
MARGIN_DB = 1.0
"""By how much the simulation has to be above the floor for its choice to be tried: it was within 0.1 dB of the file,
but for operators that round inside."""

Attempt = tuple[MixedPlan | None, QuantizedFile, Proof]


def whole(work: Work, target: Path) -> Attempt:
    """The file with everything quantized; int8 and int8-weights leave in float what ruins the outputs."""
    made = make(work, target)
    proof = prove(work, made)
    fine = not proof.failures or (_loss_allowed(work, made) and work.options.min_snr is None)
    if not work.scheme.adapts or work.options.for_ in INTEGERS_ONLY or fine:
        return None, made, proof
    try:
        plan = ranked(work, proof)
    except ModelError as error:
        log.info("what each operator costs is not known, so that none stays in float for it: %s", error)
        return None, made, proof
    order = [one.name for one in plan.layers]
    count = _fewest(proof, order, _wanted(proof), sum(one.ruinous for one in plan.layers))
    plan = replace(plan, keep=tuple(order[:count]), by_itself=True)
    if not plan.keep or len(plan.keep) == len(plan.layers):  # nothing would be left on integers
        return None, made, proof
    log.info("what ruins the outputs by itself stays in float: %s", listed(list(plan.keep)))
    return _attempt(work, target, plan)


def mixed(work: Work, target: Path, given: MixedPlan | None) -> Attempt:
    """The file with the worst operators in float: as few as hold ``max_drop``, or without it the floor; or those of the
    plan that was given."""
    if given is not None:
        return _attempt(work, target, given)
    made = make(work, target)
    proof = prove(work, made)
    plan = ranked(work, proof)
    if not _holds(work, made, proof):
        order = [one.name for one in plan.layers]
        count = 1 if work.options.max_drop is not None else _fewest(proof, order, _wanted(proof), 1)
        while count <= len(order):
            plan = replace(plan, keep=tuple(order[:count]))
            log.info("kept in float: %s", listed(list(plan.keep)))
            _, made, proof = _attempt(work, target, plan)
            if _holds(work, made, proof):
                break
            count += 1
    if work.before.quality is not None and made.after.quality is not None:
        plan = replace(plan, drop=drop(work.before.quality, made.after.quality))
    return plan, made, proof


def given_plan(artifact: Artifact, options: QuantizeOptions) -> MixedPlan | None:
    """What the user wants in float, checked against the file; None where that is to be found."""
    how = options.keep
    if how is None or how == "auto":
        return None
    known = operators(artifact)
    if how.endswith(".json"):
        plan = load_plan(Path(how), artifact, options.scheme)
    else:
        plan = MixedPlan(scheme=options.scheme, model_sha256=sha256_model(artifact.path), keep=named(how, known))
    check_names(frozenset(plan.keep), known)
    return plan


def ranked(work: Work, proof: Proof) -> MixedPlan:
    """What every operator on integers costs by itself, simulated; those without weights as well. Worst first."""
    calls = proof.calls[:SENSITIVITY_SAMPLES]
    with Simulation(proof.pair, calls) as simulation:
        log.info("what each of %d operators costs by itself", len(simulation.integers))
        own = Floor(work.scheme.floor_db)
        found = []
        for number in simulation.integers:
            alone = simulation.fidelity((number,), calls[:1])
            if Floor(own.output_db + SURE_DB).failures(alone.outputs):
                alone = simulation.fidelity((number,))
            found.append(_sensitivity(proof, own, number, alone))
    found.sort(key=lambda one: one.rank, reverse=True)
    digest, options = sha256_model(work.parent.path), work.options
    return MixedPlan(
        scheme=options.scheme,
        model_sha256=digest,
        data=work.samples.said,
        samples=len(calls),
        layers=tuple(found),
        max_drop=options.max_drop,
    )


def _sensitivity(proof: Proof, own: Floor, number: int, alone: Fidelity) -> Sensitivity:
    operator, dead = proof.pair.operators[number], sum(len(one.dead) for one in alone.outputs)
    ruinous = bool(own.failures(alone.outputs))
    least = None if alone.least_db is None else round(alone.least_db, 2)
    return Sensitivity(operator.name, operator.kind, least, dead, ruinous)


def _attempt(work: Work, target: Path, plan: MixedPlan) -> Attempt:
    made = make(work, target, plan.keep, reasons(plan))
    return plan, made, prove(work, made)


def _holds(work: Work, made: QuantizedFile, proof: Proof) -> bool:
    """Whether a file is good enough: by labels where a drop is allowed, by the floor where none is, or it was asked."""
    allowed = _loss_allowed(work, made)
    if allowed is None or work.options.min_snr is not None:
        return allowed is not False and not proof.failures
    return allowed


def _loss_allowed(work: Work, made: QuantizedFile) -> bool | None:
    """Whether ``max_drop`` holds; None where there is no limit, or nothing to measure it on."""
    limit, before, after = work.options.max_drop, work.before.quality, made.after.quality
    return None if limit is None or before is None or after is None else drop(before, after) <= limit


def _wanted(proof: Proof) -> Floor:
    return Floor(proof.floor.output_db + MARGIN_DB)


def _fewest(proof: Proof, order: Sequence[str], floor: Floor, least: int) -> int:
    """How many of the worst operators, ``least`` or more, stay in float for the simulation to reach the floor."""
    with Simulation(proof.pair, proof.calls[:SENSITIVITY_SAMPLES]) as simulation:
        numbers = {proof.pair.operators[number].name: number for number in simulation.integers}

        def reaches(count: int) -> bool:
            left = [numbers[name] for name in order[count:]]
            return not floor.failures(simulation.fidelity(left).outputs)

        low, high = least, len(order)
        if reaches(low):
            return low
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low
