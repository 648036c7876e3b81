"""Ranges of tensors by one histogram each, streamed in fixed memory, and the methods that choose a range from it.

A tensor costs one histogram of :data:`BINS` bins, however many samples are seen: when a value falls outside, the bins
are merged in pairs and the range doubles. (Tools that keep the activations for percentile or entropy were seen to take
256 GB.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import ModelError
from edgekit.types import Array

BINS = 4096
METHODS = ("minmax", "percentile", "entropy", "mse")
PERCENTILE = 99.999
"""Share of the values, in percent, that ``percentile`` keeps inside; half of the rest is cut at either end."""
UNBOUNDED = 1e9
"""Magnitude from which a value stands for infinity: attention is masked by -inf, the lowest float, or -1e9."""
_LEVELS = 256


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value that the quantized tensor must hold, in real units; ``low <= 0 <= high``.

    ``unbounded``: values of :data:`UNBOUNDED` and more were seen as well, which no integer holds beside these.
    """

    low: float
    high: float
    unbounded: bool = False


class Observer:
    """Statistics of one tensor, batch by batch, in fixed memory (:data:`BINS` counts around zero).

    Args:
        channel_axis: axis of the channels of tensors with four axes or more (1: ONNX, torch; -1: TFLite), for the mean
            per channel; of fewer it is the last. None keeps none.
        counting: keeps the histogram, which ``minmax`` does without.
    """

    def __init__(self, channel_axis: int | None = None, *, counting: bool = True) -> None:
        self._counting = counting
        self.low = 0.0
        self.high = 0.0
        self.limit = 0.0
        self.unbounded = False
        self.counts: Array = np.zeros(BINS, np.int64)
        self._axis = channel_axis
        self._sum: Array | None = None
        self._alive: Array | None = None
        self._seen = 0
        self._updates = 0
        self._halves: list[tuple[float, float, bool]] = [(0.0, 0.0, False)] * 2

    def update(self, name: str, values: Array, samples: int = 1) -> None:
        """Adds one batch.

        Args:
            samples: how many there are in it, along the first axis where that is as long.

        Raises:
            ModelError: NaN (from finite inputs, so the model makes it).
        """
        if values.size == 0:
            return
        values = self._bounded(name, values)
        flat = values.astype(np.float32, copy=False).ravel()
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._halve(values, samples)
        if self._counting:
            self._count(flat, max(-low, high))
        self._add_channels(values)

    def _count(self, flat: Array, reach: float) -> None:
        self._grow(reach)
        if self.limit > 0:
            scaled = (flat.astype(np.float64) + self.limit) * (BINS / (2 * self.limit))
            bins = np.clip(scaled.astype(np.int64), 0, BINS - 1)
            self.counts += np.bincount(bins, minlength=BINS)
        else:
            self.counts[BINS // 2] += flat.size

    def _bounded(self, name: str, values: Array) -> Array:
        """``values`` with zeros, which every range holds, in place of those that stand for infinity."""
        low, high = float(values.min()), float(values.max())
        if low > -UNBOUNDED and high < UNBOUNDED:
            return values
        if np.isnan(values).any():
            raise ModelError(f"tensor {name!r} of the float model holds NaN on calibration data; repair it first")
        self.unbounded = True
        return np.where(np.abs(values) < UNBOUNDED, values, 0).astype(values.dtype)

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

    def _halve(self, values: Array, samples: int) -> None:
        """Every second sample belongs to the second half; where a batch cannot be told apart, every second batch."""
        first = self._updates % 2
        parts = [values] if samples < 2 or values.shape[:1] != (samples,) else [values[0::2], values[1::2]]
        for number, part in enumerate(parts, first):
            low, high, _ = self._halves[number % 2]
            self._halves[number % 2] = (min(low, float(part.min())), max(high, float(part.max())), True)
        self._updates += len(parts)

    def _add_channels(self, values: Array) -> None:
        if self._axis is None or values.ndim < 2:
            return
        axis = (self._axis if values.ndim > 3 else -1) % values.ndim
        axes = tuple(a for a in range(values.ndim) if a != axis)
        total = values.sum(axis=axes, dtype=np.float64)
        alive = np.asarray(values.any(axis=axes))
        if self._sum is not None and self._sum.shape != total.shape:
            self._axis = self._sum = self._alive = None  # no fixed channel count
            return
        self._sum = total if self._sum is None else self._sum + total
        self._alive = alive if self._alive is None else self._alive | alive
        self._seen += values.size // total.size

    @property
    def dead(self) -> int:
        """Channels that were always zero, of a tensor that was not."""
        return 0 if self._alive is None or not self._alive.any() else int((~self._alive).sum())

    @property
    def channels(self) -> int:
        """How many channels there are; 0 where that is not fixed."""
        return 0 if self._sum is None else len(self._sum)

    @property
    def apart(self) -> float | None:
        """How far the spans (smallest to largest value) of two halves of the samples are apart, as a share of the
        larger; None where there is no second half, or nothing but zeros."""
        spans = [high - low for low, high, seen in self._halves if seen]
        return abs(spans[0] - spans[1]) / max(spans) if len(spans) == 2 and max(spans) > 0 else None

    @property
    def mean(self) -> tuple[float, ...] | None:
        """Mean per channel, or None where there are no channels."""
        return None if self._sum is None else tuple((self._sum / self._seen).tolist())

    def range(self, method: str) -> Range:
        """The range of the values seen, by ``method``; always holds zero and never exceeds what was seen."""
        if method == "minmax" or self.limit == 0:
            return Range(self.low, self.high, self.unbounded)
        finder = {"percentile": percentile_range, "entropy": entropy_range, "mse": mse_range}[method]
        found = finder(self.counts, self.limit, self.low, self.high)
        return Range(max(found.low, self.low), min(found.high, self.high), self.unbounded)


class Channels:
    """Lowest and highest value and mean square of each channel of a tensor, streamed; channels are on ``axis``."""

    def __init__(self, axis: int) -> None:
        self.low: Array = np.zeros(0)
        self.high: Array = np.zeros(0)
        self.count = 0
        self._squares: Array = np.zeros(0)
        self._axis = axis

    def update(self, values: Array) -> None:
        """Takes a batch in."""
        rows = np.moveaxis(values, self._axis, -1).reshape(-1, values.shape[self._axis]).astype(np.float64)
        low, high, squares = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0), (rows**2).sum(0)
        first = self.count == 0
        self.low = low if first else np.minimum(self.low, low)
        self.high = high if first else np.maximum(self.high, high)
        self._squares = squares if first else self._squares + squares
        self.count += len(rows)

    @property
    def square(self) -> Array:
        """(channels,) mean squares."""
        return self._squares / max(self.count, 1)

    @property
    def peak(self) -> Array:
        """(channels,) largest magnitudes."""
        return np.asarray(np.maximum(-self.low, self.high))


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
