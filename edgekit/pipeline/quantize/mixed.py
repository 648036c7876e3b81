"""Mixed precision: which operators stay in float, and the file that has them so."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgekit.artifact import sha256_model
from edgekit.passes.operators import check_names, named, operators
from edgekit.pipeline.quantize.make import Made, Work, make, quantizer_of
from edgekit.pipeline.quantize.options import QuantizeOptions
from edgekit.pipeline.quantize.sensitivity import SAMPLES, Plan, load_plan, sensitivities
from edgekit.quality.evaluate import drop
from edgekit.types import Artifact

log = logging.getLogger("edgekit")


def mixed(work: Work, target: Path, given: Plan | None) -> tuple[Plan, Made]:
    """The file with the worst layers in float: as few as hold ``max_drop``, or those of the plan that was given."""
    plan = given or _ranked(work)
    made = make(work, target, plan.keep, plan.reasons())
    while given is None and (lost := _lost_too_much(work, made)) is not None:
        left = [one for one in plan.layers if one.name not in plan.keep and not one.reason]
        if not left:
            break
        log.info("down %.4f; %s stays in float", lost, left[0].name)
        plan = replace(plan, keep=(*plan.keep, left[0].name))
        made = make(work, target, plan.keep, plan.reasons())
    if work.before.quality is not None and made.after.quality is not None:
        plan = replace(plan, drop=drop(work.before.quality, made.after.quality))
    return plan, made


def given_plan(artifact: Artifact, options: QuantizeOptions) -> Plan | None:
    """What the user wants in float, checked against the file; None where that is to be found."""
    how = options.mixed
    if how is None or how == "auto":
        return None
    known = operators(artifact)
    if how.endswith(".json"):
        plan = load_plan(Path(how), artifact, options.scheme)
    else:
        plan = Plan(options.scheme, sha256_model(artifact.path), "", 0, (), named(how, known))
    check_names(frozenset(plan.keep), known)
    return plan


def _ranked(work: Work) -> Plan:
    fit = work.samples.fit
    assert fit is not None
    known = operators(work.parent)
    layers = sensitivities(work.source, work.before.signature, known, fit, partial(quantizer_of, work))
    digest = sha256_model(work.parent.path)
    return Plan(work.options.scheme, digest, fit.label, min(SAMPLES, len(fit)), layers, (), work.options.max_drop)


def _lost_too_much(work: Work, made: Made) -> float | None:
    """The drop where it is beyond ``max_drop``; None where it is not, or where there is no limit."""
    allowed, before, after = work.options.max_drop, work.before.quality, made.after.quality
    if allowed is None or before is None or after is None:
        return None
    lost = drop(before, after)
    return lost if lost > allowed else None
