"""Bench results as text, CSV and Markdown. All read the JSON documents ``bench`` and ``compare``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.escapes import visible
from edgekit.report.bench_extras import extra_report, short
from edgekit.report.text import NONE, ms, size, table
from edgekit.types import Evidence

if TYPE_CHECKING:
    from rich.table import Table

Document = Mapping[str, Any]
Entry = Mapping[str, Any]
COLUMNS = (
    "model", "format", "runtime", "threads", "p50 ms", "p90 ms", "p99 ms", "ratio [95%]", "verdict",
    "load ms", "first ms", "peak MB", "delegated",
)  # fmt: skip
NAMED_FROM = 0.05
"""Other processes that used less of a core than this go without saying."""
RIGHT = ("threads", "p50 ms", "p90 ms", "p99 ms", "load ms", "first ms", "peak MB")


def bench_report(document: Document) -> list[Any]:
    """What the command line prints of a bench document: the table, then what the figures stand on."""
    parts: list[Any] = [bench_table(document), *evidence_lines(document)]
    parts += [curve_table(curve) for curve in document.get("thread_curves", [])]
    if document.get("baseline"):
        parts.append(comparison_table(document["baseline"]["comparisons"], f"against {document['baseline']['path']}"))
    if document.get("parents"):
        parts.append(comparison_table(document["parents"], "each compressed file against its parent"))
    for entry in document["results"]:
        parts += extra_report(entry)
    return parts


def curve_table(curve: Entry) -> Table:
    """One row a thread count of ``--threads 1,2,4``."""
    rows = []
    for point in curve["points"]:
        interval = f" [{point['ci95'][0]:.2f}, {point['ci95'][1]:.2f}]" if point["ci95"] else ""
        speedup = NONE if point["speedup"] is None else f"{point['speedup']:.2f}{interval}"
        efficiency = NONE if point["efficiency"] is None else f"{100 * point['efficiency']:.0f}%"
        rows.append((str(point["threads"]), ms(point["p50_ms"]), speedup, efficiency))
    title = f"{short(curve['model'])} ({curve['runtime']}, {curve['device']}): best with {curve['best']} threads"
    head = ("threads", "p50 ms", "speed-up [95%]", "efficiency")
    return table(head, rows, title=title, right=("threads", "p50 ms", "efficiency"))


def bench_table(document: Document) -> Table:
    """One row a cell. In place of a percentile without enough runs stands the number of runs it needs."""
    several = len({entry["device"]["name"] for entry in document["results"]}) > 1
    return table(("device", *COLUMNS) if several else COLUMNS, _rows(document, several), right=RIGHT)


def comparison_table(comparisons: Sequence[Entry], title: str | None = None) -> Table:
    """One row a comparison: a, b, ratio with its interval, verdict, smallest detectable slowdown."""
    rows = [(c["a"], c["b"], _ratio(c), _verdict(c), _percent(c["smallest_detectable"])) for c in comparisons]
    return table(("a", "b", "time of a / b [95%]", "a is", "detectable from"), rows, title=title)


def evidence_lines(document: Document) -> list[str]:
    """What the figures stand on: device, CPU, evidence class and noise; failed cells with their reason."""
    lines = []
    finished = [entry for entry in document["results"] if "error" not in entry]
    places = {(e["device"]["name"], e["device"]["cpu"], e["device"]["evidence"]) for e in finished}
    for name, cpu, evidence in sorted(places):
        here = [entry for entry in finished if entry["device"]["name"] == name]
        if not Evidence(evidence).has_time:
            lines.append(
                f"{evidence} on {name}, {cpu}: the files load and run; latency is not measured under emulation"
            )
            continue
        if evidence == Evidence.CONSTRAINED:
            lines.append(
                f"{name}: it shows what fits in that memory on those cores; the times are of this machine's cores"
            )
        if any("tool" in entry for entry in here):
            tool = here[0]["tool"]
            lines.append(
                f"{evidence} on {name}, {cpu}; timed by {tool['name']}, {len(tool['invocations'])} invocations of "
                f"each in turns, seed {document['seed']}; the tool does not report its samples, "
                "so the noise within an invocation is unknown"
            )
            continue
        noisy = [short(entry["model"]) for entry in here if (entry["noise"] or {}).get("verdict") == "noisy"]
        said = f"noisy: {', '.join(noisy)}" if noisy else "stable"
        lines.append(
            f"{evidence} on {name}, {cpu}; {here[0]['scenario']}, batch {_batches(here)}; "
            f"{_machine(document, name)['rounds']} interleaved rounds, seed {document['seed']}; noise: {said}"
        )
    for machine in document["protocol"].get("machines", [document["protocol"]]):
        lines += _disturbance(machine)
    for entry in document["results"]:
        if "error" in entry:
            where = f"{entry['device']['name']}, {entry['threads']} threads"
            lines.append(f"failed: {entry['model']} ({where}): {entry['error']['type']}: {entry['error']['message']}")
    return lines


def _blocks(count: int, one: str, many: str) -> str:
    return f"1 block {one}" if count == 1 else f"{count} blocks {many}"


def _machine(document: Document, device: str) -> Entry:
    """How the cells on the machine that ``device`` is were timed."""
    protocol: Entry = document["protocol"]
    found: Entry = next((row for row in protocol.get("machines", ()) if device in row["devices"]), protocol)
    return found


def _disturbance(protocol: Mapping[str, Any]) -> list[str]:
    """Who else used the processor, what was taken again for it, and what an interrupted run had taken before."""
    lines = []
    others, heat = protocol.get("others") or {}, protocol.get("thermometer") or {}
    if isinstance(others.get("cores"), float) and others["cores"] >= NAMED_FROM:
        busiest = ", ".join(f"{row['name']} {row['cores']:.2f}" for row in others["busiest"][:3])
        lines.append(f"meanwhile other processes used {others['cores']:.2f} cores ({busiest})")
    if heat.get("slow"):
        lines.append(
            f"the machine was slow at {heat['slow']} of {heat['readings']} readings; "
            f"{_blocks(heat['repeated_blocks'], 'was', 'were')} repeated"
        )
    if protocol.get("kept_blocks"):
        lines.append(f"{_blocks(protocol['kept_blocks'], 'is', 'are')} from an earlier run that was interrupted")
    return lines


def bench_markdown(document: Document) -> str:
    """The table of :func:`bench_table` in Markdown, the evidence lines and those of the other passes under it."""
    columns = ("device", *COLUMNS)
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in _rows(document, True)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    beside = [f"- {part}" for entry in document["results"] for part in extra_report(entry) if isinstance(part, str)]
    text = "\n".join([*lines, "", *evidence_lines(document), *(["", *beside] if beside else [])])
    return visible(text).replace("<", "&lt;") + "\n"


def bench_csv(document: Document) -> str:
    """One line a cell with plain numbers: times in milliseconds, an empty field where there is no figure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = ("p50", "p90", "p99", "p99_9", "mean", "min", "max", "std")
    head = (
        "model",
        "sha256",
        "format",
        "bytes",
        "runtime",
        "device",
        "evidence",
        "cpu",
        "threads",
        "batch",
        "scenario",
    )
    tail = ("load_ms", "first_ms", "peak_memory_bytes", "throughput_per_s", "noise", "ratio_p50", "verdict", "error")
    beside = ("load_memory_bytes", "arena_bytes", "operators", "delegated", "macs", "share_of_roof", "fit_bytes")
    writer.writerow((*head, "samples", *(f"{key}_ms" for key in keys), "p50_low_ms", "p50_high_ms", *tail, *beside))
    for entry, found in _with_comparison(document):
        latency, device = entry["latency_ms"] or {}, entry["device"]
        named = {**entry, "device": device["name"], "evidence": device["evidence"], "cpu": device["cpu"]}
        interval = latency.get("ci95_p50") or (None, None)
        cold = entry["cold_start_ms"]
        rest = (cold["load"], cold["first"], entry["peak_memory_bytes"], entry["throughput_per_s"])
        verdict = (found["ratio_p50"], found["verdict"]) if found else (None, None)
        noise, error = (entry["noise"] or {}).get("verdict"), entry.get("error", {}).get("message")
        figures = (entry["samples"], *(latency.get(key) for key in keys), *interval)
        writer.writerow((*(named[key] for key in head), *figures, *rest, noise, *verdict, error, *_beside(entry)))
    return visible(out.getvalue())


def _beside(entry: Entry) -> tuple[object, ...]:
    """The figures of the other passes that are one number, None if there is no such number."""
    delegation, roofline = entry.get("delegation") or {}, entry.get("roofline") or {}
    memory = (entry.get("load_memory_bytes"), entry.get("arena_bytes"))
    operators = (delegation.get("nodes"), delegation.get("delegated"))
    fit = (entry.get("fit") or {}).get("limit_bytes")
    return (*memory, *operators, roofline.get("macs"), roofline.get("share_of_roof"), fit)


def compare_report(document: Document) -> list[Any]:
    """What the command line prints of a compare document."""
    parts: list[Any] = [comparison_table(document["comparisons"])]
    parts += [f"only in one of the files: {name}" for name in document["unmatched"]]
    return [*parts, f"verdict: {document['verdict']}"]


def _rows(document: Document, with_device: bool) -> list[list[str]]:
    names = [entry["model"] for entry in document["results"]]
    whole = len({short(name) for name in names}) < len(set(names))
    compared_with = {(c["b"], c["device"], c["threads"], c["runtimes"][1]) for c in document["comparisons"]}
    rows = []
    for entry, found in _with_comparison(document):
        cell = (entry["model"], entry["device"]["name"], entry["threads"], entry["runtime"])
        outcome = _outcome(entry, found, cell in compared_with)
        peak, cold = entry["peak_memory_bytes"], entry["cold_start_ms"]
        row = [
            entry["model"] if whole else short(entry["model"]), entry["format"], entry["runtime"] or NONE,
            str(entry["threads"]), *(_percentile(entry, key) for key in ("p50", "p90", "p99")),
            _ratio(found) if found else NONE, outcome, ms(cold["load"]), ms(cold["first"]),
            NONE if peak is None else f"{peak / 1e6:.0f}", _delegated(entry["delegation"]),
        ]  # fmt: skip
        rows.append([entry["device"]["name"], *row] if with_device else row)
    return rows


def _with_comparison(document: Document) -> list[tuple[Entry, Entry | None]]:
    """Every entry with its comparison against the first of its group."""
    by_cell = {(c["a"], c["device"], c["threads"], c["runtimes"][0]): c for c in document["comparisons"]}
    return [
        (entry, by_cell.get((entry["model"], entry["device"]["name"], entry["threads"], entry["runtime"])))
        for entry in document["results"]
    ]


def _percentile(entry: Entry, key: str) -> str:
    value = (entry["latency_ms"] or {}).get(key)
    if value is None and key in entry["needs"]:
        return f"needs {size(entry['needs'][key]['samples'])} runs"
    return ms(value)


def _outcome(entry: Entry, found: Entry | None, first: bool) -> str:
    if "error" in entry:
        return "failed"
    return _verdict(found) if found else "baseline" if first else NONE


def _verdict(found: Entry) -> str:
    return f"{found['verdict']}: {found['reason']}" if found.get("reason") else str(found["verdict"])


def _ratio(found: Entry) -> str:
    if found["ratio_p50"] is None:
        return NONE
    interval = f" [{found['ci95'][0]:.3f}, {found['ci95'][1]:.3f}]" if found["ci95"] else ""
    return f"{found['ratio_p50']:.3f}{interval}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}%"


def _delegated(delegation: Mapping[str, Any] | None) -> str:
    if not delegation or delegation.get("nodes") is None:
        return NONE
    by = delegation.get("by")
    name = str(by or "").removesuffix("ExecutionProvider")
    return f"{delegation['delegated']}/{delegation['nodes']} {name}".rstrip()


def _batches(entries: Sequence[Entry]) -> str:
    return ", ".join(str(batch) for batch in sorted({entry["batch"] for entry in entries}))
