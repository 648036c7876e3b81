"""The bars of compression from the shipped weights; writes docs/results.md and docs/results.json. See scripts/results.

For each network one run: both float files, int8 of both, what other tools make with their defaults, the choice of
``quantize --scheme auto`` and that of the shipped recipe; all timed interleaved, quality on the test split. What is
finished is kept in --out and not done again; --fresh does.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from other_tools import ai_edge_quantizer_defaults, onnxruntime_defaults
from results_page import DATA, DOCS, MICRO, page, with_micro

import edgekit
from edgekit.artifact import open_artifact, write_card
from edgekit.bench.compare import compare_paired
from edgekit.data import open_data
from edgekit.data.dataset import stratified
from edgekit.data.preprocess import feeds
from edgekit.errors import EdgekitError
from edgekit.pipeline.quantize import CALIBRATION_SAMPLES
from edgekit.report.document import dumps, envelope
from edgekit.results.eval import drop
from edgekit.runtime import load
from edgekit.types import Card

FORMATS = ("onnx", "tflite")
MAX_DROP = 0.01


@dataclass(frozen=True)
class Entry:
    """One file of a network's table: how it was made, and the file, or why it could not be made."""

    name: str
    path: Path | None = None
    refused: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(DATA)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each file")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished (files are kept)")
    parser.add_argument("--write", action="store_true", help=f"write {DOCS}/results.md and {DOCS}/results.json")
    options = parser.parse_args()
    unknown = sorted(set(options.networks) - DATA.keys())
    if unknown:
        parser.error(f"no network is called {', '.join(unknown)}; there are: {', '.join(DATA)}")
    log = logging.getLogger("edgekit")
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    for name in options.networks or DATA:
        place = options.out / name / "results.json"
        if options.fresh or not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(dumps(measured(name, place.parent, options.seconds)), encoding="utf-8")
    found = {name: options.out / name / "results.json" for name in DATA}
    networks = [json.loads(place.read_text(encoding="utf-8")) for place in found.values() if place.exists()]
    document = json.loads(dumps(envelope("results", {"max_drop": MAX_DROP, "networks": networks})))
    text, held = page(document)
    print(text)
    if options.write:
        if (DOCS / MICRO).exists():
            text = with_micro(text, json.loads((DOCS / MICRO).read_text(encoding="utf-8")))
        (DOCS / "results.md").write_text(text, encoding="utf-8")
        (DOCS / "results.json").write_text(dumps(document), encoding="utf-8")
    return 0 if held else 1


def measured(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """All of one network."""
    started = time.monotonic()
    entries = [entry for make in (ours, others, chosen) for entry in make(name, folder)]
    files = {entry.name: entry.path for entry in entries if entry.path is not None}
    quality = {key: edgekit.evaluate(path, data=DATA[name]).evaluation for key, path in files.items()}
    result = edgekit.bench(list(files.values()), seconds=seconds)
    cells = dict(zip(files, result.results, strict=True))
    floats = [key for key in files if key.startswith("float ")]
    p50 = {key: _p50(cells[key].document()) for key in files}
    best = min(floats, key=lambda key: p50[key] or math.inf)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        if entry.path is None:
            rows.append({"file": entry.name, "refused": entry.refused})
            continue
        cell, parent = cells[entry.name], cells[best]
        compared = None
        if entry.name != best and cell.timed and parent.timed:
            owners = cell.owners, parent.owners
            names = entry.name, best
            compared = compare_paired(*names, cell.blocks, parent.blocks, owners).document()
        same = f"float {entry.path.suffix[1:]}"
        rows.append(
            {
                "file": entry.name,
                "format": entry.path.suffix[1:],
                "metric": quality[entry.name].metric,
                "quality": quality[entry.name].value,
                "total": quality[entry.name].total,
                "drop": drop(quality[same], quality[entry.name]),
                "bytes": entry.path.stat().st_size,
                "p50_ms": p50[entry.name],
                "against_best_float": compared,
                "noise": cell.document().get("noise"),
                "steps": [step.name for step in card.steps] if (card := open_artifact(entry.path).card) else [],
            }
        )
    return {
        "network": name, "data": DATA[name], "best_float": best, "rows": rows,
        "seconds": round(time.monotonic() - started, 1), "environment": envelope("results", {})["environment"],
    }  # fmt: skip


def ours(name: str, folder: Path) -> Iterator[Entry]:
    """The float files, and int8 of each."""
    files = [folder / f"{name}.{format_}" for format_ in FORMATS]
    if not all(file.exists() for file in files):
        edgekit.export(name, to=FORMATS, out=folder, name=name)
    for file in files:
        yield Entry(f"float {file.suffix[1:]}", file)
    for file in files:
        small = file.with_name(f"{name}-int8{file.suffix}")
        yield _made(f"int8 {file.suffix[1:]}", small, lambda target: _quantized(file, target, name))  # noqa: B023


def _quantized(file: Path, target: Path, name: str) -> None:
    edgekit.quantize(file, scheme="int8", data=DATA[name], out=target, seconds=0)


def others(name: str, folder: Path) -> Iterator[Entry]:
    """What other tools make of the same float files with their defaults."""
    for format_, tools in zip(FORMATS, (onnxruntime_defaults, ai_edge_quantizer_defaults), strict=True):
        file = folder / f"{name}.{format_}"
        artifact = open_artifact(file)
        with load(file) as runner:
            signature = runner.signature
        contract = artifact.card.contract if artifact.card else {}
        samples = stratified(open_data(f"{DATA[name].partition('@')[0]}@train"), CALIBRATION_SAMPLES)
        for number, (tool, make) in enumerate(tools(file, tuple(feeds(samples, signature, contract)))):

            def untested(target: Path, make: Callable[[Path], None] = make, card: Card | None = artifact.card) -> None:
                make(target)
                if card is not None:  # the float file's answers are not this file's
                    write_card(target, replace(card, selftest=None))

            yield _made(tool, folder / f"{name}-other{number}{file.suffix}", untested)


def chosen(name: str, folder: Path) -> Iterator[Entry]:
    """The choice of ``auto`` for the network as it is, and the files of the shipped recipe."""
    floats = [folder / f"{name}.{format_}" for format_ in FORMATS]
    yield _auto("auto", floats, folder / f"{name}-auto", name)
    done = edgekit.recipe.run(name, out=folder / "recipe")
    for format_ in FORMATS:
        pruned = folder / "recipe" / f"pruned.{format_}"
        if pruned.exists():
            yield Entry(f"pruned {format_}", pruned)
    shipped = [path for format_ in FORMATS if (path := folder / "recipe" / f"small.{format_}").exists()]
    refused = str(done.failure() or "it ships no file")
    yield Entry("recipe", shipped[0]) if shipped else Entry("recipe", refused=refused)


def _auto(title: str, floats: list[Path], out: Path, name: str) -> Entry:
    made = [out.with_suffix(f".{format_}") for format_ in FORMATS]
    there = [path for path in made if path.exists()]
    if not there:
        try:
            edgekit.quantize(floats, scheme="auto", data=DATA[name], max_drop=MAX_DROP, out=out)
        except EdgekitError as error:
            return Entry(title, refused=str(error))
        there = [path for path in made if path.exists()]
    return Entry(title, there[0])


def _made(title: str, path: Path, make: Callable[[Path], None]) -> Entry:
    if not path.exists():
        try:
            make(path)
        except Exception as error:  # other people's tools raise anything; the table says what
            path.unlink(missing_ok=True)
            name = "" if isinstance(error, EdgekitError) else f"{type(error).__name__}: "
            return Entry(title, refused=f"{name}{error}".splitlines()[0][:160])
    return Entry(title, path)


def _p50(document: Mapping[str, Any]) -> float | None:
    latency = document["latency_ms"]
    return None if latency is None else float(latency["p50"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"results: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
