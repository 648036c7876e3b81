"""docs/real-networks.md: what is wrong, then a table for each network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from results_page import machine

from edgekit.report.text import size

Row = Mapping[str, Any]
MIN_SNR_DB = 15.0
"""Of every output of a published file."""
MAX_REFUSED = 0.25
"""Share of the networks that may have a format without any compressed file."""
REFUSED = (1, 3)
"""Exit codes of a file that is refused with its reason: a gate said no, or it is nothing that can be quantized."""
OURS = ("int8", "int8-weights")
"""edgekit's rows; slower is a fault of the first and a note on the second, as ``quantize`` has it."""

ABOUT = f"""Networks that others trained, whose weights lie in packages of the index, taken down the whole line by
edgekit's command line and measured on the bare runtimes (`onnxruntime`, `ai_edge_litert`; one thread, one sample a
call, nothing reset between calls) with samples that did not calibrate. Made by `scripts/real_networks`, which fails
where a published file is wrong: an output below {MIN_SNR_DB:g} dB, the network's own measure below its bar, a crash, or
an `int8` file that `bench` calls slower than its float parent. Options of `quantize` other than the scheme and the data
stand with the file: networks whose own measure wants more than the floor of 15 dB are given `--min-snr`."""
COLUMNS = """dB: signal to noise of the worst output against the reference, which is the package's own network where it
is PyTorch, else the float file. Time: relative to the float file of the format, with a 95% interval, all files of a
format interleaved in one run; it is as noisy as the load was high, which stands at each network. Seconds and memory (of
the largest process) are those of the command that made the file. The time of NNCF's files is relative to the float file
in OpenVINO."""


def faults(row: Row, bar: float) -> list[str]:
    """Why a file of edgekit that was published is wrong; none where it is right or was refused."""
    if row["file"] not in OURS or row["exit"] in REFUSED:
        return []
    if row["exit"]:
        return [f"exit code {row['exit']}"]
    if "crash" in row:
        return ["it crashes in the bare runtime"]
    found = [f"{row['snr_db']:.1f} dB"] if row["snr_db"] < MIN_SNR_DB else []
    found += [f"measure {row['measure']:.4g}, at least {bar:g} is wanted"] if row["measure"] < bar else []
    return found + (["slower than its parent"] if row["file"] == "int8" and row.get("verdict") == "slower" else [])


def page(document: Mapping[str, Any]) -> tuple[str, bool]:
    """The page, and whether all of it holds."""
    networks: Mapping[str, Any] = document["networks"]
    wrong = [
        f"{name}, {row['format']} {row['file']}: {', '.join(row['wrong'])}"
        for name, network in networks.items()
        for row in network["rows"]
        if row.get("wrong")
    ]
    refused = [name for name, network in networks.items() if _refused(network)]
    held = not wrong and len(refused) <= MAX_REFUSED * len(networks)
    lines = [
        "# Real networks",
        "",
        *ABOUT.splitlines(),
        "",
        *machine(document["environment"]),
        "",
        f"- {_count(len(wrong), 'published file')} wrong{': ' if wrong else ''}{'; '.join(wrong)}.",
        f"- {_count(len(refused), 'network')} of {len(networks)} without a compressed file in a format"
        f"{': ' if refused else ''}{', '.join(refused)} (at most a quarter is allowed).",
        "",
        *COLUMNS.splitlines(),
    ]
    for name, network in networks.items():
        lines += ["", f"## {name}", "", *_network(network)]
    return "\n".join([*lines, ""]), held


def _refused(network: Mapping[str, Any]) -> bool:
    formats = {row["format"] for row in network["rows"]}
    kept = {row["format"] for row in network["rows"] if row["file"] in OURS and row["exit"] == 0}
    return not formats or formats != kept


def _network(network: Mapping[str, Any]) -> Iterator[str]:
    measure = f"Measure: {network['measure']}, at least {network['bar']:g}."
    yield f"`{network['package']}`; samples: {network['samples']}. {measure}"
    yield f"{network['date']}, load {network['load']:.1f}."
    yield ""
    yield "| file | bytes | dB | measure | time, float = 1 | | seconds | memory |"
    yield "|---|---:|---:|---|---:|---|---:|---:|"
    parents = {row["format"]: row["bytes"] for row in network["rows"] if row["file"] == "float"}
    for row in network["rows"]:
        yield f"| {' | '.join(_cells(row, parents[row['format']]))} |"
    yield ""
    for command in network["commands"]:
        ended = f", exit {command['exit']}: {_cell(command['reason'])}" if command["exit"] else ""
        yield f"- `{command['command']}`: {command['seconds']:.0f} s, {size(command['peak_bytes'])}{ended}"


def _cells(row: Row, parent: int) -> list[str]:
    name = " ".join(filter(None, (row["format"], row["file"], row.get("options"))))
    if row["file"] == "float":
        return [name, size(row["bytes"]), *_quality(row), "1", "", "", ""]
    taken = [f"{row['seconds']:.0f}", size(row["peak_bytes"])]
    if row["exit"]:
        return [f"{name}: exit {row['exit']}, {_cell(row['reason'])}", "", "", "", "", "", *taken]
    low, high = row.get("ci95") or (0, 0)
    interval = f" ({low:.2f}–{high:.2f})" if "ci95" in row else ""
    time = f"{row['time']:.2f}{interval}" if "time" in row else ""
    told = f"**wrong: {', '.join(row['wrong'])}**" if row["wrong"] else row.get("verdict", "")
    return [name, f"{size(row['bytes'])} ({row['bytes'] / parent:.2f})", *_quality(row), time, told, *taken]


def _quality(row: Row) -> list[str]:
    if "crash" in row:
        return ["", f"crashes: {_cell(row['crash'])}"]
    return ["∞" if row["snr_db"] > 200 else f"{row['snr_db']:.1f}", row["measured"]]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
