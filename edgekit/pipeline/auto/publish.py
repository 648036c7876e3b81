"""The chosen file under its name, with a card that says why it is this one and on what evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import library_versions, sha256_model, size_bytes, write_card
from edgekit.devices import open_runner
from edgekit.outputs import as_file
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.ways import Way
from edgekit.quality.coverage import coverage
from edgekit.quality.likeness import LIKENESS
from edgekit.quality.paired import quality_change
from edgekit.results.base import PublishedFile, to_json
from edgekit.results.compressed import Device, FidelityFigures, MatchRatio, Parent, of_card
from edgekit.results.eval import Evaluation
from edgekit.results.quantize import AutoResult, ParentFile
from edgekit.types import Card, Quality, Step, Task


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen trial, the fastest float file, their quality on the samples that were not chosen on, the device, and
    all that was tried."""

    chosen: Trial
    best: Trial
    before: Evaluation
    after: Evaluation
    device: Device
    max_drop: float
    trials: Sequence[Trial]

    def step(self) -> Step:
        """The step of the card. Its figures are of the device named there, with the kind of evidence it gives."""
        chosen, found, way = self.chosen, self.chosen.comparison, self.chosen.way
        assert way is not None
        params: dict[str, Any] = {
            "scheme": chosen.candidate.scheme,
            "runtime": way.runtime,
            "threads": way.threads,
            "device": to_json(self.device),
            "evidence": way.device.evidence.value,
            "max_drop": self.max_drop,
            "candidates": len(self.trials),
            "fastest_float": self.best.name,
        }
        if found is not None and found.ci95 is not None:
            params |= {"ratio_p50": found.ratio, "ci95": list(found.ci95), "verdict": found.verdict.value}
        if chosen.quality is not None:
            params["chosen_on"] = {"data": chosen.quality.data, "total": chosen.quality.total, "drop": chosen.drop}
        return Step("auto", params, library_versions("onnxruntime", "ai-edge-litert"))


def publish(choice: Choice, place: Path, notes: tuple[str, ...], parent: Path | None) -> AutoResult:
    """Writes the file under its name, with its card. ``parent``: the checkpoint that was given, if it was one.

    Raises:
        StorageError, UsageError: the place cannot be written; nothing is published.
    """
    chosen, best, way = choice.chosen.made, choice.best.made, choice.chosen.way
    assert chosen is not None and best is not None and way is not None
    step = choice.step()
    card = (chosen.artifact.card or _card_of(choice.chosen)).with_step(step, *notes)
    against = _against(choice)
    card = replace(card, quality=_figure(choice, way), parent=to_json(against))
    found = coverage(chosen.artifact, chosen.left_in_float)
    with as_file(place, f".{chosen.artifact.format}") as file:
        write_card(chosen.artifact.path, card, file)
        size, digest = size_bytes(file), sha256_model(file)
    return AutoResult(
        artifact=PublishedFile(place, chosen.artifact.format, card, size, digest),
        parent=ParentFile(path=parent or best.artifact.path, sha256=against.sha256, bytes=best.bytes),
        step=step,
        account=found,
        notes=(*chosen.notes, *notes),
        against=against,
        before=choice.before,
        after=choice.after,
        best_float=choice.best.name,
        device=choice.device,
        trials=tuple(trial.row() for trial in choice.trials),
    )


def _figure(choice: Choice, way: Way) -> tuple[Quality, ...]:
    """The chosen file's figure as a card keeps it; likeness to another file does not belong on it."""
    if choice.after.metric == LIKENESS:
        return ()
    return (choice.after.quality(way.runtime, way.device.name),)


def _against(choice: Choice) -> Parent:
    """How the chosen file compares with the fastest float one, as every compressed file's card says it."""
    chosen, best, found, way = choice.chosen.made, choice.best.made, choice.chosen.comparison, choice.chosen.way
    assert chosen is not None and best is not None and way is not None
    same_format = chosen.artifact.format is best.artifact.format  # else every operator has another name
    parent = coverage(best.artifact) if same_format else None
    time = None
    if found is not None:
        device, ratio = choice.device, found.ratio_p50
        time = MatchRatio(ratio_p50=ratio, ci95=found.ci95, verdict=found.verdict, device=device, threads=way.threads)
    return Parent(
        sha256=sha256_model(best.artifact.path),
        bytes=best.bytes,
        inserted={} if parent is None else coverage(chosen.artifact).inserted(parent),
        quality=quality_change(choice.before, choice.after),
        fidelity=choice.chosen.fidelity or _fidelity(chosen.artifact.card),
        time=time,
    )


def _fidelity(card: Card | None) -> FidelityFigures | None:
    """What the chosen file showed beside its own float file when it was made; None for a float file."""
    parent = card.parent if card is not None else None
    return None if parent is None else of_card(Parent, parent, "parent").fidelity


def _card_of(trial: Trial) -> Card:
    """A card for a float file that was made elsewhere and has none."""
    assert trial.made is not None and trial.way is not None
    path = trial.made.artifact.path
    with open_runner(path, device=trial.way.device, runtime=trial.way.runtime) as runner:
        return Card(path.stem, "custom", Task(), runner.signature)
