"""A plan of mixed precision: what each operator costs by itself, and which stay in float."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.artifact import sha256_model
from edgekit.documents import parse_json, typed
from edgekit.errors import DataError
from edgekit.inputs import read_regular
from edgekit.outputs import publishing
from edgekit.quantization.onnx.float_layers import SUFFIX
from edgekit.results.quantize import PLAN_SCHEMA, MixedPlan, Sensitivity
from edgekit.types import Artifact


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
