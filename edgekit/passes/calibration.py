"""Calibration as data: the range of every tensor of a float model, streamed in fixed memory.

A tensor costs one histogram of :data:`BINS` bins, however many samples are seen: when a value falls outside, the bins
are merged in pairs and the range doubles. (Tools that keep the activations for percentile or entropy were seen to take
256 GB.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError, ModelError, UsageError
from edgekit.types import Array, Feed, Signature

SCHEMA = "edgekit.calibration/1"
BINS = 4096
METHODS = ("minmax", "percentile", "entropy", "mse")
PERCENTILE = 99.999
"""Share of the values, in percent, that ``percentile`` keeps inside; half of the rest is cut at either end."""
_LEVELS = 256


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value that the quantized tensor must hold, in real units; ``low <= 0 <= high``."""

    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Ranges by tensor name of one model file, with how they were found.

    Attributes:
        method: one of :data:`METHODS`.
        data: label of the data set (``cifar10@train``).
        samples: how many samples were seen.
        ranges: tensor name -> range. Names are those of the file that was calibrated.
        means: tensor name -> mean per channel (axis 1 of ONNX, last axis of TFLite), for bias correction.
        model_sha256: hash of that file.
        notes: what the user should know (a single sample, a tensor that is always zero).
    """

    method: str
    data: str
    samples: int
    ranges: Mapping[str, Range]
    means: Mapping[str, tuple[float, ...]]
    model_sha256: str = ""
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Writes the calibration as JSON."""
        document = {"schema": SCHEMA, **asdict(self)}
        path.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: not a calibration, or a range that is no range.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["schema"] != SCHEMA:
                raise DataError(f"{path} has schema {document['schema']!r}, this edgekit reads {SCHEMA!r}")
            ranges = {str(k): Range(float(v["low"]), float(v["high"])) for k, v in document["ranges"].items()}
            means = {str(k): tuple(map(float, v)) for k, v in document["means"].items()}
            found = cls(
                str(document["method"]),
                str(document["data"]),
                int(document["samples"]),
                ranges,
                means,
                str(document["model_sha256"]),
                tuple(map(str, document["notes"])),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no calibration file: {type(error).__name__}: {error}") from error
        for name, one in ranges.items():
            if not (np.isfinite([one.low, one.high]).all() and one.low <= 0 <= one.high):
                raise DataError(
                    f"{path}: the range of {name!r} is {one.low} .. {one.high}; it must be finite, hold zero"
                )
        return found


class Observer:
    """Statistics of one tensor, batch by batch, in fixed memory (:data:`BINS` counts around zero).

    Args:
        channel_axis: axis of the channels, for the mean per channel; None keeps none.
    """

    def __init__(self, channel_axis: int | None = None) -> None:
        self.low = 0.0
        self.high = 0.0
        self.limit = 0.0
        self.counts: Array = np.zeros(BINS, np.int64)
        self._axis = channel_axis
        self._sum: Array | None = None
        self._seen = 0

    def update(self, name: str, values: Array) -> None:
        """Adds one batch.

        Raises:
            ModelError: NaN or infinity (from finite inputs, so the model makes it).
        """
        if values.size == 0:
            return
        flat = values.astype(np.float32, copy=False).ravel()
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite((low, high)).all():
            raise ModelError(
                f"tensor {name!r} of the float model holds NaN or infinity on calibration data; repair it first"
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(-low, high))
        if self.limit > 0:
            scaled = (flat.astype(np.float64) + self.limit) * (BINS / (2 * self.limit))
            bins = np.clip(scaled.astype(np.int64), 0, BINS - 1)
            self.counts += np.bincount(bins, minlength=BINS)
        else:
            self.counts[BINS // 2] += flat.size
        self._add_mean(values)

    def _grow(self, reach: float) -> None:
        if reach > 0 and self.limit == 0:
            zeros = int(self.counts.sum())  # so far only zeros were seen
            self.limit = reach
            self.counts[:] = 0
            self.counts[BINS // 2] = zeros
        while reach > self.limit > 0:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.limit *= 2

    def _add_mean(self, values: Array) -> None:
        if self._axis is None or values.ndim < 2:
            return
        axes = tuple(a for a in range(values.ndim) if a != self._axis % values.ndim)
        total = values.sum(axis=axes, dtype=np.float64)
        if self._sum is not None and self._sum.shape != total.shape:
            self._axis = self._sum = None  # no fixed channel count: no mean
            return
        self._sum = total if self._sum is None else self._sum + total
        self._seen += values.size // total.size

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean per channel, or None where there are no channels."""
        return None if self._sum is None else tuple((self._sum / self._seen).tolist())

    def range(self, method: str) -> Range:
        """The range of the values seen, by ``method``; always holds zero and never exceeds what was seen."""
        if self.limit == 0 or method == "minmax":
            return Range(self.low, self.high)
        finder = {"percentile": percentile_range, "entropy": entropy_range, "mse": mse_range}[method]
        found = finder(self.counts, self.limit, self.low, self.high)
        return Range(max(found.low, self.low), min(found.high, self.high))


def _edges(limit: float) -> Array:
    return np.linspace(-limit, limit, BINS + 1)


def percentile_range(counts: Array, limit: float, low: float, high: float, percent: float = PERCENTILE) -> Range:
    """The range that holds ``percent`` of the values; half of the rest is cut at either end."""
    edges = _edges(limit)
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - percent / 100) / 2
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return Range(min(0.0, float(edges[first])), max(0.0, float(edges[min(last + 1, BINS)])))


def mse_range(counts: Array, limit: float, low: float, high: float) -> Range:
    """The range with the least expected squared error at 256 levels: both ends shrink together, then each alone.

    Nagel et al., A White Paper on Neural Network Quantization (2021), section 3.1.
    """
    used = np.flatnonzero(counts)
    values = ((_edges(limit)[:-1] + _edges(limit)[1:]) / 2)[used]
    values[used == BINS // 2] = 0.0  # the peak of a ReLU lies at exactly zero, which every scale holds
    weights = counts[used]

    def error(a: float, b: float) -> float:
        scale = (b - a) / (_LEVELS - 1)
        if scale <= 0:
            return float("inf")
        zero = round(-a / scale)
        levels = np.clip(np.round(values / scale) + zero, 0, _LEVELS - 1)
        return float((weights * ((levels - zero) * scale - values) ** 2).sum())

    shares = np.linspace(0.2, 1.0, 81)
    both = min(shares[::-1], key=lambda s: error(low * s, high * s))
    first = min(shares[::-1], key=lambda s: error(low * s, high * both))
    second = min(shares[::-1], key=lambda s: error(low * first, high * s))
    return Range(float(low * first), float(high * second))


def entropy_range(counts: Array, limit: float, low: float, high: float) -> Range:
    """The threshold T with the least Kullback-Leibler divergence between values clipped at T and their 256 levels.

    Migacz, 8-bit Inference with TensorRT (GTC 2017). Both signs share one T; an end that was never reached stays where
    the values end, so a tensor after a ReLU keeps its whole range of levels.
    """
    half = BINS // 2
    mirrored = low < 0
    body = counts[half:] + counts[:half][::-1] if mirrored else counts[half:]
    body = body.astype(np.float64)
    body[0] = body[1]  # the peak at zero (ReLU) is exact at any scale and would drown the rest
    levels = _LEVELS // 2 if mirrored else _LEVELS
    top = int(np.flatnonzero(body)[-1]) + 1 if body.any() else half
    candidates = np.unique(np.linspace(min(levels, top), top, 64).astype(int))
    best = min(candidates[::-1], key=lambda count: _divergence(body, int(count), levels))
    reach = limit * float(best) / half
    return Range(-reach if mirrored else 0.0, reach)


def _divergence(body: Array, count: int, levels: int) -> float:
    reference = body[:count].copy()
    reference[-1] += body[count:].sum()
    starts = np.unique(np.linspace(0, count, min(levels, count), endpoint=False).astype(int))
    sums = np.add.reduceat(body[:count], starts)
    filled = np.add.reduceat((body[:count] > 0).astype(np.float64), starts)
    level = np.repeat(np.divide(sums, filled, out=np.zeros_like(sums), where=filled > 0), np.diff([*starts, count]))
    model = np.where(body[:count] > 0, level, 0.0)
    if not reference.sum() or not model.sum():
        return float("inf")
    reference, model = reference / reference.sum(), model / model.sum()
    mask = reference > 0
    return float((reference[mask] * np.log(reference[mask] / np.maximum(model[mask], 1e-12))).sum())


def checked_feeds(feeds: Iterable[Feed], signature: Signature) -> Iterable[Feed]:
    """Passes ``feeds`` on, each checked against ``signature``.

    Raises:
        DataError: an input is missing, of another shape, or holds NaN or infinity.
    """
    for number, feed in enumerate(feeds):
        for spec in signature.inputs:
            if spec.name not in feed:
                raise DataError(
                    f"calibration sample {number} has {sorted(feed)}, the model wants an input {spec.name!r}"
                )
            value = feed[spec.name]
            wanted = spec.shape
            fits = value.ndim == len(wanted) and all(
                isinstance(w, str) or w == s for w, s in zip(wanted, value.shape, strict=True)
            )
            if not fits:
                raise DataError(
                    f"calibration sample {number}: input {spec.name!r} is {value.shape}, the model wants {wanted}; "
                    "give data of the model's own input shape"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise DataError(
                    f"calibration sample {number}: input {spec.name!r} holds NaN or infinity; clean the data"
                )
        yield feed


def gather(
    batches: Iterable[tuple[int, Mapping[str, Array]]],
    *,
    method: str,
    data: str,
    channel_axis: int,
    model_sha256: str = "",
) -> Calibration:
    """Streams ``(samples, tensors by name)`` into a :class:`Calibration`.

    Raises:
        UsageError: no such method.
        DataError: no samples.
    """
    check_method(method)
    observers: dict[str, Observer] = {}
    samples = 0
    for count, tensors in batches:
        samples += count
        for name, values in tensors.items():
            if name not in observers:
                observers[name] = Observer(channel_axis)
            observers[name].update(name, values)
    if samples == 0:
        raise DataError("the calibration data is empty; give at least one sample, some hundred are usual")
    notes = []
    if samples == 1:
        notes.append(
            "calibrated on a single sample: ranges are those of this one input; some hundred samples are usual"
        )
    dead = sorted(name for name, seen in observers.items() if seen.low == seen.high == 0)
    if dead:
        notes.append(f"always zero on the calibration data: {', '.join(dead)}")
    return Calibration(
        method,
        data,
        samples,
        {name: seen.range(method) for name, seen in observers.items()},
        {name: seen.mean for name, seen in observers.items() if seen.mean is not None},
        model_sha256,
        tuple(notes),
    )


def check_method(method: str) -> None:
    """Raises UsageError unless ``method`` is one of :data:`METHODS`."""
    if method not in METHODS:
        raise UsageError(f"no calibration is called {method!r}; there are: {', '.join(METHODS)}")


def describe(calibration: Calibration) -> dict[str, Any]:
    """What a card's step says of a calibration: how, on what, how much; not the ranges themselves."""
    return {"method": calibration.method, "data": calibration.data, "samples": calibration.samples}
