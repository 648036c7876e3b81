"""``inspect``: what a model file is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import card_to_json, onnx_parts, open_artifact, sha256_model, size_bytes
from edgekit.cardfile import signature_to_json
from edgekit.options.base import with_options
from edgekit.options.measure import InspectOptions
from edgekit.passes.calibration import Calibration
from edgekit.quality.account import account
from edgekit.quality.contents import file_signature, operators
from edgekit.quality.state import keeps_state
from edgekit.types import Artifact, Format, Signature


@dataclass(frozen=True)
class InspectResult:
    """What a model file is; ``account`` is None for a file with nothing quantized in it, ``stateful`` for one without
    operators that keep a state in variables.

    ``bytes`` and ``sha256`` are of all that is shipped: ``parts`` names the files beside an ONNX file that hold its
    weights.
    """

    artifact: Artifact
    signature: Signature
    operators: dict[str, int]
    bytes: int
    sha256: str
    account: dict[str, Any] | None
    parts: tuple[str, ...] = ()
    stateful: bool | None = None

    def document(self) -> dict[str, Any]:
        card = self.artifact.card
        described = None if card is None else card_to_json(card)
        return {
            "model": str(self.artifact.path),
            "format": self.artifact.format,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "parts": list(self.parts),
            "signature": signature_to_json(self.signature),
            "operators": self.operators,
            "stateful": self.stateful,
            "account": self.account,
            "steps": [] if described is None else list(described.get("steps", ())),
            "card": described,
        }


@dataclass(frozen=True)
class CalibrationResult:
    """What a saved calibration holds."""

    path: Path
    calibration: Calibration

    def document(self) -> dict[str, Any]:
        found = self.calibration
        return {
            "calibration": str(self.path),
            "method": found.method,
            "data": found.data,
            "samples": found.samples,
            "halves": found.halves,
            "model_sha256": found.model_sha256,
            "ranges": [
                {"layer": found.layers.get(name, ""), "tensor": name, "low": one.low, "high": one.high}
                for name, one in found.ranges.items()
            ],
            "notes": list(found.notes),
        }


@with_options(InspectOptions)
def inspect(options: InspectOptions) -> InspectResult | CalibrationResult:
    """Reads a model file: card, signature, operators, size, integer account, history. Works on files from elsewhere.
    Of a saved calibration (.json): method, data, samples, ranges.

    Raises:
        ModelError: the file is missing or not valid.
        DataError: a .json that is not a calibration.
    """
    if Path(options.model).suffix.lower() == ".json":
        return CalibrationResult(Path(options.model), Calibration.load(Path(options.model)))
    artifact = open_artifact(options.model)
    signature = artifact.card.signature if artifact.card else file_signature(artifact)
    found = account(artifact) if artifact.format in (Format.ONNX, Format.TFLITE) else None
    return InspectResult(
        artifact=artifact,
        signature=signature,
        operators=operators(artifact),
        bytes=size_bytes(artifact.path),
        sha256=sha256_model(artifact.path),
        account=found.document() if found is not None and found.quantized else None,
        parts=tuple(onnx_parts(artifact.path)) if artifact.format is Format.ONNX else (),
        stateful=keeps_state(artifact),
    )
