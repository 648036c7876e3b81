"""What ``inspect``, ``models`` and ``run`` find: what a file is, what the zoo has, what a model says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgekit.documents import typed
from edgekit.results.base import Result, derived, hidden, optional
from edgekit.results.compressed import CoverageReport
from edgekit.results.loaded import Arena
from edgekit.types import Array, Artifact, Format, Quality, QuantizedTensor, Signature, Step, Task

SHOWN_VALUES = 8
"""Values of an output that a document and the screen show where the model has no labels."""


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What a model file says of itself.

    Attributes:
        parameters: weights and biases that the file holds, after what its converter folded; null for ``.pt2`` and
            SavedModel.
        macs: multiply-accumulates of a run; null where a size is free.
        opset: domain -> version, of ONNX.
        ir_version: of ONNX; schema_version: of TFLite.
        producer: the program that wrote it.
        signatures: names of the signatures of a TFLite file.
        quantized_io: integer inputs and outputs by name: ``real = scale * (integer - zero_point)``.
    """

    parameters: int | None = None
    macs: int | None = None
    opset: Mapping[str, int] | None = None
    ir_version: int | None = None
    schema_version: int | None = None
    producer: str = ""
    signatures: tuple[str, ...] = ()
    quantized_io: Mapping[str, QuantizedTensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MicroFacts:
    """What a TFLite file takes on TensorFlow Lite for Microcontrollers.

    Attributes:
        runs: whether it runs there; null where that was not tried.
        arena: the memory it computes in; null where it does not run, or was not tried.
        register: the methods of MicroMutableOpResolver that register its operators.
        missing: its operators that are not there.
        note: why it does not run, or was not tried, and what to do.
    """

    runs: bool | None = None
    arena: Arena | None = None
    register: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class InspectResult(Result):
    """What a model file is.

    Attributes:
        bytes, sha256: of all that is shipped.
        parts: files beside an ONNX file that hold its weights.
        facts: parameters, work, operator set, producer, scales of integer inputs and outputs.
        operators: type -> how many.
        stateful: whether state outlives a call; null without operators that keep it in variables.
        account: null for a file with nothing quantized in it.
        micro: of a TFLite file, what a microcontroller needs for it.
        card: the description inside the file, null for one that was made elsewhere.
    """

    model: Path = derived(lambda result: result.artifact.path)
    format: Format = derived(lambda result: result.artifact.format)
    bytes: int
    sha256: str
    parts: tuple[str, ...] = ()
    signature: Signature
    facts: FileFacts = field(default_factory=FileFacts)
    operators: Mapping[str, int]
    stateful: bool | None = None
    account: CoverageReport | None
    micro: MicroFacts | None = optional()
    steps: tuple[Step, ...] = ()
    card: Mapping[str, Any] | None
    artifact: Artifact = hidden(read=lambda table, where: _file(table, where))


def _file(table: Mapping[str, Any], where: str) -> Artifact:
    return typed(Artifact, {"path": table.get("model"), "format": table.get("format")}, where)


@dataclass(frozen=True, slots=True)
class RangeRow:
    """The range of one tensor."""

    layer: str
    tensor: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, repr=False)
class CalibrationResult(Result):
    """What a saved calibration holds; ``halves``: how far apart the scales of two halves of the samples are."""

    ROWS: ClassVar[str] = "ranges"

    calibration: Path
    method: str
    data: str
    samples: int
    halves: float | None
    model_sha256: str
    ranges: tuple[RangeRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One family, or a network that is shipped for further data; figures where weights are shipped."""

    name: str
    description: str
    data: str
    weights: bool
    parameters: int | None = optional()
    bytes: int | None = optional()
    task: Task | None = optional()
    quality: tuple[Quality, ...] | None = optional()
    steps: tuple[Step, ...] | None = optional()


@dataclass(frozen=True, repr=False)
class ModelsResult(Result):
    """One row a family, and one for each network that is shipped for further data."""

    ROWS: ClassVar[str] = "models"

    models: tuple[ModelRow, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """An answer of a classifier."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The next values of the target, in the units of the data."""

    target: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Anomaly:
    """The anomaly score of one input and the limit from the card, if it has one: ``anomaly`` above it, else
    ``normal``."""

    score: float
    threshold: float | None
    verdict: str | None = derived(
        lambda found: None if found.threshold is None else "anomaly" if found.score > found.threshold else "normal"
    )


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object that a detector found; ``box``: left, top, right, bottom in pixels of the upright picture."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PixelShare:
    """A class of a segmenter, and its share of the pixels."""

    label: str
    share: float


@dataclass(frozen=True, slots=True)
class OutputSummary:
    """An output and its first values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: tuple[Any, ...]


def _summaries(outputs: Mapping[str, Array]) -> tuple[OutputSummary, ...]:
    return tuple(
        OutputSummary(name, array.dtype.name, array.shape, tuple(array.reshape(-1)[:SHOWN_VALUES].tolist()))
        for name, array in outputs.items()
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said to one input.

    Attributes:
        top: of a classifier, the likeliest first.
        objects: of a detector, what it found, the highest score first; null for other models.
        pixels: of a segmenter, the classes that occur, the one with most pixels first; left out for other models.
        outputs: the arrays by name; the document has their first values.
    """

    input: str
    top: tuple[Label, ...] = ()
    summaries: tuple[OutputSummary, ...] = derived(lambda answer: _summaries(answer.outputs), key="outputs")
    forecast: Forecast | None = optional()
    anomaly: Anomaly | None = optional()
    objects: tuple[FoundObject, ...] | None = optional()
    pixels: tuple[PixelShare, ...] | None = optional()
    outputs: Mapping[str, Array] = hidden(read=lambda table, where: {})


@dataclass(frozen=True, kw_only=True, repr=False)
class RunResult(Result):
    """The answers to all inputs, in order; ``out`` is the .npz that holds the whole outputs, if one was wanted, and
    ``image`` the .png that shows a generator's images side by side, or a picture with what was found in it."""

    model: str
    runtime: str
    device: str
    answers: tuple[Answer, ...] = field(metadata={"key": "results"})
    out: str | None = None
    image: str | None = None
