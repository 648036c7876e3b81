"""docs/results.md: the bars, then a table for each network."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.report.text import SHARES, figure, ms, points, size, worse

Network = Mapping[str, Any]
Row = Mapping[str, Any]
DOCS = Path("docs")
MICRO = "results-mcu.json"
"""What scripts/results_mcu found."""
_MICRO_HEAD = "## Microcontrollers"
DATA = {
    "mlp": "breast-cancer", "cnn": "cifar10", "rnn": "fsdd", "lstm": "fsdd", "gru": "fsdd", "transformer": "sst2@dev",
    "gan": "digits", "autoencoder": "digits", "detector": "digit-scenes", "segmenter": "digit-masks",
}  # fmt: skip
"""Network -> what its shipped weights are measured on."""
INT8 = {
    "cnn": 0.006,
    "lstm": 0.005,
    "gru": 0.005,
    "transformer": 0.005,
    "gan": 0.05,
    "autoencoder": 0.01,
    "detector": 0.01,
    "segmenter": 0.01,
}
"""What int8 may lose: shares of accuracy, area or overlap; the gan's Frechet distance relative to the float file's."""
PRUNED = {"cnn": (0.01, 0.65), "lstm": (0.01, None)}
"""What pruning may lose before anything is quantized, and the time it may take, of the float file of its format."""
MAX_TIME, MAX_BYTES = 0.60, 0.30
"""Geometric means over the networks, of the shipped recipes against the best float file."""


@dataclass(frozen=True)
class Bar:
    """``held`` None: not measured."""

    wanted: str
    held: bool | None
    seen: str


def page(document: Mapping[str, Any]) -> tuple[str, bool]:
    """The page, and whether every bar holds."""
    networks: dict[str, Network] = {network["network"]: network for network in document["networks"]}
    bars = list(_bars(networks))
    lines = [
        "# Results",
        "",
        "What compression costs and brings, from the shipped weights, made by `scripts/results` on "
        f"{datetime.date.today().isoformat()}.",
        *machine(document["environment"]),
        "Every figure of a network is from one run on this machine, all files interleaved, one thread, batch 1; times",
        "are relative to the fastest float file of any runtime, with 95% intervals; all figures are in",
        "[results.json](results.json).",
        "",
        "| bar | | measured |",
        "|---|---|---|",
    ]
    told = {True: "holds", False: "**missed**", None: "not measured"}
    lines += [f"| {bar.wanted} | {told[bar.held]} | {bar.seen} |" for bar in bars]
    for network in networks.values():
        lines += ["", f"## {network['network']}, {network['data']}", "", *_table(network)]
    return "\n".join([*lines, ""]), all(bar.held for bar in bars)


def with_micro(text: str, document: Mapping[str, Any]) -> str:
    """The page with its last section written anew: the networks on microcontrollers."""
    lines = [
        _MICRO_HEAD,
        "",
        "The shipped networks by `quantize --scheme int8 --for mcu`, made by `scripts/results_mcu` on "
        f"{document['made']}.",
        *machine(document["environment"]),
        f"Quality is that of at most {document['limit']} samples of the test split, the same three times: the float",
        "file, the int8 file in LiteRT, and in TensorFlow Lite for Microcontrollers. `off` is the largest difference",
        "of an output from LiteRT's reference kernels, in steps of its scale, on samples that did not calibrate;",
        "in brackets that of XNNPACK's kernels. Sizes are in bytes; all is in [results-mcu.json](results-mcu.json).",
        "",
        "| network | metric | float | int8, LiteRT | int8, TFLM | off | bytes | arena | persistent | tensors |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in document["networks"]:
        if "refused" in row:
            lines.append(f"| {row['network']} | it does not run there: {row['refused']} | | | | | | | | |")
            continue
        metric, micro = row["metric"], row["micro"]
        arena = micro["arena"]
        shown = [figure(metric, row[key]) for key in ("float", "litert", "tflm")]
        off = f"{micro['max_steps']:g} ({micro['litert_steps']:g})"
        sizes = [size(n) for n in (row["bytes"], *(arena[k] for k in _ARENA))]
        lines.append("| " + " | ".join([row["network"], metric, *shown, off, *sizes]) + " |")
    return f"{text.partition(_MICRO_HEAD)[0].rstrip()}\n\n" + "\n".join([*lines, ""])


_ARENA = ("bytes", "persistent_bytes", "non_persistent_bytes")


def machine(environment: Mapping[str, Any]) -> list[str]:
    """CPU, cores, load and versions, as a line."""
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    load = environment.get("load")
    return [f"{environment['cpu']}, {environment['cores']} cores{f', load {load[0]:.1f}' if load else ''}; {versions}."]


def _bars(networks: Mapping[str, Network]) -> Iterator[Bar]:
    for name, most in INT8.items():
        yield _int8(name, most, networks.get(name))
    for name, (most, time) in PRUNED.items():
        yield _pruned(name, most, time, networks.get(name))
    yield _auto(networks)
    yield _recipes(networks)
    yield _larger(networks)


def _int8(name: str, most: float, network: Network | None) -> Bar:
    wanted = f"{name}: int8 loses at most {_lost_of(name, most)}, both formats"
    if network is None:
        return Bar(wanted, None, "")
    rows = [_row(network, f"int8 {format_}") for format_ in ("onnx", "tflite")]
    if any(row is None for row in rows):
        return Bar(wanted, False, "; ".join(_refusals(network)))
    found = [row for row in rows if row is not None]
    seen = ", ".join(f"{row['format']} {_lost(row)}" for row in found)
    return Bar(wanted, all(row["drop"] <= most for row in found), seen)


def _pruned(name: str, most: float, time: float | None, network: Network | None) -> Bar:
    wanted = f"{name}, half of its multiply-accumulates pruned: at most {_allowed(most)} lost"
    wanted += f", at most {time:g}× the time, both formats" if time else ""
    rows = [] if network is None else [row for row in network["rows"] if row["file"].startswith("pruned ")]
    if len(rows) < 2:
        return Bar(wanted, None, "")
    held = all(row["drop"] <= most and (time is None or _of_its_parent(network, row) <= time) for row in rows)
    seen = [f"{row['format']} {_lost(row)}, {_of_its_parent(network, row):.2f}×" for row in rows]
    return Bar(wanted, held, "; ".join(seen))


def _of_its_parent(network: Network | None, row: Row) -> float:
    parent = None if network is None else _row(network, f"float {row['format']}")
    assert parent is not None
    return float(row["p50_ms"] / parent["p50_ms"])


def _auto(networks: Mapping[str, Network]) -> Bar:
    wanted = "`auto` is never slower than the best float file, and loses at most 1 point"
    found = {name: row for name, network in networks.items() if (row := _row(network, "auto")) is not None}
    if not found:
        return Bar(wanted, None, "")
    slower = [name for name, row in found.items() if (row["against_best_float"] or {}).get("verdict") == "slower"]
    lost = [name for name, row in found.items() if row["drop"] > 0.01]
    seen = f"{len(found)} networks, geometric mean {_mean([_ratio(row) for row in found.values()]):.2f}×"
    seen += f"; slower: {', '.join(slower)}" if slower else ""
    seen += f"; lost more: {', '.join(lost)}" if lost else ""
    return Bar(wanted, not slower and not lost and len(found) == len(networks), seen)


def _recipes(networks: Mapping[str, Network]) -> Bar:
    wanted = (
        f"shipped recipes: geometric mean at most {MAX_TIME:.2f}× the time and {MAX_BYTES:.2f}× the bytes of the best "
        "float file, at most 1 point lost each"
    )
    found = {name: row for name, network in networks.items() if (row := _row(network, "recipe")) is not None}
    if not found:
        return Bar(wanted, None, "")
    time = _mean([_ratio(row) for row in found.values()])
    floats = {name: _row(network, network["best_float"]) for name, network in networks.items()}
    shares = [row["bytes"] / best["bytes"] for name, row in found.items() if (best := floats[name]) is not None]
    lost = [name for name, row in found.items() if row["drop"] > 0.01]
    seen = f"{time:.2f}× the time, {_mean(shares):.2f}× the bytes of {len(found)} networks"
    seen += f"; lost more: {', '.join(lost)}" if lost else ""
    held = time <= MAX_TIME and _mean(shares) <= MAX_BYTES and not lost and len(found) == len(networks)
    return Bar(wanted, held, seen)


def _larger(networks: Mapping[str, Network]) -> Bar:
    wanted = "no int8 file that edgekit wrote is larger than its float parent"
    pairs = [
        (network["network"], format_, row, _row(network, f"float {format_}"))
        for network in networks.values()
        for format_ in ("onnx", "tflite")
        if (row := _row(network, f"int8 {format_}")) is not None
    ]
    larger = [f"{name} {format_}" for name, format_, row, parent in pairs if parent and row["bytes"] > parent["bytes"]]
    return Bar(wanted, not larger if pairs else None, ", ".join(larger) or f"{len(pairs)} files")


def _table(network: Network) -> Iterator[str]:
    yield "| file | quality | lost | bytes | p50 ms | time / best float | |"
    yield "|---|---|---:|---:|---:|---:|---|"
    for row in network["rows"]:
        if "refused" in row:
            yield f"| {row['file']} | refused: {row['refused'].splitlines()[0]} | | | | | |"
            continue
        compared = row["against_best_float"]
        told = "1"
        if compared is not None:
            low, high = compared["ci95"]
            told = f"{compared['ratio_p50']:.2f} ({low:.2f}–{high:.2f})"
        verdict = "" if compared is None else compared["verdict"]
        cells = [
            row["file"], f"{row['metric']} {figure(row['metric'], row['quality'])}", _lost(row), size(row["bytes"]),
            ms(row["p50_ms"]), told, verdict,
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _row(network: Network, name: str) -> Row | None:
    return next((row for row in network["rows"] if row["file"] == name and "refused" not in row), None)


def _refusals(network: Network) -> Iterator[str]:
    yield from (f"{row['file']}: {row['refused']}" for row in network["rows"] if "refused" in row)


def _ratio(row: Row) -> float:
    return 1.0 if row["against_best_float"] is None else float(row["against_best_float"]["ratio_p50"])


def _mean(values: list[float]) -> float:
    """Geometric."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _lost(row: Row) -> str:
    return points(row["drop"]) if row["metric"] in SHARES else worse(row["drop"])


def _lost_of(name: str, most: float) -> str:
    return f"{most:.0%} of its Fréchet distance" if name == "gan" else _allowed(most)


def _allowed(most: float) -> str:
    return f"{100 * most:.1f} points"
