"""From a raw sample to an answer: pre-processing, copy in, run, copy out, post-processing, each under the clock."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from edgekit.bench.clock import Samples, now_ns
from edgekit.data.preprocess import sample_feed
from edgekit.runtime import Runner
from edgekit.types import Array, Card, Feed

STAGES = ("read and pre-process", "copy in", "run", "copy out", "post-process")
MOST_RUNS, LEAST_RUNS = 1000, 11
_WARM = 3


def time_stages(runner: Runner, given: str, seconds: float) -> dict[str, Samples]:
    """Nanoseconds of each stage, run by run, from reading ``given`` (a file, a sentence) to the answer.

    The file is read anew each time, from the page cache. Copy in is what the runtime does to take the arrays, copy out
    what it does to hand results over, quantization of integer inputs and outputs included; where a runtime does them
    within its run they are zero, and ``run`` holds them.

    Raises:
        DataError: ``given`` cannot be read, or does not fit the model.
    """
    card = runner.artifact.card
    contract = card.contract if card is not None else {}
    runs: list[list[int]] = []
    started = now_ns()
    while len(runs) < _WARM + LEAST_RUNS or (len(runs) < MOST_RUNS and now_ns() - started < seconds * 1e9):
        at = [now_ns()]
        feed = sample_feed(given, runner.signature, contract)
        at.append(now_ns())
        copy_in, run, copy_out = runner.staged(feed)
        copy_in()
        at.append(now_ns())
        run()
        at.append(now_ns())
        outputs = copy_out()
        at.append(now_ns())
        answer(outputs, card)
        at.append(now_ns())
        runs.append([after - before for before, after in pairwise(at)])
    table = np.array(runs[_WARM:], np.int64)
    return {name: table[:, k].copy() for k, name in enumerate(STAGES)}


def time_transfer(runner: Runner, feed: Feed, seconds: float) -> dict[str, Samples]:
    """Nanoseconds of ``copy in``, ``run`` and ``copy out``, run by run, on values that are there, and of ``device``:
    the run by the accelerator's own clock (empty where it has none)."""
    runs: list[list[int]] = []
    started = now_ns()
    while len(runs) < _WARM + LEAST_RUNS or (len(runs) < MOST_RUNS and now_ns() - started < seconds * 1e9):
        at = [now_ns()]
        for part in runner.staged(feed):
            part()
            at.append(now_ns())
        runs.append([after - before for before, after in pairwise(at)])
    table = np.array(runs[_WARM:], np.int64)
    found = {name: table[:, k].copy() for k, name in enumerate(STAGES[1:4])}
    return {**found, "device": np.array(runner.device_ns(len(table)), np.int64)}


def answer(outputs: Mapping[str, Array], card: Card | None) -> Any:
    """What the card's task makes of the first output: the likeliest label, or values in the units of the data."""
    first = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1)
    if card is None:
        return first
    if card.task.kind == "classification":
        best = int(first.argmax())
        shifted = np.exp(first - first[best])
        return best, float(shifted[best] / shifted.sum())
    if card.task.kind == "forecasting":
        return first * float(card.task.params.get("std", 1.0)) + float(card.task.params.get("mean", 0.0))
    return first
