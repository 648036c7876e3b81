"""Mixed precision: what each operator costs by itself, which stay in float, and the file that has them so."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import sha256_model
from edgekit.documents import parse_json, typed
from edgekit.errors import DataError, ModelError
from edgekit.inputs import read_regular
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import publishing
from edgekit.pipeline.quantize.make import QuantizedFile, Work, make
from edgekit.pipeline.quantize.proof import Proof, prove
from edgekit.quality.fidelity import Fidelity, Floor
from edgekit.quality.simulate import Simulation
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.onnx.real_values import SUFFIX
from edgekit.quantization.prepared import Prepared, check_names, named
from edgekit.results.eval import drop
from edgekit.results.quantize import PLAN_SCHEMA, MixedPlan, Sensitivity
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
    if not work.scheme.adapts or work.options.integers_only or fine:
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


def given_plan(source: Prepared, options: QuantizeOptions) -> MixedPlan | None:
    """What the user wants in float, checked against the file; None where that is to be found."""
    how = options.keep
    if how is None or how == "auto":
        return None
    artifact, known = source.artifact, source.operators()
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


def reasons(plan: MixedPlan) -> dict[str, str]:
    """Kept operator -> why, for the account."""
    known = {one.name: one for one in plan.layers}
    kept = {name: _why(known.get(name), plan.scheme) for name in plan.keep}
    return kept | {f"{name}{SUFFIX}": f"a copy that keeps onnxruntime from quantizing {name}" for name in kept}


def save_plan(plan: MixedPlan, path: Path) -> None:
    """Writes the plan as JSON."""
    with publishing(path) as temporary:
        temporary.write_text(json.dumps(plan.document(), indent=1, allow_nan=False), encoding="utf-8")


def load_plan(path: Path, artifact: Artifact, scheme: str) -> MixedPlan:
    """Reads what :func:`save_plan` wrote, for the same file and scheme.

    Raises:
        DataError: not a plan, or one of another file or scheme.
    """
    document = parse_json(read_regular(path, DataError, "a plan", "DOCUMENT_BYTES"), DataError, path)
    if not isinstance(document, dict) or document.get("schema") != PLAN_SCHEMA:
        raise DataError(f"{path} is not a plan of mixed precision; --mixed with -o FILE.json writes one")
    try:
        plan = typed(MixedPlan, document, "it")
    except ValueError as error:
        raise DataError(f"{path} is not a plan of mixed precision: {error}") from error
    if plan.model_sha256 != sha256_model(artifact.path) or plan.scheme != scheme:
        raise DataError(f"{path} is a plan of another file or scheme ({plan.scheme}) than {artifact.path}, {scheme}")
    return plan


def _why(one: Sensitivity | None, scheme: str) -> str:
    if one is None:
        return "kept in float by mixed precision: it was named"
    left = "" if one.snr_db is None else f"{one.snr_db:.1f} dB of the worst output are left"
    dead = f"{one.dead_channels} channels are dead" if one.dead_channels else ""
    return f"kept in float: alone in {scheme} {' and '.join(part for part in (left, dead) if part)}"
