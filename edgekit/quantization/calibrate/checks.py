"""What is wrong with calibration data though every value is finite and of the right shape.

Ranges from such data are ranges of something else, and the quantized file is worse without an error anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.seeded import normalised_range
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.types import Array, Feed, InputSpec, Signature

APART = 0.15
"""Scales of two halves of the samples may be this far apart. Seen with minmax: 0.00 to 0.07 on 300 samples of images,
words and sentences, 0.15 and 0.20 on two and four images, 0.29 on a table with outliers, at any number of rows."""
_CLEAR = 1.0
"""Distance from normalised data, in standard deviations and factors of e, below which nothing is said."""
_SHOWN = 6


class InputWatch:
    """Statistics of the inputs while they pass by."""

    def __init__(self, signature: Signature, contract: Mapping[str, InputSpec]) -> None:
        self._names = [spec.name for spec in signature.inputs if np.dtype(spec.dtype).kind == "f"]
        self._contract = contract
        self._first: dict[str, Array] = {}
        self._differ: set[str] = set()
        self._moments: dict[str, Array] = {}
        self._ends: dict[str, tuple[float, float]] = {}
        self.samples = 0

    def watching(self, feeds: Iterable[Feed]) -> Iterator[Feed]:
        """``feeds``, as they come."""
        for feed in feeds:
            for name in self._names:
                self._see(name, feed[name])
            self.samples += max((value.shape[0] for value in feed.values() if value.ndim), default=1)
            yield feed

    def _see(self, name: str, values: Array) -> None:
        rows = values if values.ndim else values[None]
        first = self._first.setdefault(name, np.array(rows[:1]))
        if name not in self._differ and (rows.shape[1:] != first.shape[1:] or (rows != first).any()):
            self._differ.add(name)
        low, high = self._ends.get(name, (np.inf, -np.inf))
        self._ends[name] = (min(low, float(values.min())), max(high, float(values.max())))
        exact = values.astype(np.float64)
        moments = np.array([values.size, exact.sum(), (exact**2).sum()])
        self._moments[name] = self._moments.get(name, np.zeros(3)) + moments

    def findings(self) -> tuple[str, ...]:
        """What is wrong with the inputs, in words."""
        found = []
        for name in self._moments:
            if self.samples > 1 and name not in self._differ:
                found.append(f"input {name!r} is the same in all {self.samples} samples: ranges are those of this one")
            count, total, squares = self._moments[name]
            mean = total / count
            std = float(np.sqrt(max(squares / count - mean**2, 0.0)))
            said = _normalisation(name, self._contract.get(name), (float(mean), std), self._ends[name])
            found += [said] if said else []
        return tuple(found)


def _normalisation(name: str, contract: InputSpec | None, seen: tuple[float, float], ends: tuple[float, float]) -> str:
    """What the statistics of an input say of how it was normalised, against the card's; empty where they fit.

    The card's mean and std are those of the training data, in units of the scaled raw values. So data has mean 0 and
    std 1 when they were applied once, -mean/std and 1/std when twice, mean and std when never. Sounds are not judged.
    """
    if contract is None or contract.kind in ("array", "audio"):
        return ""  # a short sound is padded with frames of silence, which the card's statistics leave out
    said = f"mean {seen[0]:.3g}, std {seen[1]:.3g}, from {ends[0]:.3g} to {ends[1]:.3g}"
    if contract.mean and contract.std:
        mean, std = np.asarray(contract.mean, np.float64), np.asarray(contract.std, np.float64)
        makings = {
            "normalised once": (0.0, 1.0),
            "normalised twice": (float((-mean / std).mean()), float((1 / std).mean())),
            "scaled but not normalised": (float(mean.mean()), float(std.mean())),
            "raw": (float(mean.mean() / contract.scale), float(std.mean() / contract.scale)),
        }
        distances = {making: _distance(seen, moments) for making, moments in makings.items()}
        nearest = min(distances, key=lambda making: distances[making])
        once = distances["normalised once"]
        if nearest != "normalised once" and once > _CLEAR and distances[nearest] < once / 2:
            return (
                f"input {name!r} looks {nearest} ({said}): with the card's mean and std applied once, training data "
                "has mean 0 and std 1. Ranges from it are wrong; give the data as the network was trained on it"
            )
    low, high = normalised_range(contract)
    slack = 0.01 * (high - low)
    if contract.kind == "image" and (ends[0] < low - slack or ends[1] > high + slack):
        return (
            f"input {name!r} holds what no image gives under the card's contract ({said}; it gives {low:.3g} to "
            f"{high:.3g}): normalised twice, or not at all"
        )
    return ""


def _distance(seen: tuple[float, float], wanted: tuple[float, float]) -> float:
    if seen[1] <= 0 or wanted[1] <= 0:
        return float("inf")
    return abs(seen[0] - wanted[0]) / wanted[1] + abs(float(np.log(seen[1] / wanted[1])))


def findings(calibration: Calibration) -> tuple[str, ...]:
    """What the tensors say: channels that are always zero, scales that depend on which samples were taken."""
    found = []
    dead: dict[str, tuple[int, int]] = {}
    for name, (zero, channels) in calibration.dead.items():
        dead.setdefault(calibration.layers.get(name) or name, (zero, channels))
    if dead:
        rows = [f"{zero} of {channels} of {name}" for name, (zero, channels) in dead.items()]
        found.append(
            f"channels that are always zero on the calibration data: {listed(rows)}. Either the data is not what the "
            "network was trained on, or they are dead: prune takes them out at no loss"
        )
    if calibration.halves is not None and calibration.halves > APART:
        found.append(
            f"scales from two halves of the {calibration.samples} samples are {calibration.halves:.0%} apart (median "
            "of the tensors): too few samples, or outliers. Give more --samples, or --calibration mse or percentile"
        )
    return tuple(found)


def missing_classes(samples: Dataset) -> tuple[str, ...]:
    """A finding where classes of the data set have no sample among those that calibrate."""
    if samples.labels is None or not samples.classes:
        return ()
    there = set(np.unique(samples.labels).tolist())
    missing = [name for index, name in enumerate(samples.classes) if index not in there]
    if not missing:
        return ()
    return (
        f"no calibration sample of {len(missing)} of {len(samples.classes)} classes ({listed(missing)}): ranges may be "
        "too small for them. Give more --samples, or data that has them",
    )


def listed(names: Sequence[str]) -> str:
    """Some of ``names``, and how many more there are."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
