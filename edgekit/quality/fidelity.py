"""How near the outputs of a compressed file are to its parent's: figures that need no labels, and their floor.

Of every output: signal-to-noise ratio, cosine, agreement of the largest value, and of its channels (columns of a
matrix) the worst signal-to-noise ratio and how many are dead: constant where the parent's vary. One number over all of
an output hides a channel: boxes in pixels beside scores in 0..1 have 40 dB together when every score is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.types import Array

MOST_DB = 200.0
"""What stands for no difference at all; its negative for a difference where the parent gives zeros."""
CHANNEL_BELOW_DB = 10.0
"""By how much a channel may be below the floor of its output: the noise of a layer is about the same in all of its
channels, and a channel with a tenth of their power is as far below them."""
QUIET = 0.3
"""A channel with less than this share of the typical (median) root mean square is not judged by its ratio: it has less
than a tenth of the power, and with it :data:`CHANNEL_BELOW_DB` are used up."""
STILL = 1 / 16
"""A channel that varies by less than this share of the typical one is not counted as dead when it is constant: it moves
by less than 16 of 255 steps of the others."""
LIKELY = 0.25
"""Probabilities (values in 0..1) are judged by their ratio from here on, whatever stands beside them, and counted as
dead from :data:`STILL` on."""
SUM_TO_ONE = 1e-3
"""How far the channels of a place may be from 1 in sum to be a distribution, as a softmax gives it. Of many classes
most are near zero at every place, and so is the typical channel: those that are :data:`LIKELY` are judged."""
FEWEST = 8
"""Values of a channel below which it is not judged: of one value the ratio says nothing."""


@dataclass(frozen=True, slots=True)
class OutputFidelity:
    """One output of a file beside its parent's.

    Attributes:
        name: of the output.
        snr_db: 10 log10 of the power of the parent's values over that of the differences; None for integers.
        cosine: mean over the samples; None for integers, or where one side is all zero.
        top1_agreement: share of the places where the file's largest channel is the parent's; of integers the share of
            equal values; None where there are no channels.
        worst_channel_db: the least ratio of a channel, and ``worst_channel``, which one; None where none was judged.
        dead: numbers of the channels that are constant where the parent's vary.
        channels: how many there are; 0 where the output has none.
    """

    name: str
    snr_db: float | None
    cosine: float | None = None
    top1_agreement: float | None = None
    worst_channel_db: float | None = None
    worst_channel: int | None = None
    dead: tuple[int, ...] = ()
    channels: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON values, rounded as they are printed."""
        return {
            "name": self.name,
            "snr_db": _rounded(self.snr_db, 2),
            "cosine": _rounded(self.cosine, 6),
            "top1_agreement": _rounded(self.top1_agreement, 4),
            "worst_channel_db": _rounded(self.worst_channel_db, 2),
            "worst_channel": self.worst_channel,
            "channels": self.channels,
            "dead_channels": len(self.dead),
        }


@dataclass(frozen=True, slots=True)
class Floor:
    """What a file has to reach: decibels of each output, and of each of its channels; no channel may be dead."""

    output_db: float

    @property
    def channel_db(self) -> float:
        return self.output_db - CHANNEL_BELOW_DB

    def failures(self, outputs: tuple[OutputFidelity, ...]) -> tuple[str, ...]:
        """One sentence for each output that misses the floor; empty when all reach it."""
        return tuple(said for output in outputs if (said := self._failure(output)))

    def _failure(self, output: OutputFidelity) -> str:
        parts = []
        if output.snr_db is not None and output.snr_db < self.output_db:
            parts.append(f"has {output.snr_db:.1f} dB, the floor is {self.output_db:g} dB")
        if output.worst_channel_db is not None and output.worst_channel_db < self.channel_db:
            parts.append(
                f"channel {output.worst_channel} of {output.channels} has {output.worst_channel_db:.1f} dB, the floor "
                f"of a channel is {self.channel_db:g} dB"
            )
        if output.dead:
            shown = ", ".join(map(str, output.dead[:8])) + (", …" if len(output.dead) > 8 else "")
            parts.append(
                f"{len(output.dead)} of {output.channels} channels are dead ({shown}): constant where the parent's vary"
            )
        return f"output {output.name!r}: {'; '.join(parts)}" if parts else ""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """All outputs on the same samples. ``data`` says in words which samples these were."""

    outputs: tuple[OutputFidelity, ...]
    samples: int
    data: str = ""

    @property
    def least_db(self) -> float | None:
        """The ratio of the worst output; None where none has one."""
        return min((one.snr_db for one in self.outputs if one.snr_db is not None), default=None)

    def document(self) -> dict[str, Any]:
        return {"outputs": [one.document() for one in self.outputs], "samples": self.samples, "data": self.data}


@dataclass
class FidelityMeter:
    """Takes pairs of outputs in, sample by sample, and keeps sums only.

    Args:
        channels_last: where a tensor of three or more axes has its channels when both ends are as long.
    """

    channels_last: bool = False
    samples: int = 0
    _outputs: dict[str, _Output] = field(default_factory=dict)

    def add(self, wanted: Mapping[str, Array], found: Mapping[str, Array]) -> None:
        """One sample: the parent's outputs by name, and the file's. Both are finite."""
        self.samples += 1
        for name, value in wanted.items():
            one = self._outputs.setdefault(name, _Output(self.channels_last))
            one.add(np.asarray(value), np.asarray(found[name]))

    def result(self, data: str = "") -> Fidelity:
        """The figures of everything that was added."""
        return Fidelity(tuple(one.figures(name) for name, one in self._outputs.items()), self.samples, data)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), within :data:`MOST_DB` on both sides."""
    if noise <= 0:
        return MOST_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -MOST_DB, MOST_DB))


def channel_axis(shape: tuple[int, ...], channels_last: bool) -> int | None:
    """The axis of an output whose slices are its channels: the columns of a matrix, else the shorter of the second and
    the last axis; None where there are none."""
    if len(shape) < 2:
        return None
    ends = [axis for axis in ((len(shape) - 1, 1) if channels_last else (1, len(shape) - 1)) if shape[axis] > 1]
    return min(ends, key=lambda axis: shape[axis], default=None)


class _Channels:
    """Sums by channel: (C,) each."""

    def __init__(self, count: int) -> None:
        self.places = 0
        self.signal, self.noise = np.zeros(count), np.zeros(count)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.found_low, self.found_high = self.low.copy(), self.high.copy()
        self.distribution = True

    def add(self, a: Array, b: Array) -> None:
        """(places, C) of the parent and of the file."""
        self.places += len(a)
        self.signal += (a**2).sum(0)
        self.noise += ((a - b) ** 2).sum(0)
        self.distribution &= bool((np.abs(a.sum(1) - 1) <= SUM_TO_ONE).all() and (a >= 0).all())
        self.low, self.high = np.minimum(self.low, a.min(0)), np.maximum(self.high, a.max(0))
        self.found_low, self.found_high = np.minimum(self.found_low, b.min(0)), np.maximum(self.found_high, b.max(0))

    def worst(self) -> tuple[float, int] | None:
        """The least ratio of the channels that are judged, and which it is."""
        if self.places < FEWEST:
            return None
        power = self.signal / self.places
        judged = (power >= QUIET**2 * np.median(power)) & (not self.distribution)
        judged |= self._likely() & (self.high - self.low >= LIKELY)
        judged &= self.high > self.low  # what is always the same says nothing of a ratio
        rows = [(decibels(float(self.signal[c]), float(self.noise[c])), int(c)) for c in np.flatnonzero(judged)]
        return min(rows, default=None)

    def dead(self) -> tuple[int, ...]:
        if self.places < FEWEST:
            return ()
        span = self.high - self.low
        moves = (span > 0) & (span >= STILL * np.median(span)) & (not self.distribution)
        moves |= self._likely() & (span >= STILL)
        return tuple(np.flatnonzero(moves & (self.found_high == self.found_low)).tolist())

    def _likely(self) -> Array:
        found: Array = (self.low >= 0) & (self.high <= 1)
        return found


class _Output:
    """Sums of one output."""

    def __init__(self, channels_last: bool) -> None:
        self.channels_last = channels_last
        self.signal = self.noise = 0.0
        self.cosines: list[float] = []
        self.agreed = self.places = 0
        self.real = True
        self.channels: _Channels | None = None
        self.axis: int | None = None
        self.begun = False

    def add(self, wanted: Array, found: Array) -> None:
        self.real = wanted.dtype.kind == "f"
        if wanted.shape != found.shape:  # as many detections as were found: nothing of it can be compared
            found = np.zeros_like(wanted)
        a, b = wanted.astype(np.float64), found.astype(np.float64)
        if not self.real:
            self.agreed += int((a == b).sum())
            self.places += a.size
            return
        self.signal += float((a**2).sum())
        self.noise += float(((a - b) ** 2).sum())
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        self.cosines += [float((a * b).sum()) / norm] if norm > 0 else []
        self._by_channel(a, b)

    def _by_channel(self, a: Array, b: Array) -> None:
        if not self.begun:
            self.begun, self.axis = True, channel_axis(a.shape, self.channels_last)
            self.channels = None if self.axis is None else _Channels(a.shape[self.axis])
        if self.axis is None or self.channels is None or not a.size:
            return
        if a.ndim <= self.axis or a.shape[self.axis] != len(self.channels.signal):
            self.channels = None  # a free size: these are not channels
            return
        rows, others = (np.moveaxis(x, self.axis, -1).reshape(-1, x.shape[self.axis]) for x in (a, b))
        self.channels.add(rows, others)
        best = rows.argmax(1)[:, None]
        # a file in few bits may give the same largest value twice
        self.agreed += int((np.take_along_axis(others, best, 1)[:, 0] == others.max(1)).sum())
        self.places += len(rows)

    def figures(self, name: str) -> OutputFidelity:
        agreement = self.agreed / self.places if self.places else None
        if not self.real:
            return OutputFidelity(name, None, top1_agreement=agreement)
        ratio = decibels(self.signal, self.noise)
        cosine = float(np.mean(self.cosines)) if self.cosines else None
        if self.channels is None:
            return OutputFidelity(name, ratio, cosine)
        worst, number = self.channels.worst() or (None, None)
        count = len(self.channels.signal)
        return OutputFidelity(name, ratio, cosine, agreement, worst, number, self.channels.dead(), count)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
