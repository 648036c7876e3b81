"""What one and the same file differs by between processes and between occasions on this machine, learned from its runs.

No number of calls within one process shows either, yet both are in every ratio. The built-in values are a prior; every
run with several cells and workers adds what it saw, and the prior gives way (empirical Bayes, Smyth 2004,
10.2202/1544-6115.1027: variances of single files are scattered around ``spread`` squared like an inverse chi-square of
``weight`` degrees of freedom; both numbers are the most probable ones given all records).
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.documents import parse_json, typed
from edgekit.errors import EdgekitError, InputError
from edgekit.inputs import read_regular
from edgekit.locks import locked
from edgekit.outputs import publishing
from edgekit.results.bench import BenchRecord

log = logging.getLogger("edgekit")

PROCESS_SPREAD = 0.008
"""What to expect of the standard deviation of one file's p50 between processes, as a share of the p50.

Where pages land in caches is drawn anew for each process, and no number of runs within one process shows it.
Measured with a file against its own copy: 0.5% to 1.2%, up to 5% for weights as large as a cache.
"""
PROCESS_WEIGHT = 2.0
"""How many replicas the expectation :data:`PROCESS_SPREAD` counts for beside the ones that were measured."""
OCCASION_SPREAD = 0.006
"""Standard deviation of the p50 of one file between two runs of the bench, beyond what differs between processes."""
NOISY_OCCASION_SPREAD = 0.07
"""The same where the bench itself says that the machine was noisy.

Measured on a virtual machine with two cores and changing neighbours: 6.8% and 10% in 40 and 45 runs of five files, each
of which said so of itself. A core has two speeds there, 1.28 apart, and keeps each for seconds to half a minute.
"""
OCCASION_WEIGHT = 4.0
"""How many degrees of freedom an expectation of the spread between occasions counts for: with so few of them a spread
is known within a factor of two, and intervals are Student's."""
LEAST_OCCASION_WEIGHT = 3.0
"""Below it Student's t has no variance, and a few files that moved would leave no interval of any use."""
APART_S = 600.0
"""Seconds between two visits of a file that make them two occasions.

Runs that follow each other see the same hour of the machine: ten of them in a calm minute had narrowed the intervals to
two thirds of what the next two minutes then needed.
"""
NOISY = " noisy"
"""Ends the key of a visit at which the machine was noisy: such visits are learned from apart."""
SCHEMA = "edgekit.noise-floor/1"
_LARGEST = 1e12
MOST_RECORDS = 200
MOST_OCCASIONS = 5
_SPREADS = np.geomspace(0.0005, 0.5, 73)
_WEIGHTS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
_PRIOR_FACTOR = math.log(2)
"""The built-in values are held to be right within a factor of two (one standard deviation of their logarithm)."""


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """The spreads (shares of the p50) that intervals are widened by.

    Attributes:
        process, weight: standard deviation between processes, and the replicas that this expectation counts for.
        occasion: standard deviation between occasions, beyond that.
        runs, revisits: records these stand on; 0 and 0: the built-in values.
        occasion_noisy: ``occasion`` for results that are noisy.
        occasion_weight, occasion_noisy_weight: degrees of freedom that these expectations count for.
    """

    process: float = PROCESS_SPREAD
    weight: float = PROCESS_WEIGHT
    occasion: float = OCCASION_SPREAD
    runs: int = 0
    revisits: int = 0
    occasion_noisy: float = NOISY_OCCASION_SPREAD
    occasion_weight: float = OCCASION_WEIGHT
    occasion_noisy_weight: float = OCCASION_WEIGHT

    def when(self, noisy: bool) -> NoiseFloor:
        """The floor for a result that is, or is not, noisy."""
        if not noisy or self.occasion_noisy <= self.occasion:
            return self
        return replace(self, occasion=self.occasion_noisy, occasion_weight=self.occasion_noisy_weight)

    def document(self) -> dict[str, Any]:
        source = "learned" if self.runs or self.revisits else "built-in"
        return {
            "source": source,
            "process_spread": self.process,
            "process_weight": self.weight,
            "occasion_spread": self.occasion,
            "occasion_weight": self.occasion_weight,
            "occasion_spread_noisy": self.occasion_noisy,
            "occasion_weight_noisy": self.occasion_noisy_weight,
            "runs": self.runs,
            "revisits": self.revisits,
        }


BUILT_IN = NoiseFloor()


@dataclass(frozen=True, slots=True)
class Record:
    """A variance that was seen: ``seen`` with ``degrees`` of freedom, ``within`` of it not from the thing asked for."""

    seen: float
    within: float
    degrees: float


def floor_of(saved: BenchRecord) -> NoiseFloor:
    """The floor that a saved result was made with; the built-in one where it says nothing usable."""
    said = saved.protocol.timing.noise_floor or {}
    names = ("process_spread", "process_weight", "occasion_spread")
    values = [_usable(said.get(name)) for name in names]
    if None in values:
        return BUILT_IN
    # an older document may lack these
    later = ("occasion_spread_noisy", "occasion_weight", "occasion_weight_noisy")
    defaults = (NOISY_OCCASION_SPREAD, OCCASION_WEIGHT, OCCASION_WEIGHT)
    rest = [_usable(said.get(name)) or default for name, default in zip(later, defaults, strict=True)]
    process, weight, occasion = (float(value) for value in values if value is not None)
    counts = (count if type(count := said.get(name)) is int else 0 for name in ("runs", "revisits"))
    return NoiseFloor(process, weight, occasion, *counts, *rest)


def _usable(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 100 else None


def wider(a: NoiseFloor, b: NoiseFloor) -> NoiseFloor:
    """For a comparison of two documents: the larger spreads of the two, the smaller weights."""
    return NoiseFloor(
        max(a.process, b.process), min(a.weight, b.weight), max(a.occasion, b.occasion),
        min(a.runs, b.runs), min(a.revisits, b.revisits), max(a.occasion_noisy, b.occasion_noisy),
        min(a.occasion_weight, b.occasion_weight), min(a.occasion_noisy_weight, b.occasion_noisy_weight),
    )  # fmt: skip


def fit(
    records: Sequence[Record], spread: float, weight: float = PROCESS_WEIGHT, *, least: float = _WEIGHTS[0]
) -> tuple[float, float]:
    """The most probable ``(spread, weight)`` behind ``records``; the arguments are the centres of the prior, ``least``
    the smallest weight that is considered.

    ``seen / (spread**2 + within)`` follows F(degrees, weight), as in limma's moderated t, on a grid of both numbers.
    """
    squares = _SPREADS[:, None] ** 2
    weights = np.array([one for one in _WEIGHTS if one >= least])[None, :]
    score = -0.5 * (np.log(_SPREADS[:, None] / spread) / _PRIOR_FACTOR) ** 2
    score = score - 0.5 * (np.log(weights / weight) / _PRIOR_FACTOR) ** 2
    for record in records:
        expected = squares + record.within
        score = score + _log_f(max(record.seen, 1e-12) / expected, record.degrees, weights) - np.log(expected)
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    return float(_SPREADS[row]), float(weights[0, column])


def process_record(cells: Sequence[NDArray[np.float64]], owners: Sequence[Sequence[Hashable]]) -> Record | None:
    """What one interleaved run says about the spread between processes; None with one cell, or one worker a cell.

    ``cells``: per cell the logarithms of its block medians, all of the same rounds; ``owners``: the worker of each.
    Phases of the machine weigh on all cells of a round and are taken out with the round's mean; what is left differs
    between the workers of a cell (the interaction of a two-way analysis of variance).
    """
    if len(cells) < 2:
        return None
    table = np.vstack(cells)  # (cells, rounds)
    table = table - table.mean(axis=0)
    spread, within, degrees = 0.0, 0.0, 0
    for row, labels in zip(table, owners, strict=True):
        groups = [row[[label == name for label in labels]] for name in dict.fromkeys(labels)]
        groups = [group for group in groups if group.size > 1]
        if len(groups) < 2:
            return None
        means = np.array([np.median(group) if group.size > 4 else group.mean() for group in groups])
        spread += float(means.var(ddof=1)) * (len(groups) - 1)
        # pi/2: the median of a normal sample varies that much more than its mean
        factors = [math.pi / 2 if group.size > 4 else 1.0 for group in groups]
        within += float(np.mean([f * g.var(ddof=1) / g.size for f, g in zip(factors, groups, strict=True)]))
        degrees += len(groups) - 1
    count = len(cells)
    share = (count - 1) / count  # of a cell's own deviation, what is left after the round's mean is taken out
    return Record(spread / (degrees * share), within / (count * share), degrees * share)


def occasion_record(visits: Sequence[Sequence[float]]) -> Record | None:
    """What several visits of one file say: each ``(time, log p50, variance of that)``. None for fewer than two."""
    if len(visits) < 2:
        return None
    centres, variances = np.array([v[1] for v in visits]), [v[2] for v in visits]
    return Record(float(centres.var(ddof=1)), float(np.mean(variances)), len(visits) - 1)


@dataclass(frozen=True, slots=True)
class _Saved:
    """The file: rows of :class:`Record`, and by name of a file rows of ``(time, log p50, variance of that)``."""

    schema: str
    process: list[tuple[float, float, float]]
    occasions: Mapping[str, list[tuple[float, float, float]]]


class Ledger:
    """The records of this machine and these libraries, in one small file of the state folder.

    ``name``: what makes figures comparable (CPU, versions); another name is another file. A file that cannot be read
    or written costs the learning, never the run; that is said in the log.
    """

    def __init__(self, name: Mapping[str, Any]) -> None:
        digest = sha256(json.dumps(name, sort_keys=True).encode()).hexdigest()[:16]
        self.path = state_folder() / "noise-floor" / f"{digest}.json"
        self._name = dict(name)
        self._process: list[list[float]] = []
        self._occasions: dict[str, list[list[float]]] = {}
        self._read()

    def floor(self) -> NoiseFloor:
        """The floor that all records so far speak for."""
        process = [Record(*row) for row in self._process]
        visited, noisy = (
            [
                record
                for key, visits in self._occasions.items()
                if key.endswith(NOISY) is wanted and (record := occasion_record(visits)) is not None
            ]
            for wanted in (False, True)
        )
        found = BUILT_IN
        if process:
            spread, weight = fit(process, PROCESS_SPREAD)
            found = replace(found, process=spread, weight=weight, runs=len(process))
        if visited:
            spread, weight = fit(visited, OCCASION_SPREAD, OCCASION_WEIGHT, least=LEAST_OCCASION_WEIGHT)
            found = replace(found, occasion=spread, occasion_weight=weight)
        if noisy:
            spread, weight = fit(noisy, NOISY_OCCASION_SPREAD, OCCASION_WEIGHT, least=LEAST_OCCASION_WEIGHT)
            found = replace(found, occasion_noisy=spread, occasion_noisy_weight=weight)
        return replace(found, revisits=len(visited) + len(noisy))

    def add(self, process: Record | None, visits: Mapping[str, Sequence[float]]) -> None:
        """One finished run: what it says about processes, and for each file ``(time, log p50, variance of that)``.

        Runs that end at the same time wait for each other, so none writes over what another has learned.
        """
        try:
            with locked(self.path.with_suffix(".lock")):
                self._read()
                self._extend(process, visits)
                self._write()
        except (OSError, EdgekitError) as error:
            log.info("the noise floor of this machine is not kept: %s", error)

    def _extend(self, process: Record | None, visits: Mapping[str, Sequence[float]]) -> None:
        if process is not None:
            self._process = [*self._process, [process.seen, process.within, process.degrees]][-MOST_RECORDS:]
        for key, visit in visits.items():
            before = self._occasions.pop(key, [])
            soon = bool(before) and 0 <= visit[0] - before[-1][0] < APART_S
            self._occasions[key] = before if soon else [*before, [float(v) for v in visit]][-MOST_OCCASIONS:]
        for key in list(self._occasions)[:-MOST_RECORDS]:
            del self._occasions[key]

    def _write(self) -> None:
        body = {"schema": SCHEMA, "machine": self._name, "process": self._process, "occasions": self._occasions}
        with publishing(self.path) as target:
            target.write_text(json.dumps(body), encoding="utf-8")

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            data = read_regular(self.path, InputError, "the noise floor of this machine", "DOCUMENT_BYTES")
            saved = typed(_Saved, parse_json(data, InputError, self.path), "it")
            if saved.schema != SCHEMA:
                raise ValueError(f"schema {saved.schema!r}, wanted {SCHEMA!r}")
            every = (row for rows in (saved.process, *saved.occasions.values()) for row in rows)
            if not all(abs(value) < _LARGEST for row in every for value in row):
                raise ValueError(f"a number of it is {_LARGEST:g} or more")
            if not all(seen >= 0 and within >= 0 and degrees > 0 for seen, within, degrees in saved.process):
                raise ValueError("a variance is negative, or has no degrees of freedom")
        except (ValueError, EdgekitError) as error:
            log.info("%s is not read (%s): the noise floor is learned anew", self.path, error)
            return
        self._process = [list(row) for row in saved.process]
        self._occasions = {key: [list(row) for row in rows] for key, rows in saved.occasions.items()}


def state_folder() -> Path:
    """``$XDG_STATE_HOME/edgekit``, else ``~/.local/state/edgekit``, for a user without a home the temporary folder."""
    base = os.environ.get("XDG_STATE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "edgekit"
    try:
        return Path.home() / ".local" / "state" / "edgekit"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"edgekit-{os.getuid()}"


def _log_f(x: NDArray[np.float64], a: float, b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the density of the F distribution with ``a`` and ``b`` degrees of freedom."""
    constants = [math.lgamma((a + d) / 2) - math.lgamma(a / 2) - math.lgamma(d / 2) for d in b.ravel()]
    shape = np.array(constants).reshape(b.shape) + a / 2 * np.log(a / b)
    density: NDArray[np.float64] = shape + (a / 2 - 1) * np.log(x) - (a + b) / 2 * np.log1p(a * x / b)
    return density
