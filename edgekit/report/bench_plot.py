"""``bench --plot FILE.png|.svg``: how the times of each cell are spread, and how they went in time (matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import UsageError
from edgekit.escapes import visible
from edgekit.extras.base import found_by, short
from edgekit.extras.sustain import Sustain
from edgekit.outputs import check_output, output_suffix
from edgekit.results.bench import BenchRecord, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
BINS = 80
MOST_POINTS = 4000
"""Samples of one cell that are drawn against time, evenly taken: more make a file large and show no more."""
_WIDEST = 2.5
"""The histogram ends at so many times the largest p50: single interrupted runs would leave nothing to see."""


def check_plot(path: Path) -> str:
    """The format to draw, ``.png`` or ``.svg``; refuses, before anything is timed, what could not be drawn.

    Raises:
        UsageError: neither .png nor .svg, or a place that cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    suffix = output_suffix(path, FORMATS[0]).lower()
    if suffix not in FORMATS:
        raise UsageError(f"--plot {path}: give a file that ends in {' or '.join(FORMATS)}")
    check_output(path)
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    return suffix


def draw(record: BenchRecord, target: Path, suffix: str) -> None:
    """Draws the histogram, the times against time, and latency over hours where there is ``--sustain``.

    ``suffix`` is the format, whatever ``target`` is called.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    timed = [entry for entry in record.results if entry.samples_ns and entry.error is None]
    found = [(entry, found_by(entry, "sustain")) for entry in timed]
    long = [(entry, one) for entry, one in found if isinstance(one, Sustain)]
    with rc_context({"svg.hashsalt": "edgekit", "font.size": 9, "text.parse_math": False}):  # a name is not a formula
        figure = Figure(figsize=(10, 4.2 * (2 if long else 1)), layout="constrained")
        panels = figure.subplot_mosaic([["spread", "time"], ["long", "long"]] if long else [["spread", "time"]])
        _histogram(panels["spread"], timed)
        _series(panels["time"], timed)
        if long:
            _sustained(panels["long"], long)
        places = sorted({f"{entry.device.name}, {entry.device.cpu}" for entry in timed})
        evidence = ", ".join(sorted({str(entry.device.evidence) for entry in timed})) or "nothing was timed"
        scenario = ", ".join(sorted({entry.scenario for entry in timed}))
        title = f"{evidence} on {'; '.join(places)}; {scenario}" if places else evidence
        figure.suptitle(visible(title), fontsize=9)
        metadata = {"Date": None} if suffix.lower() == ".svg" else None
        figure.savefig(target, format=suffix[1:].lower(), dpi=150, metadata=metadata)


def _histogram(panel: Axes, entries: Sequence[Entry]) -> None:
    """Share of the runs over latency, on a logarithmic axis; a dashed line at each p50."""
    times = [np.asarray(entry.samples_ns, np.float64) / 1e6 for entry in entries]
    if times:
        low = min(float(ms.min()) for ms in times)
        high = max(_WIDEST * float(np.median(ms)) for ms in times)
        edges = np.geomspace(max(low, 1e-6), max(high, low * 1.01, 2e-6), BINS + 1)
        beyond = 0
        for number, (entry, ms) in enumerate(zip(entries, times, strict=True)):
            counts, _ = np.histogram(ms, edges)
            beyond += int((ms > edges[-1]).sum())
            panel.stairs(counts / ms.size, edges, label=_label(entry), color=f"C{number % 10}")
            panel.axvline(float(np.median(ms)), color=f"C{number % 10}", linestyle="--", linewidth=0.8)
        panel.set_xscale("log")
        panel.legend(fontsize=7)
        if beyond:
            panel.set_title(f"{beyond:,} slower runs are not shown", fontsize=8)
    panel.set_xlabel("latency, ms")
    panel.set_ylabel("share of the runs")


def _series(panel: Axes, entries: Sequence[Entry]) -> None:
    """Latency over the time that the cell itself has run, blocks one after the other."""
    for number, entry in enumerate(entries):
        ms = np.asarray(entry.samples_ns, np.float64) / 1e6
        at_s = np.cumsum(ms) / 1e3
        kept = np.unique(np.linspace(0, ms.size - 1, min(ms.size, MOST_POINTS)).astype(int))
        panel.plot(at_s[kept], ms[kept], ".", markersize=2, color=f"C{number % 10}", label=_label(entry))
    panel.set_yscale("log")
    panel.set_xlabel("time in the model, s")
    panel.set_ylabel("latency, ms")


def _sustained(panel: Axes, entries: Sequence[tuple[Entry, Sustain]]) -> None:
    """p50 and p90 of each window against time; a line where the model became slower."""
    for number, (entry, found) in enumerate(entries):
        windows, color = found.windows, f"C{number % 10}"
        panel.plot([w.at_s for w in windows], [w.p50_ms for w in windows], color=color, label=f"{_label(entry)}, p50")
        highs = [(w.at_s, w.p90_ms) for w in windows if w.p90_ms is not None]
        panel.plot([at for at, _ in highs], [ms for _, ms in highs], ":", color=color, label="p90")
        if found.throttled_at_s is not None:
            panel.axvline(found.throttled_at_s, color=color, linestyle="--", linewidth=0.8)
    panel.set_xlabel("time, s")
    panel.set_ylabel("latency, ms")
    panel.legend(fontsize=7)


def _label(entry: Entry) -> str:
    threads = f", {entry.threads} threads" if entry.threads > 1 else ""
    return visible(f"{short(entry.model)} ({entry.runtime}{threads})")
