"""The chosen file under its name, with a card that says why it is this one and on what evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifact import library_versions, sha256_model, size_bytes, write_card
from edgekit.devices import open_runner
from edgekit.outputs import as_file
from edgekit.pipeline.search.final import Finisher
from edgekit.pipeline.search.measuring import TimedFile
from edgekit.quality.coverage import coverage
from edgekit.quality.likeness import LIKENESS
from edgekit.quality.paired import quality_change
from edgekit.results.base import PublishedFile, to_json
from edgekit.results.compressed import Device, FidelityFigures, MatchRatio, Parent, of_card
from edgekit.results.eval import Evaluation
from edgekit.results.quantize import AutoResult, ParentFile, TrialRow
from edgekit.types import Card, Quality, Step, Task


@dataclass(frozen=True, slots=True)
class Choice:
    """What is published, and what it stands on.

    Attributes:
        best: the fastest float file.
        before, after: their quality on the samples that they were not chosen on.
        fidelity: of a runtime in fewer bits, beside the float file in float32.
        trials: all that was tried.
    """

    chosen: Finisher
    best: Finisher
    scheme: str
    before: Evaluation
    after: Evaluation
    fidelity: FidelityFigures | None
    device: Device
    max_drop: float
    trials: Sequence[TrialRow]

    def step(self) -> Step:
        """The step of the card. Its figures are of the device named there, with the kind of evidence it gives."""
        found, way = self.chosen.time.comparison, self.chosen.timed.way
        row = next(row for row in self.trials if row.chosen)
        params: dict[str, Any] = {
            "scheme": self.scheme,
            "runtime": way.runtime,
            "threads": way.threads,
            "device": to_json(self.device),
            "evidence": way.device.evidence.value,
            "max_drop": self.max_drop,
            "candidates": len(self.trials),
            "fastest_float": self.best.timed.name,
        }
        if found is not None and found.ci95 is not None:
            params |= {"ratio_p50": found.ratio, "ci95": list(found.ci95), "verdict": found.verdict.value}
        if row.quality is not None:
            params["chosen_on"] = {"data": row.quality.data, "total": row.quality.total, "drop": row.quality.drop}
        return Step("auto", params, library_versions("onnxruntime", "ai-edge-litert"))


def publish(choice: Choice, place: Path, notes: tuple[str, ...], parent: Path | None) -> AutoResult:
    """Writes the file under its name, with its card. ``parent``: the checkpoint that was given, if it was one.

    Raises:
        StorageError, UsageError: the place cannot be written; nothing is published.
    """
    chosen, best, document = choice.chosen.timed.file, choice.best.timed.file, choice.chosen.timed.file.document
    artifact = chosen.artifact
    step = choice.step()
    card = (artifact.card or _card_of(choice.chosen.timed)).with_step(step, *notes)
    against = _against(choice)
    card = replace(card, quality=_figure(choice), parent=to_json(against))
    left = document.get("account", {}).get("left_float", ())
    with as_file(place, f".{artifact.format}") as file:
        write_card(artifact.path, card, file)
        size, digest = size_bytes(file), sha256_model(file)
    return AutoResult(
        artifact=PublishedFile(place, artifact.format, card, size, digest),
        parent=ParentFile(path=parent or best.artifact.path, sha256=against.sha256, bytes=best.bytes),
        step=step,
        account=coverage(artifact, {row["name"]: row["reason"] for row in left}),
        notes=(*document.get("notes", ()), *notes),
        against=against,
        before=choice.before,
        after=choice.after,
        best_float=choice.best.timed.name,
        device=choice.device,
        trials=tuple(choice.trials),
    )


def _figure(choice: Choice) -> tuple[Quality, ...]:
    """The chosen file's figure as a card keeps it; likeness to another file does not belong on it."""
    if choice.after.metric == LIKENESS:
        return ()
    way = choice.chosen.timed.way
    return (choice.after.quality(way.runtime, way.device.name),)


def _against(choice: Choice) -> Parent:
    """How the chosen file compares with the fastest float one, as every compressed file's card says it."""
    chosen, best, found = choice.chosen.timed, choice.best.timed, choice.chosen.time.comparison
    artifact, before = chosen.file.artifact, best.file.artifact
    parent = coverage(before) if artifact.format is before.format else None  # else every operator has another name
    time = None
    if found is not None:
        time = MatchRatio(
            ratio_p50=found.ratio_p50, ci95=found.ci95, verdict=found.verdict, device=choice.device,
            threads=chosen.way.threads,
        )  # fmt: skip
    return Parent(
        sha256=best.file.sha256,
        bytes=best.file.bytes,
        inserted={} if parent is None else coverage(artifact).inserted(parent),
        quality=quality_change(choice.before, choice.after),
        fidelity=choice.fidelity or _fidelity(artifact.card),
        time=time,
    )


def _fidelity(card: Card | None) -> FidelityFigures | None:
    """What the chosen file showed beside its own float file when it was made; None for a float file."""
    parent = card.parent if card is not None else None
    return None if parent is None else of_card(Parent, parent, "parent").fidelity


def _card_of(timed: TimedFile) -> Card:
    """A card for a float file that was made elsewhere and has none."""
    path = timed.file.artifact.path
    with open_runner(path, device=timed.way.device, runtime=timed.way.runtime) as runner:
        return Card(path.stem, "custom", Task(), runner.signature)
