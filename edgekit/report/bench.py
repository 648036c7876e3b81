"""Results of ``bench`` and ``compare`` as text, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from edgekit.escapes import visible
from edgekit.extras.base import extras, found_by, short
from edgekit.report.bench_extras import extra_report
from edgekit.report.text import NONE, ms, size, table
from edgekit.results.bench import (
    BenchRecord,
    Busy,
    DelegationReport,
    Entry,
    LatencyFigures,
    Others,
    Protocol,
    ReferenceFigures,
    ThreadCurve,
    Timing,
)
from edgekit.results.compare import CompareResult, Comparison
from edgekit.results.measures import Failed
from edgekit.types import Evidence, Sheet

COLUMNS = (
    "model", "format", "runtime", "threads", "p50 ms", "p90 ms", "p99 ms", "ratio [95%]", "verdict",
    "load ms", "first ms", "peak MB", "delegated",
)  # fmt: skip
NAMED_FROM = 0.05
"""Other processes that used less of a core than this go without saying."""
RIGHT = ("threads", "p50 ms", "p90 ms", "p99 ms", "load ms", "first ms", "peak MB")


def bench_report(record: BenchRecord) -> list[Any]:
    """What the command line prints of a bench: the table, then what the figures stand on."""
    parts: list[Any] = [bench_table(record), *evidence_lines(record)]
    parts += [curve_table(curve) for curve in record.thread_curves or ()]
    if record.baseline is not None:
        parts.append(comparison_table(record.baseline.comparisons, f"against {record.baseline.path}"))
    if record.parents:
        parts.append(comparison_table(record.parents, "each compressed file against its parent"))
    for entry in record.results:
        parts += extra_report(entry)
    return parts


def curve_table(curve: ThreadCurve) -> Sheet:
    """One row a thread count of ``--threads 1,2,4``."""
    rows = []
    for point in curve.points:
        interval = f" [{point.ci95[0]:.2f}, {point.ci95[1]:.2f}]" if point.ci95 else ""
        speedup = NONE if point.speedup is None else f"{point.speedup:.2f}{interval}"
        efficiency = NONE if point.efficiency is None else f"{100 * point.efficiency:.0f}%"
        rows.append((str(point.threads), ms(point.p50_ms), speedup, efficiency))
    title = f"{short(curve.model)} ({curve.runtime}, {curve.device}): best with {curve.best} threads"
    head = ("threads", "p50 ms", "speed-up [95%]", "efficiency")
    return table(head, rows, title=title, right=("threads", "p50 ms", "efficiency"))


def bench_table(record: BenchRecord) -> Sheet:
    """One row a cell. In place of a percentile without enough runs stands the number of runs it needs."""
    several = len({entry.device.name for entry in record.results}) > 1
    return table(("device", *COLUMNS) if several else COLUMNS, _rows(record, several), right=RIGHT)


def comparison_table(comparisons: Sequence[Comparison], title: str | None = None) -> Sheet:
    """One row a comparison: a, b, ratio with its interval, verdict, smallest detectable slowdown."""
    rows = [(c.a, c.b, _ratio(c), _verdict(c), _percent(c.smallest_detectable)) for c in comparisons]
    return table(("a", "b", "time of a / b [95%]", "a is", "detectable from"), rows, title=title)


def evidence_lines(record: BenchRecord) -> list[str]:
    """What the figures stand on: device, CPU, evidence class and noise; failed cells with their reason."""
    lines = []
    finished = [entry for entry in record.results if entry.error is None]
    places = {(e.device.name, str(e.device.cpu), e.device.evidence) for e in finished}
    for name, cpu, evidence in sorted(places):
        here = [entry for entry in finished if entry.device.name == name]
        if not evidence.has_time:
            lines.append(
                f"{evidence} on {name}, {cpu}: the files load and run; latency is not measured under emulation"
            )
            continue
        if evidence == Evidence.CONSTRAINED:
            lines.append(
                f"{name}: it shows what fits in that memory on those cores; the times are of this machine's cores"
            )
        tool = here[0].tool
        if tool is not None:
            lines.append(
                f"{evidence} on {name}, {cpu}; timed by {tool.name}, {len(tool.invocations)} invocations of "
                f"each in turns, seed {record.seed}; the tool does not report its samples, "
                "so the noise within an invocation is unknown"
            )
            continue
        noisy = [short(entry.model) for entry in here if entry.noisy]
        said = f"noisy: {', '.join(noisy)}" if noisy else "stable"
        batches = ", ".join(str(batch) for batch in sorted({entry.batch for entry in here}))
        lines.append(
            f"{evidence} on {name}, {cpu}; {here[0].scenario}, batch {batches}; "
            f"{_timing(record.protocol, name).rounds} interleaved rounds, seed {record.seed}; noise: {said}"
        )
    machines = record.protocol.machines
    for timing in [record.protocol.timing] if machines is None else [machine.timing for machine in machines]:
        lines += _disturbance(timing)
    lines += [line for entry in record.results for line in _arena_lines(entry)]
    for entry in record.results:
        if entry.error is not None:
            where = f"{entry.device.name}, {entry.threads} threads"
            lines.append(f"failed: {entry.model} ({where}): {entry.error.type}: {entry.error.message}")
    return lines


def _arena_lines(entry: Entry) -> list[str]:
    """What a file takes of a microcontroller, and whether it fits."""
    if entry.arena is None:
        return []
    lines = [
        f"{short(entry.model)}: {entry.bytes:,} bytes of flash, {entry.arena}",
        f"{short(entry.model)}: register {', '.join(entry.arena.operators)}",
    ]
    if entry.budget is not None:
        lines.append(f"{short(entry.model)}: {entry.budget.exceeded or 'fits'}")
    return lines


def _blocks(count: int, one: str, many: str) -> str:
    return f"1 block {one}" if count == 1 else f"{count} blocks {many}"


def _timing(protocol: Protocol, device: str) -> Timing:
    """How the cells on the machine that ``device`` is were timed."""
    machines = protocol.machines or ()
    return next((machine.timing for machine in machines if device in machine.devices), protocol.timing)


def _disturbance(timing: Timing) -> list[str]:
    """Who else used the processor, what was taken again for it, and what an interrupted run had taken before."""
    lines = []
    others, heat = timing.others, timing.thermometer
    if isinstance(others, Others) and isinstance(others.cores, float) and others.cores >= NAMED_FROM:
        busiest = ", ".join(f"{row.name} {row.cores:.2f}" for row in others.busiest[:3] if isinstance(row, Busy))
        lines.append(f"meanwhile other processes used {others.cores:.2f} cores ({busiest})")
    if isinstance(heat, ReferenceFigures) and heat.slow:
        lines.append(
            f"the machine was slow at {heat.slow} of {heat.readings} readings; "
            f"{_blocks(heat.repeated_blocks, 'was', 'were')} repeated"
        )
    if timing.kept_blocks:
        lines.append(f"{_blocks(timing.kept_blocks, 'is', 'are')} from an earlier run that was interrupted")
    return lines


def bench_markdown(record: BenchRecord) -> str:
    """The table of :func:`bench_table` in Markdown, the evidence lines and those of the other passes under it."""
    columns = ("device", *COLUMNS)
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in _rows(record, True)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    beside = [f"- {part}" for entry in record.results for part in extra_report(entry) if isinstance(part, str)]
    against = _markdown_baseline(record)
    text = "\n".join([*lines, *against, "", *evidence_lines(record), *(["", *beside] if beside else [])])
    return visible(text).replace("<", "&lt;") + "\n"


def _markdown_baseline(record: BenchRecord) -> list[str]:
    """How it compares with what is named by ``--baseline``, and what ``--fail-slower`` came to."""
    lines: list[str] = []
    gate = record.gate
    if record.baseline is not None:
        found, gate = record.baseline, record.baseline.gate
        lines += ["", f"Against {found.path}:", "", "| a | b | time of a / b [95%] | a is |", "|---|---|---|---|"]
        lines += [f"| {c.a} | {c.b} | {_ratio(c)} | {_verdict(c)} |".replace("\n", " ") for c in found.comparisons]
        lines += ["", *(f"- only in one of the two: {name}" for name in found.unmatched)]
    if gate is not None:
        lines += ["", f"Gate of {gate.fail_slower:g}%: **{gate.outcome}**"]
    return lines


def bench_csv(record: BenchRecord) -> str:
    """One line a cell with plain numbers: times in milliseconds, an empty field where there is no figure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = [_figures(entry, found) for entry, found in _with_comparison(record)]
    writer.writerows([rows[0].keys(), *(row.values() for row in rows)])
    return visible(out.getvalue())


def _figures(entry: Entry, found: Comparison | None) -> dict[str, object]:
    """Column -> figure of a cell, None if there is no such number."""
    device, latency, cold = entry.device, entry.latency_ms or LatencyFigures(), entry.cold_start_ms
    low, high = latency.ci95_p50 or (None, None)
    delegation = entry.delegation
    figures = {
        "model": entry.model, "sha256": entry.sha256, "format": entry.format, "bytes": entry.bytes,
        "runtime": entry.runtime, "device": device.name, "evidence": device.evidence, "cpu": device.cpu,
        "threads": entry.threads, "batch": entry.batch, "scenario": entry.scenario, "samples": entry.samples,
        "p50_ms": latency.p50, "p90_ms": latency.p90, "p99_ms": latency.p99, "p99_9_ms": latency.p99_9,
        "mean_ms": latency.mean, "min_ms": latency.min, "max_ms": latency.max, "std_ms": latency.std,
        "p50_low_ms": low, "p50_high_ms": high, "load_ms": cold.load, "first_ms": cold.first,
        "peak_memory_bytes": entry.peak_memory_bytes, "throughput_per_s": entry.throughput_per_s,
        "noise": entry.noise and entry.noise.verdict,
        "ratio_p50": found and found.ratio, "verdict": found and found.verdict,
        "error": entry.error and entry.error.message,
        "load_memory_bytes": entry.load_memory_bytes, "arena_bytes": entry.arena_bytes,
        "operators": delegation and delegation.nodes, "delegated": delegation and delegation.delegated,
    }  # fmt: skip
    for name, extra in extras().items():
        found_beside = found_by(entry, name)
        figures |= extra.columns(None if isinstance(found_beside, Failed) else found_beside)
    return figures


def compare_report(result: CompareResult) -> list[Any]:
    """What the command line prints of a comparison."""
    parts: list[Any] = [comparison_table(result.comparisons)]
    parts += [f"only in one of the files: {name}" for name in result.unmatched]
    return [*parts, f"verdict: {result.verdict}"]


def _rows(record: BenchRecord, with_device: bool) -> list[list[str]]:
    names = [entry.model for entry in record.results]
    whole = len({short(name) for name in names}) < len(set(names))
    compared_with = {(c.b, c.device, c.threads, (c.runtimes or (None, None))[1]) for c in record.comparisons}
    rows = []
    for entry, found in _with_comparison(record):
        outcome = _outcome(entry, found, _cell(entry) in compared_with)
        peak, cold = entry.peak_memory_bytes, entry.cold_start_ms
        latency = entry.latency_ms or LatencyFigures()
        percentiles = (("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99))
        row = [
            entry.model if whole else short(entry.model), entry.format, entry.runtime or NONE,
            str(entry.threads), *(_percentile(entry, key, value) for key, value in percentiles),
            _ratio(found) if found else NONE, outcome, ms(cold.load), ms(cold.first),
            NONE if peak is None else f"{peak / 1e6:.0f}" if peak >= 1e7 else f"{peak / 1e6:.2g}",
            _delegated(entry.delegation),
        ]  # fmt: skip
        rows.append([entry.device.name, *row] if with_device else row)
    return rows


def _cell(entry: Entry) -> tuple[object, ...]:
    return entry.model, entry.device.name, entry.threads, entry.runtime


def _with_comparison(record: BenchRecord) -> list[tuple[Entry, Comparison | None]]:
    """Every entry with its comparison against the first of its group."""
    by_cell: dict[tuple[object, ...], Comparison] = {
        (c.a, c.device, c.threads, (c.runtimes or (None,))[0]): c for c in record.comparisons
    }
    return [(entry, by_cell.get(_cell(entry))) for entry in record.results]


def _percentile(entry: Entry, key: str, value: float | None) -> str:
    if value is None and key in entry.needs:
        return f"needs {size(entry.needs[key].samples)} runs"
    return ms(value)


def _outcome(entry: Entry, found: Comparison | None, first: bool) -> str:
    if entry.error is not None:
        return "failed"
    return _verdict(found) if found else "baseline" if first else NONE


def _verdict(found: Comparison) -> str:
    return f"{found.verdict}: {found.reason}" if found.reason else str(found.verdict)


def _ratio(found: Comparison) -> str:
    if found.ratio is None:
        return NONE
    interval = f" [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]" if found.ci95 else ""
    return f"{found.ratio:.3f}{interval}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}%"


def _delegated(delegation: DelegationReport | None) -> str:
    if delegation is None:
        return NONE
    name = str(delegation.by or "").removesuffix("ExecutionProvider")
    told = ", ".join(f"{count} {what}" for what, count in (delegation.precisions or {}).items())
    return f"{delegation.delegated}/{delegation.nodes} {name}".rstrip() + (f" ({told})" if told else "")
