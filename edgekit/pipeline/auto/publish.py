"""The chosen file under its name, with a card that says why it is this one and on what evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import library_versions, sha256_model, size_bytes, write_card
from edgekit.devices import open_runner
from edgekit.outputs import as_file
from edgekit.passes.quantize_onnx import float_reasons
from edgekit.pipeline.auto.result import AutoResult
from edgekit.pipeline.auto.trial import Trial
from edgekit.quality.account import account
from edgekit.quality.evaluate import Evaluation
from edgekit.quality.paired import quality_document
from edgekit.types import Artifact, Card, Format, Step, Task


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen trial, the fastest float file, their quality on the samples that were not chosen on, the device."""

    chosen: Trial
    best: Trial
    before: Evaluation
    after: Evaluation
    device: dict[str, Any]
    max_drop: float
    tried: int

    def step(self) -> Step:
        """The step of the card. Its figures are of the device named there, with the kind of evidence it gives."""
        chosen, found, way = self.chosen, self.chosen.comparison, self.chosen.way
        assert way is not None
        params: dict[str, Any] = {
            "scheme": chosen.candidate.scheme,
            "runtime": way.runtime,
            "threads": way.threads,
            "device": self.device,
            "evidence": way.device.evidence.value,
            "max_drop": self.max_drop,
            "candidates": self.tried,
            "fastest_float": self.best.name,
        }
        if found is not None and found.low is not None:
            params |= {"ratio_p50": found.ratio, "ci95": [found.low, found.high], "verdict": found.verdict.value}
        if chosen.quality is not None:
            params["chosen_on"] = {"data": chosen.quality.data, "total": chosen.quality.total, "drop": chosen.drop}
        return Step("auto", params, library_versions("onnxruntime", "ai-edge-litert"))


def publish(choice: Choice, place: Path, notes: tuple[str, ...]) -> AutoResult:
    """Writes the file under its name, with its card.

    Raises:
        StorageError, UsageError: the place cannot be written; nothing is published.
    """
    chosen, best, way = choice.chosen.made, choice.best.made, choice.chosen.way
    assert chosen is not None and best is not None and way is not None
    step = choice.step()
    card = (chosen.artifact.card or _card_of(choice.chosen)).with_step(step, *notes)
    against = _against(choice)
    card = replace(card, quality=(choice.after.quality(way.runtime, way.device.name),), parent=against)
    tried = choice.chosen.candidate
    onnx = chosen.artifact.format is Format.ONNX and not tried.is_float
    found = account(chosen.artifact, float_reasons(tried.parent.path, tried.scheme) if onnx else {})
    with as_file(place, f".{chosen.artifact.format}") as file:
        write_card(chosen.artifact.path, card, file)
        size, digest = size_bytes(file), sha256_model(file)
    return AutoResult(
        Artifact(place, chosen.artifact.format, card),
        size,
        digest,
        best.artifact.path,
        best.bytes,
        step,
        found,
        choice.before,
        choice.after,
        (*chosen.notes, *notes),
        against=against,
    )


def _against(choice: Choice) -> dict[str, Any]:
    """How the chosen file compares with the fastest float one, as every compressed file's card says it."""
    chosen, best, found, way = choice.chosen.made, choice.best.made, choice.chosen.comparison, choice.chosen.way
    assert chosen is not None and best is not None and way is not None
    same_format = chosen.artifact.format is best.artifact.format  # else every operator has another name
    parent = account(best.artifact) if same_format else None
    time: dict[str, Any] | None = None
    if found is not None:
        time = {"ratio_p50": found.ratio, "ci95": None if found.low is None else [found.low, found.high]}
        time |= {"verdict": found.verdict.value, "device": choice.device, "threads": way.threads}
    return {
        "sha256": sha256_model(best.artifact.path),
        "bytes": best.bytes,
        "inserted": {} if parent is None else account(chosen.artifact).inserted(parent),
        "quality": quality_document(choice.before, choice.after),
        "fidelity": _fidelity(chosen.artifact.card),
        "time": time,
    }


def _fidelity(card: Card | None) -> dict[str, Any] | None:
    """What the chosen file showed beside its own float file when it was made; None for a float file."""
    parent = card.parent if card is not None else None
    return None if parent is None else parent.get("fidelity")


def _card_of(trial: Trial) -> Card:
    """A card for a float file that was made elsewhere and has none."""
    assert trial.made is not None and trial.way is not None
    path = trial.made.artifact.path
    with open_runner(path, device=trial.way.device, runtime=trial.way.runtime) as runner:
        return Card(path.stem, "custom", Task(), runner.signature)
