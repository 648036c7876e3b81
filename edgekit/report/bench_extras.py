"""What the bench prints of the passes beside the timed one, one function a pass; each reads an entry of ``results``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.report.against import account_line, against_rows
from edgekit.report.text import ms, table

Entry = Mapping[str, Any]


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


def instruction_lines(entry: Entry) -> list[str]:
    """Of ``--instructions``: the count and what it is."""
    found = entry.get("instructions")
    if not found or "error" in found:
        return list(_failed(entry, "instructions"))
    name = short(entry["model"])
    return [f"{name}: {found['per_run']:,} ARM instructions an inference ({found['evidence']}; {found['counts']})"]


def transfer_lines(entry: Entry) -> list[str]:
    """Of a run on an accelerator: what its time does not hold, and how accurate fewer bits were."""
    found, test = entry.get("transfer"), entry.get("selftest") or {}
    name, lines = short(entry["model"]), []
    if found:
        p50, sent, got = found["p50_ms"], found["bytes_in"], found["bytes_out"]
        own = f"; by its own clock the run takes {ms(p50['device'])} ms" if p50.get("device") is not None else ""
        lines.append(
            f"{name}: the time is of the run on {entry['device'].get('chip', 'the accelerator')}; copies take "
            f"{ms(p50['copy_in'])} ms in ({sent:,} bytes) and {ms(p50['copy_out'])} ms out ({got:,} bytes){own}"
        )
    if "precision" in test:
        lines.append(
            f"{name} in {test['precision']}: its self-test is off by {test['max_abs']:.3g}, {test['tolerance']:.3g} "
            "is allowed: passed"
        )
    return lines


def compressed_lines(entry: Entry) -> list[str]:
    """What the card of a compressed file says of it: the integer account, and the comparison with its parent."""
    found = entry.get("compressed")
    if not found:
        return []
    lines = [f"{short(entry['model'])}: {account_line(found['account'])}"]
    parent = found.get("parent")
    if parent:
        rows = [f"{name} {after} ({said})" for name, _, after, said in against_rows(entry["bytes"], parent)]
        lines.append(f"{short(entry['model'])}, when it was made, against its parent: {'; '.join(rows)}")
    return lines


def short(model: str) -> str:
    """A model's file name."""
    return Path(model).name


def profile_report(entry: Entry, top: int = 12) -> list[Any]:
    """Of ``--profile``: the operator types and the layers that take the most time, and what that stands on."""
    profile = entry.get("profile")
    if not profile or "error" in profile:
        return list(_failed(entry, "profile"))
    title = f"{short(entry['model'])}: time per operator type and layer ({profile['tool']}, {profile['runs']} runs)"
    types, layers = profile["types"][:top], profile["layers"][:top]
    rows = []
    for index in range(max(len(types), len(layers))):
        left = types[index] if index < len(types) else None
        right = layers[index] if index < len(layers) else None
        rows.append((*_timed_row(left, "type"), *_timed_row(right, "layer")))
    columns = ("operator", "calls", "ms a run", "share", "layer", "ms", "of all")
    parts: list[Any] = [table(columns, rows, title=title, right=("calls", "ms a run", "share", "ms", "of all"))]
    rest = f"{ms(profile['unattributed_ms'])} of {ms(profile['run_ms'])} ms a run belong to no operator"
    parts.append(f"{rest}; {profile['reason']}" if profile.get("reason") else rest)
    return parts


def _timed_row(row: Entry | None, label: str) -> tuple[object, ...]:
    if row is None:
        return ("",) * (4 if label == "type" else 3)
    name = {None: "unknown", "": "(model)"}.get(row[label], row[label])
    figures = (ms(row["ms"]), f"{100 * row['share']:.1f}%")
    return (name, f"{row['calls']:g}", *figures) if label == "type" else (name, *figures)


def roofline_lines(entry: Entry) -> list[str]:
    """How much is computed and moved, and how near the model comes to what the machine can do."""
    found = entry.get("roofline")
    if not found or "error" in found:
        return _failed(entry, "roofline")
    said = f"{short(entry['model'])}: {found['macs'] / 1e6:.4g} M multiply-accumulates, "
    said += f"{found['bytes'] / 1e6:.4g} MB moved, {found['attained_flops_per_s'] / 1e9:.3g} GFLOP/s"
    if found["share_of_roof"] is not None:
        roof = f"{found['roof_flops_per_s'] / 1e9:.3g} that the {found['bound']} allows"
        said += f", {100 * found['share_of_roof']:.0f}% of the {roof} at {found['intensity']:.3g} operations a byte"
    if found["uncounted"]:
        said += f"; not counted: {', '.join(row['type'] for row in found['uncounted'])}"
    return [said]


_WAYS = {
    "first_process": "file out of the page cache",
    "warm_disk": "file in the page cache",
    "compiled_cache": "compiled before",
}


def cold_lines(entry: Entry) -> list[str]:
    """The three ways of starting, each in its parts."""
    found = entry.get("cold")
    if not found or "error" in found:
        return _failed(entry, "cold")
    lines = []
    for way, words in _WAYS.items():
        row = found[way]
        if "absent" in row:
            lines.append(f"{short(entry['model'])}: start, {words}: none: {row['absent']}")
            continue
        parts = ", ".join(f"{part} {ms(row[part])}" for part in ("process", "import", "load", "first"))
        lines.append(f"{short(entry['model'])}: start, {words}: {ms(row['total'])} ms ({parts})")
    return lines


def fit_lines(entry: Entry) -> list[str]:
    """The smallest memory limit, and what it counts."""
    found = entry.get("fit")
    if not found or "error" in found:
        return _failed(entry, "fit")
    said = f"{short(entry['model'])}: runs under {found['kind']} of {found['limit_bytes'] / 2**20:.0f} MiB and no less"
    return [f"{said} ({found['evidence']}: {found['counts']})"]


def stage_lines(entry: Entry) -> list[str]:
    """From a raw sample to an answer, beside the bare run."""
    found = entry.get("end_to_end")
    if not found or "error" in found:
        return _failed(entry, "end_to_end")
    parts = ", ".join(f"{row['stage']} {ms(row['p50_ms'])}" for row in found["stages"])
    bare = (entry["latency_ms"] or {}).get("p50")
    said = f"{short(entry['model'])}: from raw sample to answer {ms(found['total_ms']['p50'])} ms ({parts})"
    return [f"{said}; the bare run {ms(bare)} ms"]


def energy_lines(entry: Entry) -> list[str]:
    """Joules of a run by each meter, or why it was not measured."""
    found = entry.get("energy")
    if not found or "error" in found:
        return _failed(entry, "energy")
    name = short(entry["model"])
    if "absent" in found:
        return [f"{name}: energy: none: {found['absent']}"]
    return [
        f"{name}: {row['name']} ({row['source']}): {1e3 * row['joules_per_run']:.4g} mJ a run, "
        f"{1e3 * row['joules_per_run_beyond_idle']:.4g} mJ of it beyond rest; {row['watts']:.3g} W, at rest "
        f"{row['idle_watts']:.3g} W"
        for row in found["meters"]
    ]


def probe_lines(entry: Entry) -> list[str]:
    """Denormals, real input, reset."""
    found = entry.get("probe")
    if not found or "error" in found:
        return _failed(entry, "probe")
    denormals = found["denormals"]
    said = [f"{denormals['denormal']:,} of {denormals['weights']:,} weights are denormal"]
    said.append(denormals.get("absent") or f"time is {_times(denormals['ratio'])} that with flush-to-zero")
    real = found["input"]
    said.append(real.get("absent") or f"time on the real input is {_times(real['ratio'])} that on seeded values")
    said.append(f"a reset takes {ms(found['reset']['p50_ms'])} ms")
    return [f"{short(entry['model'])}: " + "; ".join(said)]


def _times(row: Entry) -> str:
    interval = f" [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]" if row["ci95"] else ""
    return f"{row['ratio_p50']:.3f}{interval} times"


def _failed(entry: Entry, name: str) -> list[str]:
    found = entry.get(name)
    option = "--" + name.replace("_", "-")
    return [f"{short(entry['model'])}: {option} failed: {found['error']['message']}"] if found else []


def ledger_lines(entry: Entry) -> list[str]:
    """Who ran the operators of a cell, where one was left to another than the delegate."""
    delegation = entry.get("delegation") or {}
    if not delegation.get("left"):
        return []
    parts = []
    for row in delegation["shares"]:
        time = "" if row["share_time"] is None else f", {100 * row['share_time']:.1f}% of the time"
        parts.append(f"{row['by']} {row['nodes']} of {delegation['nodes']} operators{time}")
    kinds = ", ".join(sorted({row["type"] for row in delegation["left"]}))
    return [f"{short(entry['model'])}: {'; '.join(parts)}; left: {kinds}"]


def load_lines(entry: Entry) -> list[str]:
    """What became of the queries of a ``server`` or a ``fixed-rate``."""
    found, name = entry.get("server") or entry.get("fixed_rate"), short(entry["model"])
    if not found:
        return []
    said = (
        f"{name}: {found['queries']:,} queries at {_rate(found['rate_per_s'])} a second, {found['arrivals']} arrivals, "
    )
    said += f"model busy {100 * found['utilisation']:.0f}% of the time, longest line {found['longest_line']}"
    if found["given_up"]:
        said += f"; {found['given_up']:,} queries were never served: the line grew without end"
    if "highest_rate_per_s" in found:
        bound = f"{found['latency_bound_ms']:g} ms"
        said += f"; highest rate with p99 within {bound}: {_rate(found['highest_rate_per_s'])} a second"
    elif "passed" in found:
        said += f"; p99 {'keeps' if found['passed'] else 'is over'} the bound of {found['latency_bound_ms']:g} ms"
    if "missed" in found:
        said += f"; {found['missed']:,} deadlines of {found['deadline_ms']:.4g} ms missed"
        said += f" ({100 * found['share_missed']:.2f}%)"
    return [said]


def sustain_lines(entry: Entry) -> list[str]:
    """Whether a model that ran for long became slower, and when."""
    found = entry.get("sustain")
    if not found or "error" in found:
        return _failed(entry, "sustain")
    said = f"{short(entry['model'])}: {found['seconds']:.0f} s of work, p50 {ms(found['first_ms'])} ms at first"
    said += f", {ms(found['last_ms'])} ms at the end"
    if found["throttled_at_s"] is None:
        return [f"{said}; {found['reason']}"]
    return [f"{said}; {found['change']['ratio']:.2f} times as slow from {found['throttled_at_s']:.0f} s on"]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
