"""What the networks of scripts/real_networks have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Any
"""Arrays by name, one sample an entry; or one array."""


@dataclass(frozen=True)
class Measured:
    """The network's own measure of one file against the reference; ``value`` is compared with the bar."""

    value: float
    text: str


@dataclass(frozen=True)
class Prepared:
    """What a package gave.

    Args:
        sources: float model files by format, or ``{"torch": NAME}`` for a network of real_torch.py, which is exported.
        calibration: samples for ``quantize --data``, by input.
        test: samples that did not calibrate.
        facts: what the measure needs besides outputs (labels); not fed.
        reference: outputs of the package's own network on ``test``; without them those of the float file.
    """

    sources: dict[str, Any]
    calibration: Arrays
    test: Arrays
    facts: Arrays = field(default_factory=dict)
    reference: Arrays = None


@dataclass(frozen=True)
class Subject:
    """A network, where it comes from, and what is expected of it."""

    name: str
    requirement: str
    samples: str
    measure_name: str
    bar: float
    prepare: Callable[[Path, Path], Prepared]
    measure: Callable[[Arrays, Arrays, Arrays], Measured]
    carry: str = ""
    """``output=input`` pairs that a caller hands to the next call."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of ``quantize`` by scheme, for a measure that wants more than the floor."""


def aligned(reference: Arrays, outputs: Arrays) -> Arrays:
    """Outputs under the names of the reference; by shape, then by place, where a runtime has names of its own."""
    if set(outputs) == set(reference):
        return outputs
    left, found = list(outputs.values()), {}
    for name, expected in reference.items():
        place = next((k for k, value in enumerate(left) if value.shape == expected.shape), 0)
        found[name] = left.pop(place)
    return found


def decibels(reference: Arrays, outputs: Arrays) -> float:
    """Signal to noise of the worst output, over all samples."""
    worst = np.inf
    for name, expected in reference.items():
        signal = np.asarray(expected, np.float64).ravel()
        noise = np.asarray(outputs[name], np.float64).ravel() - signal
        if not np.isfinite(noise).all():
            return -np.inf
        power = (noise**2).mean()
        worst = min(worst, 10 * np.log10(max((signal**2).mean(), 1e-300) / power) if power else np.inf)
    return float(worst)


def torch_reference(builder: str, package: Path, test: Arrays) -> Arrays:
    """What a network of real_torch.py gives on the test samples, each with a batch of 1 in front."""
    os.environ["REAL_PACKAGE"] = str(package)
    import real_torch
    import torch

    torch.set_num_threads(1)
    network, _ = getattr(real_torch, builder)()
    rows: dict[str, list[Any]] = {}
    with torch.no_grad():
        for start in range(0, len(next(iter(test.values()))), 32):
            outputs = network(**{name: torch.from_numpy(values[start : start + 32]) for name, values in test.items()})
            for name, value in outputs.items():
                rows.setdefault(name, []).append(value.numpy()[:, None])
    return {name: np.concatenate(values) for name, values in rows.items()}
