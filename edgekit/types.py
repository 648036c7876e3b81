"""The frozen vocabulary: what flows between the rooms of edgekit.

Standard library and numpy only, so that every floor, a board included, can import it.
Units are in the name (``_ns``, ``_ms``, ``_bytes``) or in the docstring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array: TypeAlias = NDArray[Any]
Feed: TypeAlias = Mapping[str, Array]
"""What a runner takes and gives: arrays by tensor name."""
Dim: TypeAlias = int | str
"""One dimension: a number, or the name of a dynamic dimension."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table for people; columns named in ``right`` are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str | None = None
    right: Sequence[str] = ()


class Closing:
    """What is closed at the end of its ``with`` block."""

    def close(self) -> None:
        """Lets go of what it holds; calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Format(StrEnum):
    """Format of an artifact; the value is also the file suffix without its dot. A SavedModel is a folder."""

    ONNX = "onnx"
    TFLITE = "tflite"
    PT2 = "pt2"
    PTE = "pte"
    SAVED_MODEL = "savedmodel"


class Evidence(StrEnum):
    """What kind of evidence a figure is. Figures of different evidence are never compared."""

    MEASURED = "measured"
    CONSTRAINED = "constrained"
    EMULATED = "emulated"
    ESTIMATED = "estimated"

    @property
    def has_time(self) -> bool:
        """Whether a figure in seconds of this kind means anything: an emulated or estimated one is not shown at all."""
        return self not in (Evidence.EMULATED, Evidence.ESTIMATED)


class Verdict(StrEnum):
    """Outcome of a timed comparison of A relative to B."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, numpy dtype name and shape of one tensor; a string in ``shape`` names a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

    def resolved(self, dims: Mapping[str, int] | None = None) -> tuple[int, ...]:
        """The shape with every named dimension replaced from ``dims``, by 1 where it is not named there."""
        known = dims or {}
        return tuple(d if isinstance(d, int) else known.get(d, 1) for d in self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model, in the order of its positional arguments and results."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def dynamic_dims(self) -> tuple[str, ...]:
        """Names of the dynamic dimensions, in order of first appearance."""
        seen = [d for spec in self.inputs for d in spec.shape if isinstance(d, str)]
        return tuple(dict.fromkeys(seen))


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How one raw sample becomes one input tensor: ``(raw * scale - mean) / std``, laid out as ``layout``.

    Attributes:
        kind: ``image`` (raw: uint8, height x width x channels), ``table`` (raw: float, columns), ``audio`` (raw: a
            :class:`~edgekit.data.wav.Waveform`, or float samples at the spec's rate), ``text`` (raw: a string),
            ``series`` (raw: float, time x columns) or ``array`` (raw is the tensor itself; nothing is applied). Each
            kind is one module of :mod:`edgekit.data`.
        layout: ``NCHW`` or ``NHWC`` for images, ``NHW`` for images read row by row (batch, height, width x channels),
            empty otherwise.
        size: height and width in pixels for images.
        channels: number of colour channels for images (1 grey, 3 RGB).
        scale: factor on the raw values, applied first (1/255 maps bytes to 0..1).
        mean, std: one value per channel, column or mel band, in units of the scaled raw values; empty means 0 and 1.
        columns: column names of a table or series, in order.
        params: what only this kind has: ``image`` how it is resized, ``audio`` its sampling rate and mel filters,
            ``text`` its vocabulary and length, ``series`` its history and horizon, an ``array`` of lengths of sequences
            the largest (``most``, a size or a dimension's name; the least is 1), whether they are ``sorted`` from the
            longest on, and whether one has to be the ``longest`` there is; of indices into a table its rows
            (``below``).
    """

    kind: str = "array"
    layout: str = ""
    size: tuple[int, int] | None = None
    channels: int = 0
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """For people: ``image NCHW, 32x32, 3 channels, times 0.00392``."""
        told = [f"{self.kind} {self.layout}".strip()]
        told += [f"{self.size[0]}x{self.size[1]}"] if self.size else []
        told += [f"{self.channels} channels"] if self.channels else []
        told += [f"times {self.scale:.3g}"] if self.scale != 1 else []
        told += [f"mean {_short(self.mean)}, std {_short(self.std)}"] if self.mean or self.std else []
        told += [f"{key} {value}" for key, value in self.params.items() if isinstance(value, int | float)]
        return ", ".join(told)

    def formula(self) -> str:
        """How a raw sample becomes the tensor, for people: ``image of 32 x 32 in RGB, laid out as NCHW:
        (pixel / 255 - mean) / std, mean 0.5, std 0.25``."""
        if self.kind != "image":
            return str(self)
        order = "grey" if self.channels == 1 else str(self.params.get("color", "RGB"))
        size = f" of {self.size[0]} x {self.size[1]} (height x width)" if self.size else ""
        shorter = self.params.get("shorter")
        way = f", the shorter side resized to {shorter} and the centre cut out" if shorter else ""
        if "letterbox" in self.params:
            way = f", shown whole between bars of {self.params['letterbox']}"
        value = "pixel" if self.scale == 1 else f"pixel * {self.scale:.6g}"
        value = "pixel / 255" if abs(self.scale * 255 - 1) < 1e-6 else value
        if self.mean or self.std:
            means, stds = _short(self.mean) or "0", _short(self.std) or "1"
            value = f"({value} - mean) / std, mean {means}, std {stds}"
        return f"image{size} in {order}, laid out as {self.layout}{way}: {value}"


def _short(values: tuple[float, ...]) -> str:
    more = " …" if len(values) > 4 else ""
    return " ".join(f"{value:.3g}" for value in values[:4]) + more


@dataclass(frozen=True, slots=True)
class Task:
    """What the outputs mean.

    Attributes:
        kind: ``classification`` (logits, argmax over ``labels``), ``forecasting`` (values of the next steps, in raw
            units after ``value * std + mean`` of ``params``), ``anomaly`` (reconstruction; its mean squared error is
            the score, ``params["threshold"]`` the limit), ``generation`` (an image from noise) or ``none``.
        labels: class names in the order of the logits.
        metric: name of the figure of merit.
        params: numbers that belong to the meaning: horizon, mean and std of the target, threshold, value range.
    """

    kind: str = "none"
    labels: tuple[str, ...] = ()
    metric: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done to a model, with its parameters and the library versions that did it."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quality:
    """One measured figure of merit. ``value`` is a fraction (0..1) for accuracy; ``details`` are figures to read it
    against (a baseline, a reference distance); ``lower_is_better`` for errors and distances."""

    metric: str
    value: float
    data: str
    total: int
    runtime: str = ""
    device: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """Affine quantization of one input or output: ``real = scale * (integer - zero_point)``."""

    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Seeded inputs (see :func:`edgekit.data.seeded.seeded_feed`) and the outputs they must give.

    ``tolerance`` is the largest allowed absolute difference of any output value on any device.
    """

    seed: int
    outputs: Mapping[str, tuple[float, ...]]
    tolerance: float


TIME = "time"
"""The dimension of a sequence's signature along which a streaming file takes its steps."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a file of one step makes a sequence.

    Attributes:
        sequence: inputs and outputs of a whole sequence, without states; steps are taken along the dimension
            :data:`TIME` of the inputs, one a run. An output without it is given after every step, and stands for the
            sequence so far.
        states: input -> output that is its value for the next step. Every state is zero at first.
        frames: of the sequence that one step takes.
        delay: steps that the outputs lie behind the inputs. After the last step of a sequence so many more are run, on
            whatever frames, with ``ended`` set to 1.
        ended: the state that says so; empty where the delay is 0.
        skipped: output -> frames of it, at the beginning, that come before the first one of the sequence.
    """

    sequence: Signature
    states: Mapping[str, str]
    frames: int = 1
    delay: int = 0
    ended: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Card:
    """The description that travels inside a model file; see :mod:`edgekit.artifact` for its JSON form.

    Attributes:
        name: name of the network, for people.
        family: zoo family (``cnn``), or ``custom``.
        task: what the outputs mean.
        signature: inputs and outputs *as this file has them* (layout, dtype, dynamic dimensions).
        contract: input name -> how a raw sample becomes that input.
        config: numbers the builder was called with, or ``{"factory": "file.py:f", "sha256": ...}``; under
            ``skipped`` the residual blocks that were pruned whole, and what is left of each.
        steps: everything that was done, in order.
        source_sha256: hash of the trained weights the file was made from (empty when unknown).
        quality: figures of merit with the data they were measured on.
        selftest: vectors any device can replay.
        quantized_io: integer inputs and outputs, by name.
        account: the integer account of a quantized file, with counts (see :mod:`edgekit.quality.coverage`).
        parent: of a compressed file: the one it was made from (sha256, bytes), and how it compares: operators inserted,
            quality with the interval of its change, time ratio with its interval and verdict.
        notes: everything that was not honoured, in words.
        streaming: how the runs of a file of one step make a sequence; None for every other file.
        stateful: of a file whose operators keep a state in variables: whether it outlives a call (True), or every call
            starts from zeros (False, proved without any reset); None where there is no such operator, or nobody said.
        ranges: what quantization-aware training learnt, as JSON of a
            :class:`~edgekit.quantization.calibrate.calibration.Calibration`; None for every other network and for
            quantized files.
    """

    name: str
    family: str
    task: Task
    signature: Signature
    contract: Mapping[str, InputSpec] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    source_sha256: str = ""
    quality: tuple[Quality, ...] = ()
    selftest: SelfTest | None = None
    quantized_io: Mapping[str, QuantizedTensor] = field(default_factory=dict)
    account: Mapping[str, Any] | None = None
    parent: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    streaming: Streaming | None = None
    stateful: bool | None = None
    ranges: Mapping[str, Any] | None = None

    def with_step(self, step: Step, *notes: str) -> Card:
        """A copy with one more step, and ``notes`` appended."""
        return replace(self, steps=(*self.steps, step), notes=(*self.notes, *notes))


@dataclass(frozen=True, slots=True)
class Network:
    """A torch module in eval mode, example inputs (batch 1, by name, model-ready), and its card."""

    module: torch.nn.Module
    example_inputs: Feed
    card: Card

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def signature(self) -> Signature:
        return self.card.signature

    @property
    def task(self) -> Task:
        return self.card.task


@dataclass(frozen=True, slots=True)
class Artifact:
    """One self-describing model file, or SavedModel folder. ``card`` is None for one made elsewhere."""

    path: Path
    format: Format
    card: Card | None = None


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass made.

    Attributes:
        notes: what was not honoured, and why.
        left_in_float: of quantization: operator, or type of operators -> why the pass left it in float.
    """

    model: Network | Artifact
    changed: bool
    notes: tuple[str, ...] = ()
    left_in_float: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """Where models run. ``kind``: ``cpu``, ``python``, ``ssh``, ``emulator``, ``adb``, ``cuda``.

    ``address`` is what follows the kind in the user's spelling (an interpreter's path for ``python``).
    """

    name: str
    kind: str
    address: str = ""
    evidence: Evidence = Evidence.MEASURED


def percentile_ns(samples_ns: Array, percent: float) -> int:
    """Nearest-rank percentile of integer samples: the smallest sample with at least ``percent`` at or below it."""
    ordered = np.sort(np.asarray(samples_ns, dtype=np.int64))
    if ordered.size == 0:
        raise ValueError("no samples")
    rank = int(np.ceil(percent / 100.0 * ordered.size))
    return int(ordered[max(rank, 1) - 1])


@dataclass(frozen=True)
class Latency:
    """Raw samples of one timed cell, in nanoseconds, in the order they were taken; figures are derived."""

    samples_ns: Array

    @property
    def p50_ms(self) -> float | None:
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float | None:
        return self.percentile_ms(90)

    @property
    def p99_ms(self) -> float | None:
        return self.percentile_ms(99)

    def percentile_ms(self, percent: float) -> float | None:
        """The percentile in milliseconds, or None when the sample count does not support it.

        Counts: MLPerf LoadGen's binomial bound at 99% confidence (p50 11, p90 64, p99 662, p99.9 6,636).
        """
        if self.samples_ns.size < SUPPORTED_SAMPLES.get(percent, 11):
            return None
        return percentile_ns(self.samples_ns, percent) / 1e6


SUPPORTED_SAMPLES: Mapping[float, int] = {50: 11, 90: 64, 95: 130, 99: 662, 99.9: 6636}
"""Samples a percentile needs at 99% confidence (MLPerf LoadGen)."""
