"""What the bench prints of the passes beside the timed one, one function a pass; each reads an entry of ``results``."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from edgekit.report.against import account_line, against_rows
from edgekit.report.text import ms, table
from edgekit.results.bench import Entry
from edgekit.results.measures import Absent, Energy, Failed, LayerTimes, ProbeRatio, Start, Times

T = TypeVar("T")


def extra_report(entry: Entry) -> list[Any]:
    """Everything there is of a cell beside its times, in the order of the options."""
    lines = (
        compressed_lines,
        load_lines,
        transfer_lines,
        sustain_lines,
        ledger_lines,
        roofline_lines,
        cold_lines,
        fit_lines,
        stage_lines,
        energy_lines,
        probe_lines,
        instruction_lines,
    )
    return [part for lines_of in lines for part in lines_of(entry)] + profile_report(entry)


def _of_pass(entry: Entry, name: str, found: Failed | T | None) -> tuple[T | None, list[str]]:
    """What a pass found, if it was run and did not fail; the line that says that it failed."""
    if not isinstance(found, Failed):
        return found, []
    option = "--" + name.replace("_", "-")
    return None, [f"{short(entry.model)}: {option} failed: {found.error.message}"]


def instruction_lines(entry: Entry) -> list[str]:
    """Of ``--instructions``: the count and what it is."""
    found, failed = _of_pass(entry, "instructions", entry.instructions)
    if found is None:
        return failed
    name = short(entry.model)
    return [f"{name}: {found.per_run:,} ARM instructions an inference ({found.evidence}; {found.counts})"]


def transfer_lines(entry: Entry) -> list[str]:
    """Of a run on an accelerator: what its time does not hold, and how accurate fewer bits were."""
    found, test = entry.transfer, entry.selftest
    name, lines = short(entry.model), []
    if found is not None:
        p50, sent, got = found.p50_ms, found.bytes_in, found.bytes_out
        own = f"; by its own clock the run takes {ms(p50.device)} ms" if p50.device is not None else ""
        lines.append(
            f"{name}: the time is of the run on {entry.device.chip or 'the accelerator'}; copies take "
            f"{ms(p50.copy_in)} ms in ({sent:,} bytes) and {ms(p50.copy_out)} ms out ({got:,} bytes){own}"
        )
    if test is not None and test.precision is not None:
        lines.append(
            f"{name} in {test.precision}: its self-test is off by {test.max_abs:.3g}, {test.tolerance:.3g} "
            "is allowed: passed"
        )
    return lines


def compressed_lines(entry: Entry) -> list[str]:
    """What the card of a compressed file says of it: the integer account, and the comparison with its parent."""
    found = entry.compressed
    if found is None:
        return []
    lines = [f"{short(entry.model)}: {account_line(found.account)}"]
    if found.parent is not None:
        rows = [f"{name} {after} ({said})" for name, _, after, said in against_rows(entry.bytes, found.parent)]
        lines.append(f"{short(entry.model)}, when it was made, against its parent: {'; '.join(rows)}")
    return lines


def short(model: str) -> str:
    """A model's file name."""
    return Path(model).name


SLOWED = 1.2
"""How many times its p50 a run may take under the profiler without a word."""


def profile_report(entry: Entry, top: int = 12) -> list[Any]:
    """Of ``--profile``: the operator types and the layers that take the most time, and what that stands on."""
    profile, failed = _of_pass(entry, "profile", entry.profile)
    if profile is None:
        return list(failed)
    title = f"{short(entry.model)}: time per operator type and layer ({profile.tool}, {profile.runs} runs)"
    types, layers = profile.types[:top], profile.layers[:top]
    rows = []
    for left, right in zip_longest(types, layers):
        named = ("",) * 4 if left is None else (left.type, f"{left.calls:g}", *_share(left))
        within = ("",) * 3 if right is None else (_LAYERS.get(right.layer, right.layer), *_share(right))
        rows.append((*named, *within))
    columns = ("operator", "calls", "ms a run", "share", "layer", "ms", "of all")
    parts: list[Any] = [table(columns, rows, title=title, right=("calls", "ms a run", "share", "ms", "of all"))]
    p50 = entry.p50_ms
    if p50 is not None and profile.run_ms > SLOWED * p50:
        parts.append(
            f"the profiler itself costs time: a run takes {ms(profile.run_ms)} ms under it, {ms(p50)} without; the "
            "shares say more than the milliseconds"
        )
    rest = f"{ms(profile.unattributed_ms)} of {ms(profile.run_ms)} ms a run belong to no operator"
    return [*parts, f"{rest}; {profile.reason}" if profile.reason else rest]


_LAYERS = {None: "unknown", "": "(model)"}


def _share(row: Times | LayerTimes) -> tuple[str, str]:
    return ms(row.ms), f"{100 * row.share:.1f}%"


def roofline_lines(entry: Entry) -> list[str]:
    """How much is computed and moved, and how near the model comes to what the machine can do."""
    found, failed = _of_pass(entry, "roofline", entry.roofline)
    if found is None:
        return failed
    said = f"{short(entry.model)}: {found.macs / 1e6:.4g} M multiply-accumulates, "
    said += f"{found.bytes / 1e6:.4g} MB moved, {found.attained_flops_per_s / 1e9:.3g} GFLOP/s"
    if found.share_of_roof is not None:
        roof = f"{found.roof_flops_per_s / 1e9:.3g} that the {found.bound} allows"
        said += f", {100 * found.share_of_roof:.0f}% of the {roof} at {found.intensity:.3g} operations a byte"
    elif found.narrow_macs:
        said += "; what the machine can do in less than 32 bits was not measured"
    if found.uncounted:
        said += f"; not counted: {', '.join(row.type for row in found.uncounted)}"
    return [said]


def cold_lines(entry: Entry) -> list[str]:
    """The three ways of starting, each in its parts."""
    found, failed = _of_pass(entry, "cold", entry.cold)
    if found is None:
        return failed
    ways = {
        "file out of the page cache": found.first_process,
        "file in the page cache": found.warm_disk,
        "compiled before": found.compiled_cache,
    }
    return [f"{short(entry.model)}: start, {words}: {_start(row)}" for words, row in ways.items()]


def _start(row: Start | Absent) -> str:
    if isinstance(row, Absent):
        return f"none: {row.absent}"
    parts = {"process": row.process, "import": row.imports, "load": row.load, "first": row.first}
    return f"{ms(row.total)} ms ({', '.join(f'{part} {ms(value)}' for part, value in parts.items())})"


def fit_lines(entry: Entry) -> list[str]:
    """The smallest memory limit, and what it counts."""
    found, failed = _of_pass(entry, "fit", entry.fit)
    if found is None:
        return failed
    said = f"{short(entry.model)}: runs under {found.kind} of {found.limit_bytes / 2**20:.0f} MiB and no less"
    return [f"{said} ({found.evidence}: {found.counts})"]


def stage_lines(entry: Entry) -> list[str]:
    """From a raw sample to an answer, beside the bare run."""
    found, failed = _of_pass(entry, "end_to_end", entry.end_to_end)
    if found is None:
        return failed
    parts = ", ".join(f"{row.stage} {ms(row.p50_ms)}" for row in found.stages)
    said = f"{short(entry.model)}: from raw sample to answer {ms(found.total_ms.p50)} ms ({parts})"
    return [f"{said}; the bare run {ms(entry.p50_ms)} ms"]


def energy_lines(entry: Entry) -> list[str]:
    """Joules of a run by each meter, or why it was not measured."""
    found, failed = _of_pass(entry, "energy", entry.energy)
    name = short(entry.model)
    if isinstance(found, Absent):
        return [f"{name}: energy: none: {found.absent}"]
    if not isinstance(found, Energy):
        return failed
    return [
        f"{name}: {row.name} ({row.source}): {1e3 * row.joules_per_run:.4g} mJ a run, "
        f"{1e3 * row.joules_per_run_beyond_idle:.4g} mJ of it beyond rest; {row.watts:.3g} W, at rest "
        f"{row.idle_watts:.3g} W"
        for row in found.meters
    ]


def probe_lines(entry: Entry) -> list[str]:
    """Denormals, real input, reset."""
    found, failed = _of_pass(entry, "probe", entry.probe)
    if found is None:
        return failed
    denormals, real = found.denormals, found.input
    said = [f"{denormals.denormal:,} of {denormals.weights:,} weights are denormal"]
    said.append(denormals.absent or f"time is {_times(denormals.ratio)} that with flush-to-zero")
    if isinstance(real, Absent):
        said.append(real.absent)
    else:
        said.append(f"time on the real input is {_times(real.ratio)} that on seeded values")
    said.append(f"a reset takes {ms(found.reset.p50_ms)} ms")
    return [f"{short(entry.model)}: " + "; ".join(said)]


def _times(row: ProbeRatio | None) -> str:
    if row is None or row.ratio_p50 is None:
        return "not known, relative to"
    interval = f" [{row.ci95[0]:.3f}, {row.ci95[1]:.3f}]" if row.ci95 else ""
    return f"{row.ratio_p50:.3f}{interval} times"


def ledger_lines(entry: Entry) -> list[str]:
    """Who ran the operators of a cell, where one was left to another than the delegate."""
    delegation = entry.delegation
    if delegation is None or not delegation.left:
        return []
    parts = []
    for row in delegation.shares:
        time = "" if row.share_time is None else f", {100 * row.share_time:.1f}% of the time"
        parts.append(f"{row.by} {row.nodes} of {delegation.nodes} operators{time}")
    kinds = ", ".join(sorted({row.type for row in delegation.left}))
    return [f"{short(entry.model)}: {'; '.join(parts)}; left: {kinds}"]


def load_lines(entry: Entry) -> list[str]:
    """What became of the queries of a ``server`` or a ``fixed-rate``."""
    found, name = entry.server or entry.fixed_rate, short(entry.model)
    if found is None:
        return []
    said = f"{name}: {found.queries:,} queries at {_rate(found.rate_per_s)} a second, {found.arrivals} arrivals, "
    said += f"model busy {100 * found.utilisation:.0f}% of the time, longest line {found.longest_line}"
    if found.given_up:
        said += f"; {found.given_up:,} queries were never served: the line grew without end"
    if found.highest_rate_per_s is not None:
        bound = f"{found.latency_bound_ms:g} ms"
        said += f"; highest rate with p99 within {bound}: {_rate(found.highest_rate_per_s)} a second"
    elif found.passed is not None:
        said += f"; p99 {'keeps' if found.passed else 'is over'} the bound of {found.latency_bound_ms:g} ms"
    if found.missed is not None and found.share_missed is not None:
        said += f"; {found.missed:,} deadlines of {found.deadline_ms:.4g} ms missed"
        said += f" ({100 * found.share_missed:.2f}%)"
    return [said]


def sustain_lines(entry: Entry) -> list[str]:
    """Whether a model that ran for long became slower, and when."""
    found, failed = _of_pass(entry, "sustain", entry.sustain)
    if found is None:
        return failed
    said = f"{short(entry.model)}: {found.seconds:.0f} s of work, p50 {ms(found.first_ms)} ms at first"
    said += f", {ms(found.last_ms)} ms at the end"
    if found.throttled_at_s is None or found.change is None:
        return [f"{said}; {found.reason}"]
    return [f"{said}; {found.change.ratio:.2f} times as slow from {found.throttled_at_s:.0f} s on"]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
