"""Networks × formats: exported and proved, or refused with the reason. Writes docs/coverage.md."""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "networks")]
from catalogue import NETWORKS, Entry, recurrent  # noqa: E402

FORMATS = ("onnx", "tflite")
DOCUMENT = ROOT / "docs" / "coverage.md"
FIGURES = ROOT / "docs" / "coverage.json"
"""What was found, kept so that single networks can be done again."""
TIMEOUT_S = 900


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks (or kinds of layers) to do again; all of them without any")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        for source, dynamic in json.loads(options.here):
            print(json.dumps(_one(source, dynamic)), flush=True)
        return 0
    groups = [[entry] for entry in NETWORKS] + [_layers(kind, sources) for kind, sources in recurrent().items()]
    chosen = [group for group in groups if not options.names or group[0].name.split(":")[0] in options.names]
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() and options.names else {}
    for group in chosen:
        for entry, found in zip(group, _apart(group), strict=True):
            known[entry.id] = {**found, "date": datetime.date.today().isoformat()}
    known = {entry.id: known[entry.id] for group in groups for entry in group if entry.id in known}
    FIGURES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(_document(known), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}", file=sys.stderr)
    cells = [cell for found in known.values() for cell in found["formats"].values()]
    return 1 if any(cell["outcome"] in ("WRONG", "failed") for cell in cells) else 0


def _layers(kind: str, sources: dict[str, str]) -> list[Entry]:
    """The options of one kind of layer, as entries."""
    return [Entry(f"{kind}:{option}", "layer", source) for option, source in sources.items()]


def _apart(entries: list[Entry]) -> list[dict[str, Any]]:
    """Networks in a process of their own, so that its memory is theirs and a crash ends nothing else."""
    work = json.dumps([(entry.source, list(entry.dynamic)) for entry in entries])
    command = [sys.executable, __file__, "--here", work]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        out, why = done.stdout, (done.stderr.strip().splitlines()[-1:] or ["no message"])[0]
    except subprocess.TimeoutExpired as slow:
        out, why = (slow.stdout or b"").decode(), f"not done after {TIMEOUT_S} s"
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    bad = {"outcome": "failed", "reason": why}
    missing = {"parameters": 0, "peak_bytes": 0, "formats": dict.fromkeys(FORMATS, bad)}
    found += [missing] * (len(entries) - len(found))
    for entry, one in zip(entries, found, strict=True):
        for name, cell in one["formats"].items():
            print(f"{entry.name} {' '.join(entry.dynamic)} {name}: {_words(cell)}", file=sys.stderr, flush=True)
    return found


def _one(source: str, dynamic: list[str]) -> dict[str, Any]:
    """Parameters, both formats and the peak of memory of one network, in this process."""
    from timm_here import use_timm

    from edgekit.converters.torch_to_tflite import TorchToTflite
    from edgekit.errors import EdgekitError
    from edgekit.source import resolve

    TorchToTflite().warm_up()  # its start of seconds is not part of a conversion
    if source.startswith("timm:"):
        use_timm()
    try:
        state = resolve(source).module.state_dict()
    except EdgekitError as error:
        refused = {"outcome": "refused", "reason": str(error)}
        return {"parameters": 0, "peak_bytes": 0, "formats": dict.fromkeys(FORMATS, refused)}
    parameters = sum(t.numel() for t in state.values())
    formats = {name: _export(source, name, dynamic) for name in FORMATS}
    peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"parameters": parameters, "peak_bytes": max(peaks), "formats": formats}


def _export(source: str, to: str, dynamic: list[str]) -> dict[str, Any]:
    import edgekit
    from edgekit.errors import EdgekitError, ParityError, UnsupportedError

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = edgekit.export(source, to=to, out=folder, dynamic=dynamic).artifacts[0]
        except ParityError as error:
            return {"outcome": "WRONG", "reason": str(error)}
        except UnsupportedError as error:
            return {"outcome": "refused", "reason": str(error).replace(f"{folder}/", "")}
        except EdgekitError as error:
            return {"outcome": "failed", "reason": str(error)}
        operators = edgekit.inspect(made.artifact.path).document()["operators"]
    return {
        "outcome": "exact" if made.parity.max_abs == 0 else "tolerance",
        "max_abs": made.parity.max_abs,
        "scale": max(made.parity.scale.values()),
        "cases": len(made.parity.cases),
        "bytes": made.bytes,
        "operators": sum(operators.values()),
        "seconds": time.monotonic() - started,
    }


def _words(cell: dict[str, Any]) -> str:
    if cell["outcome"] in ("exact", "tolerance"):
        return f"{_proof(cell)}, {cell['operators']} operators, {cell['bytes']:,} bytes, {cell['seconds']:.1f} s"
    return f"{cell['outcome']}: {cell['reason']}"


def _proof(cell: dict[str, Any]) -> str:
    return "exact" if cell["outcome"] == "exact" else f"{cell['max_abs']:.0e} of {cell['scale']:.2g}"


def _document(known: dict[str, dict[str, Any]]) -> str:
    from edgekit.artifact import library_versions
    from edgekit.bench.environment import environment

    cpu = environment()["cpu"]
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "litert-torch", "ai-edge-litert", "timm", "transformers")
    from timm_here import use_timm

    use_timm()
    rows = [(entry, known[entry.id]) for entry in NETWORKS if entry.id in known]
    dates = sorted({found["date"] for found in known.values()})
    versions = ", ".join(f"{name} {version}" for name, version in library_versions(*packages).items())
    lines = [
        "# Which networks go through",
        "",
        f"Made by `scripts/coverage` on {' to '.join(dict.fromkeys((dates[0], dates[-1])))}: {cpu}; {versions}.",
        "",
        "Every file was run against the network it came from, on random, zero, extreme and example inputs, and at "
        "several sizes of each dynamic axis. *exact*: no output differs at all. Otherwise the largest difference of "
        "any output on any input, and the largest output: 1e-4 of that is allowed, less is rounding. *refused*: no "
        "file, with the reason. A file that differs would stand here as WRONG.",
        "Seconds: conversion and proof, with the converter's process already started. Memory: the largest process.",
        "",
    ]
    for group in dict.fromkeys(entry.group for entry, _ in rows):
        lines += [f"## {_title(group)}", "", *_table([(e, found) for e, found in rows if e.group == group]), ""]
    matrix = {
        kind: {option: known[f"{kind}:{option}"] for option in sources if f"{kind}:{option}" in known}
        for kind, sources in recurrent().items()
    }
    lines += ["## Recurrent layers", "", *_matrix(matrix)]
    return "\n".join(lines).rstrip() + "\n"


def _title(group: str) -> str:
    return {
        "a user's own": "Networks of one's own",
        "timm": "timm",
        "transformers": "transformers",
        "zoo": "The zoo, trained",
    }[group]


def _table(rows: list[tuple[Entry, dict[str, Any]]]) -> list[str]:
    head = ("network", "dynamic", "parameters")
    each = ("proof", "operators", "bytes", "s")
    titles = [*head, *(f"{name} {part}" for name in ("ONNX", "TFLite") for part in each), "memory"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * 3}{'---:|' * 9}"]
    notes = []
    for entry, found in rows:
        axes = ", ".join(axis.partition("=")[2] for axis in entry.dynamic)
        cells = [entry.name, axes, f"{found['parameters']:,}"]
        for name in FORMATS:
            cell = found["formats"][name]
            if cell["outcome"] in ("exact", "tolerance"):
                cells += [_proof(cell), str(cell["operators"]), f"{cell['bytes']:,}", f"{cell['seconds']:.1f}"]
            else:
                cells += [cell["outcome"], "", "", ""]
                notes.append(
                    f"- {entry.name}{f' ({axes})' if axes else ''}, {name}: {cell['outcome']}. {cell['reason']}"
                )
        lines.append(f"| {' | '.join(cells)} | {found['peak_bytes'] / 2**20:,.0f} MiB |")
    return [*lines, *([""] if notes else []), *dict.fromkeys(notes)]


def _matrix(matrix: dict[str, dict[str, Any]]) -> list[str]:
    options = list(dict.fromkeys(option for row in matrix.values() for option in row))
    lines = [
        "12 steps of 5 numbers, 8 units; in each cell ONNX, then TFLite: largest difference, operators.",
        "",
        f"| layer | {' | '.join(option.replace('_', ' ') for option in options)} |",
        f"|---|{'---|' * len(options)}",
    ]
    notes = []
    for kind, row in matrix.items():
        cells = []
        for option in options:
            if option not in row:
                cells.append("")
                continue
            parts = []
            for name in FORMATS:
                cell = row[option]["formats"][name]
                good = cell["outcome"] in ("exact", "tolerance")
                shown = f"{cell.get('max_abs') or 0:.0e}" if cell["outcome"] != "exact" else "exact"
                parts.append(f"{shown}, {cell['operators']}" if good else cell["outcome"])
                if not good:
                    notes.append(f"- {kind} {option}, {name}: {cell['reason']}")
            cells.append(" · ".join(parts))
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return [*lines, "", *notes]


if __name__ == "__main__":
    sys.exit(main())
