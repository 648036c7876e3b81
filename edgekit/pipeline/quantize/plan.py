"""A plan of mixed precision: what each operator costs by itself, and which stay in float."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_model
from edgekit.documents import parse_json, typed
from edgekit.errors import DataError
from edgekit.inputs import read_regular
from edgekit.outputs import publishing
from edgekit.passes.onnx_float import SUFFIX
from edgekit.types import Artifact

SCHEMA = "edgekit.mixed-plan/2"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What is left of the outputs with one operator quantized and all others in float.

    Attributes:
        name, operator: its name and type.
        snr_db: signal to noise of the worst output, in decibels; None where no output is real.
        dead_channels: channels of the outputs that are constant then.
        ruinous: these outputs miss the scheme's own floor already.
    """

    name: str
    operator: str
    snr_db: float | None
    dead_channels: int = 0
    ruinous: bool = False

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Larger is worse: what ruins a channel comes before what only adds noise."""
        return self.ruinous, self.dead_channels, -(self.snr_db if self.snr_db is not None else 0.0)

    def __str__(self) -> str:
        left = "" if self.snr_db is None else f" leaves {self.snr_db:.1f} dB"
        dead = f", {self.dead_channels} dead channels" if self.dead_channels else ""
        return f"{self.name} ({self.operator}) alone{left}{dead}"


@dataclass(frozen=True)
class Plan:
    """Which operators stay in float, and why. ``layers``: worst first; ``keep``: names of those that stay.

    ``by_itself``: nobody asked for it, the quantizer found that they ruin the outputs.
    """

    scheme: str
    model_sha256: str
    data: str
    samples: int
    layers: tuple[Sensitivity, ...]
    keep: tuple[str, ...] = ()
    max_drop: float | None = None
    drop: float | None = None
    by_itself: bool = False

    def document(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    def reasons(self) -> dict[str, str]:
        """Kept operator -> why, for the account."""
        known = {one.name: one for one in self.layers}
        kept = {name: _why(known.get(name), self.scheme) for name in self.keep}
        return kept | {f"{name}{SUFFIX}": f"a copy that keeps onnxruntime from quantizing {name}" for name in kept}

    def save(self, path: Path) -> None:
        """Writes the plan as JSON."""
        with publishing(path) as temporary:
            temporary.write_text(json.dumps(self.document(), indent=1, allow_nan=False), encoding="utf-8")


def load_plan(path: Path, artifact: Artifact, scheme: str) -> Plan:
    """Reads what :meth:`Plan.save` wrote, for the same file and scheme.

    Raises:
        DataError: not a plan, or one of another file or scheme.
    """
    document = parse_json(read_regular(path, DataError, "a plan", "DOCUMENT_BYTES"), DataError, path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DataError(f"{path} is not a plan of mixed precision; --mixed with -o FILE.json writes one")
    try:
        plan = typed(Plan, document, "it")
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
