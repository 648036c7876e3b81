"""The whole line on data that needs no download: train, prune, export, quantize, evaluate, bench; one table."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import edgekit
from edgekit.bench.compare import compare_paired
from edgekit.bench.result import CellResult
from edgekit.errors import EdgekitError
from edgekit.report.document import dumps, envelope
from edgekit.report.text import ms, ratio, share, show, size, table

OUT = Path("runs/quickstart")
DATA = "digits"
FORMATS = ("onnx", "tflite")
STAGES = ("float", "pruned", "int8")
MAX_DROP = 0.01
"""Accuracy a shipped file may lose against its float parent: one point."""


def main() -> int:
    show_progress()
    started = time.monotonic()
    files = build()
    rows = measure(files, DATA)
    choice = choose(rows)
    document = envelope(
        "quickstart", {"data": DATA, "rows": rows, "ship": choice, "seconds": time.monotonic() - started}
    )
    (OUT / "results.json").write_text(dumps(document), encoding="utf-8")
    columns = ("stage", "format", "accuracy", "bytes", "p50 ms", "time / float", "verdict", "file")
    cells = []
    for r in rows:
        figures = (share(r["accuracy"]), size(r["bytes"]), ms(r["p50_ms"]), ratio(r["ratio"]))
        cells.append((r["stage"], r["format"], *figures, r["verdict"], r["file"]))
    show([table(columns, cells, title=f"cnn on {DATA}", right=columns[2:6]), choice["sentence"]], sys.stdout)
    print(f"Everything is in {OUT}/ ({time.monotonic() - started:.0f} s).")
    return 0


def build() -> dict[tuple[str, str], Path]:
    """Trains, prunes, exports and quantizes; (stage, format) -> file."""
    step("train")
    edgekit.train("cnn", data=DATA, out=OUT / "cnn.safetensors", seed=0, progress=epoch)
    step("prune: half of the work, then train what is left")
    edgekit.prune(
        OUT / "cnn.safetensors", amount=0.5, data=DATA, epochs=20, out=OUT / "cnn-pruned.safetensors", progress=epoch
    )
    step("export to ONNX and TFLite, each proved against the network")
    for name in ("cnn", "cnn-pruned"):
        edgekit.export(OUT / f"{name}.safetensors", to=FORMATS, data=DATA, out=OUT, name=name, overwrite=True)
    step("quantize the pruned network to int8")
    for suffix in FORMATS:
        edgekit.quantize(
            OUT / f"cnn-pruned.{suffix}", scheme="int8", data=DATA, out=OUT / f"cnn-pruned-int8.{suffix}", seconds=0
        )
    names = dict(zip(STAGES, ("cnn", "cnn-pruned", "cnn-pruned-int8"), strict=True))
    return {(stage, suffix): OUT / f"{names[stage]}.{suffix}" for suffix in FORMATS for stage in STAGES}


def measure(files: dict[tuple[str, str], Path], data: str, seconds: float = 2.0) -> list[dict[str, Any]]:
    """Accuracy of every file, and their times, taken in interleaved blocks."""
    step("evaluate")
    accuracy = {key: edgekit.evaluate(file, data=data).document()["value"] for key, file in files.items()}
    step("bench, all interleaved")
    timed = edgekit.bench(list(files.values()), seconds=seconds).results
    cells = dict(zip(files, timed, strict=True))
    rows = []
    for (stage, suffix), file in files.items():
        entry = cells[stage, suffix].document()
        found = against_parent(cells[stage, suffix], cells["float", suffix]) if stage != "float" else {"ratio_p50": 1.0}
        rows.append(
            {
                "stage": stage,
                "format": suffix,
                "file": file.name,
                "accuracy": accuracy[stage, suffix],
                "drop": accuracy["float", suffix] - accuracy[stage, suffix],
                "bytes": entry["bytes"],
                "p50_ms": entry["latency_ms"] and entry["latency_ms"]["p50"],
                "ratio": found.get("ratio_p50"),
                "ci95": found.get("ci95"),
                "verdict": found.get("verdict"),
            }
        )
    return rows


def against_parent(cell: CellResult, parent: CellResult) -> dict[str, Any]:
    """Time relative to the float file of the same format, from blocks of the same rounds; empty if one failed."""
    if not (cell.timed and parent.timed):
        return {}
    names = cell.setting.model, parent.setting.model
    owners = cell.owners, parent.owners
    return compare_paired(*names, cell.blocks, parent.blocks, owners).document()


def choose(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The fastest file among those that lost at most MAX_DROP; the float files always qualify."""
    good = [row for row in rows if row["p50_ms"] is not None and row["drop"] <= MAX_DROP]
    if not good:
        return {"file": None, "sentence": "No file could be timed: ship none before 'edgekit doctor' is happy."}
    best = min(good, key=lambda row: (row["p50_ms"], row["bytes"]))
    parent = next(row for row in rows if row["stage"] == "float" and row["format"] == best["format"])
    why = f"of the files that lose at most {100 * MAX_DROP:.0f} point it is the fastest here ({ms(best['p50_ms'])} ms"
    if best is not parent:
        lost = 100 * best["drop"]
        change = "no accuracy" if lost <= 0 else f"{lost:.2f} points"
        why += f", float {parent['format']} {ms(parent['p50_ms'])} ms), loses {change} and takes "
        why += f"{best['bytes'] / parent['bytes']:.0%} of the bytes"
    else:
        faster = [row["file"] for row in rows if row["p50_ms"] is not None and row["p50_ms"] < best["p50_ms"]]
        lost_more = f"faster, but lost more: {', '.join(faster)}"
        why += f"); {lost_more if faster else 'neither pruning nor int8 is faster on this machine'}"
    return {"file": best["file"], "sentence": f"Ship {best['file']}: {why}."}


def show_progress() -> None:
    """The log lines of edgekit, indented, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("  %(message)s"))
    logger = logging.getLogger("edgekit")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def epoch(done: int, epochs: int, loss: float, score: float, name: str) -> None:
    if done % 5 == 0 or done == epochs:
        step(f"  epoch {done} of {epochs}: loss {loss:.3f}, {name} {share(score)}")


def step(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
