"""The page of a bench: how times are spread and how they went, and where they are spent, by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.extras.base import short, with_typed_extras
from edgekit.extras.profile import Profile
from edgekit.report.bench import bench_report
from edgekit.report.page import plots
from edgekit.report.page.names import unlike
from edgekit.report.page.parts import Plot, Section
from edgekit.report.text import ms
from edgekit.results.bench import BenchRecord, Entry
from edgekit.types import Sheet

BINS = 60
POINTS = 900
"""Points of all lines over time together: more make a page large and show no more."""
BEYOND = 2.5
"""The histogram ends at so many times the largest p50: single interrupted runs would leave nothing to see."""
LAYERS = 40
"""Layers that are drawn, the slowest; the document has them all."""


def bench_sections(read: BenchRecord) -> list[Section]:
    """Of a record that was read from a document.

    Raises:
        InputError: what stands beside the times of a cell is not what an extra finds.
    """
    try:
        record = replace(read, results=tuple(map(with_typed_extras, read.results)))
    except ValueError as error:
        raise InputError(f"an extra of the bench is not valid: {error}; run the bench again") from error
    timed = [entry for entry in record.results if entry.samples_ns and entry.error is None]
    sections = [Section("Latency", bench_report(record))]
    if timed:
        sections.append(Section("Distribution and course of the times", [histogram(timed), course(timed)]))
    profiles = [(entry, entry.extras.get("profile")) for entry in record.results]
    profiled = [(entry, found) for entry, found in profiles if isinstance(found, Profile)]
    if profiled:
        sections.append(Section("Time by layer", [layer_times(profiled), kind_times(profiled)]))
    return sections


def cell_name(entry: Entry, among: Sequence[Entry]) -> str:
    """What tells a cell from the others: the file, and runtime, device and threads where these differ."""
    told = [short(entry.model)]
    for text, others in (
        (str(entry.runtime), {str(one.runtime) for one in among}),
        (entry.device.name, {one.device.name for one in among}),
        (threads(entry), {threads(one) for one in among}),
        (f"batch {entry.batch}", {f"batch {one.batch}" for one in among}),
    ):
        if len(others) > 1:
            told.append(text)
    return ", ".join(told)


def threads(entry: Entry) -> str:
    """In words."""
    return "1 thread" if entry.threads == 1 else f"{entry.threads} threads"


def names_of(entries: Sequence[Entry]) -> list[str]:
    """A name for each cell, no two alike."""
    names = [cell_name(entry, entries) for entry in entries]
    return unlike(names)


def histogram(entries: Sequence[Entry]) -> Plot:
    """How the times of each cell are spread."""
    times = [np.asarray(entry.samples_ns, np.float64) / 1e6 for entry in entries]
    low = max(min(float(one.min()) for one in times), 1e-6)
    high = max(max(BEYOND * float(np.median(one)) for one in times), low * 1.01)
    edges = np.geomspace(low, high, BINS + 1)
    rows: list[dict[str, Any]] = []
    beyond = 0
    for name, one in zip(names_of(entries), times, strict=True):
        counts, _ = np.histogram(np.maximum(one, low), edges)
        beyond += int((one > high).sum())
        steps = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        rows += [
            {"cell": name, "low": start, "high": end, "share": count / one.size, "runs": count}
            for start, end, count in steps
            if count
        ]
    more = f" {beyond:,} slower runs lie beyond {ms(high)} ms and are not drawn." if beyond else ""
    about = f"Share of the runs by latency, of {len(entries)} cells; milliseconds, on a logarithmic axis.{more}"
    table = [(row["cell"], ms(row["low"]), ms(row["high"]), row["runs"]) for row in rows]
    sheet = Sheet(("cell", "from ms", "to ms", "runs"), table, right=("from ms", "to ms", "runs"))
    return Plot("Latency histogram", about, plots.histogram(rows, about), sheet)


def course(entries: Sequence[Entry]) -> Plot:
    """How the times went: of pieces of each cell's samples the median, and the least and the largest."""
    rows: list[dict[str, Any]] = []
    most = min(max(POINTS // len(entries), 20), 250)
    for name, entry in zip(names_of(entries), entries, strict=True):
        times = np.asarray(entry.samples_ns, np.float64) / 1e6
        at_s = np.cumsum(times) / 1e3
        for piece in np.array_split(np.arange(times.size), min(times.size, most)):
            part = times[piece]
            rows.append({
                "cell": name, "at_s": float(at_s[piece[-1]]), "p50": float(np.median(part)), "low": float(part.min()),
                "high": float(part.max()), "runs": part.size,
            })  # fmt: skip
    about = (
        "Latency over the time that each cell has run, its blocks one after the other: the line is the median of "
        "neighbouring runs, the band goes from the fastest to the slowest of them."
    )
    columns = ("cell", "until s", "p50 ms", "least ms", "largest ms", "runs")
    table = [(r["cell"], f"{r['at_s']:.3f}", ms(r["p50"]), ms(r["low"]), ms(r["high"]), r["runs"]) for r in rows]
    return Plot("Latency over time", about, plots.series(rows, about), Sheet(columns, table, right=columns[1:]))


def layer_times(profiled: Sequence[tuple[Entry, Profile]]) -> Plot:
    """Time of each layer in every file, so that an integer file stands beside its float one."""
    names = names_of([entry for entry, _ in profiled])
    spent: list[dict[str, float]] = [{} for _ in profiled]
    for one, (_, found) in zip(spent, profiled, strict=True):
        for row in found.layers:
            one[_layer(row.layer)] = one.get(_layer(row.layer), 0.0) + row.ms
    total: dict[str, float] = {}
    for one in spent:
        for layer, time in one.items():
            total[layer] = max(total.get(layer, 0.0), time)
    slowest = sorted(total, key=lambda layer: -total[layer])[:LAYERS]
    rows = [
        {"name": layer, "value": one[layer], "group": name}
        for layer in slowest
        for name, one in zip(names, spent, strict=True)
        if layer in one
    ]
    left = f" The slowest {LAYERS} of {len(total)} layers." if len(total) > LAYERS else ""
    about = f"Milliseconds a run by layer, under the profiler, in which shares mean more than milliseconds.{left}"
    table = [(layer, *(one.get(layer) for one in spent)) for layer in slowest]
    sheet = Sheet(("layer", *names), table, right=names)
    return Plot("Time by layer", about, plots.bars(rows, about, "ms a run", group="file"), sheet)


def kind_times(profiled: Sequence[tuple[Entry, Profile]]) -> Plot:
    """Time of each type of operator in every file."""
    names = names_of([entry for entry, _ in profiled])
    rows: list[dict[str, Any]] = [
        {"name": row.type or "unknown", "value": row.ms, "group": name, "share": row.share, "calls": row.calls}
        for name, (_, found) in zip(names, profiled, strict=True)
        for row in found.types[:LAYERS]
    ]
    about = "Milliseconds a run by type of operator, as each runtime names them."
    columns = ("file", "operator", "calls", "ms a run", "share")
    table = [(r["group"], r["name"], f"{r['calls']:g}", ms(r["value"]), f"{100 * r['share']:.1f}%") for r in rows]
    sheet = Sheet(columns, table, right=columns[2:])
    return Plot("Time by type of operator", about, plots.bars(rows, about, "ms a run", group="file"), sheet)


def _layer(layer: str | None) -> str:
    """A layer as the network calls it: a converter's wrapper has it as its ``module``."""
    if layer is None:
        return "unknown"
    return layer.removeprefix("module").removeprefix(".") or "(model)"
