"""What one cell of a bench is before it is opened."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.bench.shapes import Shapes
from edgekit.results.loaded import Budget
from edgekit.types import Artifact, DeviceSpec


@dataclass(frozen=True, slots=True)
class CellPlan:
    """What is to be timed. ``model`` is the user's spelling; ``runtime`` None is the first one for the format.

    ``number``: place of the cell in the run. ``streams``: samples of one query (multi-stream), as one batch where the
    file's first axis is free, else as so many runs. ``budget``: memory of the microcontroller it stands for.
    """

    model: str
    artifact: Artifact
    device: DeviceSpec
    runtime: str | None
    threads: int
    scenario: str
    batch: int | None
    shapes: Shapes
    input: str | None
    seed: int
    workers: int
    number: int
    streams: int = 1
    timeout_s: float = 60.0
    budget: Budget | None = None
