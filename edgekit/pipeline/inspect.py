"""``inspect``: what a model file is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.artifact import card_to_json, onnx_parts, open_artifact, sha256_model, size_bytes
from edgekit.devices import open_worker
from edgekit.devices.mcu import measured_arena
from edgekit.errors import EdgekitError, RuntimeMissingError, UsageError
from edgekit.graph import micro
from edgekit.options.base import with_options
from edgekit.options.measure import InspectOptions
from edgekit.outputs import publishing
from edgekit.quality.contents import file_signature, operators, with_foreign_metadata
from edgekit.quality.coverage import coverage
from edgekit.quality.file_facts import file_facts
from edgekit.quality.state import keeps_state
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.report.graph import SUFFIXES, draw
from edgekit.results.inspect import CalibrationResult, InspectResult, MicroFacts, RangeRow
from edgekit.types import Artifact, Format

LARGEST = 32 << 20
"""Bytes of a file up to which it is tried on a microcontroller: the largest have 16 MB of flash beside them."""


@with_options(InspectOptions)
def inspect(options: InspectOptions) -> InspectResult | CalibrationResult:
    """Reads a model file: card, signature, operators, size, integer account, history. Works on files from elsewhere.
    Of a saved calibration (.json): method, data, samples, ranges.

    ``graph``: where the operators are drawn, as SVG or as a page of HTML.

    Raises:
        UsageError: another suffix than those.
        UnsupportedError: a drawing of another format than ONNX or TFLite.
        ModelError: the file is missing or not valid.
        DataError: a .json that is not a calibration.
    """
    target = None if options.graph is None else Path(options.graph)
    if target is not None and target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--graph {target} must end in {' or '.join(SUFFIXES)}")
    if Path(options.model).suffix.lower() == ".json":
        if target is not None:
            raise UsageError("--graph draws the operators of a model file; a calibration has none")
        return _calibration(Path(options.model), Calibration.load(Path(options.model)))
    artifact = with_foreign_metadata(open_artifact(options.model))
    signature = artifact.card.signature if artifact.card else file_signature(artifact)
    found = coverage(artifact) if artifact.format in (Format.ONNX, Format.TFLITE, Format.PTE) else None
    if target is not None:
        drawing = draw(artifact, target)
        with publishing(target) as temporary:
            temporary.write_text(drawing, encoding="utf-8")
    facts = replace(file_facts(artifact), macs=None if found is None else found.macs)
    kinds = operators(artifact)
    return InspectResult(
        artifact=artifact,
        signature=signature,
        facts=facts,
        operators=kinds,
        micro=_micro(artifact, tuple(kinds)) if artifact.format is Format.TFLITE else None,
        bytes=size_bytes(artifact.path),
        sha256=sha256_model(artifact.path),
        account=found if found is not None and found.quantized else None,
        parts=tuple(onnx_parts(artifact.path)) if artifact.format is Format.ONNX else (),
        stateful=keeps_state(artifact),
        steps=() if artifact.card is None else artifact.card.steps,
        card=None if artifact.card is None else card_to_json(artifact.card),
    )


def _micro(artifact: Artifact, kinds: tuple[str, ...]) -> MicroFacts:
    """What a microcontroller needs for the file: tried where tflite-micro is, and where it is small enough."""
    missing = micro.missing(kinds)
    known = MicroFacts(register=tuple(micro.method(kind) for kind in kinds if kind not in missing), missing=missing)
    if missing:
        return replace(known, runs=False, note=f"it does not have {', '.join(missing)}")
    if size_bytes(artifact.path) > LARGEST:
        return replace(known, note=f"not tried: no microcontroller has {LARGEST >> 20} MB of flash")
    try:
        with open_worker("mcu") as client:
            client.load(artifact.path)
            return replace(known, runs=True, arena=measured_arena(client))
    except RuntimeMissingError as error:
        return replace(known, note=str(error))
    except EdgekitError as error:
        return replace(known, runs=False, note=str(error))


def _calibration(path: Path, found: Calibration) -> CalibrationResult:
    return CalibrationResult(
        calibration=path,
        method=found.method,
        data=found.data,
        samples=found.samples,
        halves=found.halves,
        model_sha256=found.model_sha256,
        ranges=tuple(RangeRow(found.layers.get(name, ""), name, r.low, r.high) for name, r in found.ranges.items()),
        notes=found.notes,
    )
