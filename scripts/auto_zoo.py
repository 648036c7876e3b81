"""``--scheme auto`` on every shipped network, both formats; writes OUT/auto.json and OUT/auto.md. See scripts/auto_zoo.

A network that is finished is not run again while its float files are the same; one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import edgekit
from edgekit.artifact import publishing, sha256_file
from edgekit.errors import EdgekitError
from edgekit.pipeline.auto import AutoResult
from edgekit.report.document import dumps, envelope
from edgekit.report.text import SHARES, figure, ms

FORMATS = ("onnx", "tflite")
DATA = {
    "mlp": "breast-cancer",
    "cnn": "cifar10",
    "rnn": "fsdd",
    "lstm": "fsdd",
    "gru": "fsdd",
    "transformer": "sst2@dev",
    "gan": "digits",
    "autoencoder": "digits",
}
"""Network -> the data that its shipped weights are measured on."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(DATA)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/auto_zoo"))
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each file in the last match")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--on", default="cpu")
    parser.add_argument("--smaller", action="store_true", help="the smallest in the same time where none is faster")
    parser.add_argument("--fresh", action="store_true", help="run finished and interrupted networks again")
    options = parser.parse_args()
    unknown = sorted(set(options.networks) - DATA.keys())
    if unknown:
        parser.error(f"no network is called {', '.join(unknown)}; there are: {', '.join(DATA)}")
    logging.getLogger("edgekit").addHandler(logging.StreamHandler())
    logging.getLogger("edgekit").setLevel(logging.INFO)
    rows, failed = [], []
    for name in options.networks or DATA:
        try:
            rows.append(row_of(name, finished(name, options)))
        except EdgekitError as error:
            print(f"auto_zoo: {name}: {error}", file=sys.stderr)
            failed.append({"network": name, "error": f"{type(error).__name__}: {error}"})
    document = envelope("auto_zoo", {"max_drop": options.max_drop, "on": options.on, "rows": rows, "failed": failed})
    _save(options.out / "auto.json", dumps(document))
    text = markdown(json.loads(dumps(document)))
    _save(options.out / "auto.md", text)
    print(text)
    return 1 if failed else 0


def finished(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The ``quantize`` document of one network; from an earlier run of the same float files where there is one."""
    folder = options.out / name
    floats = [folder / f"{name}.{format_}" for format_ in FORMATS]
    if not all(file.exists() for file in floats):
        edgekit.export(name, to=FORMATS, out=folder, name=name)
    asked = {"data": DATA[name], "max_drop": options.max_drop, "on": options.on, "seconds": options.seconds}
    asked["smaller"] = options.smaller
    key = {**asked, "edgekit": edgekit.__version__, "files": [sha256_file(file) for file in floats]}
    place = folder / "auto.json"
    if place.exists() and not options.fresh:
        kept = json.loads(place.read_text(encoding="utf-8"))
        if kept["key"] == key:
            print(f"auto_zoo: {name} is finished ({place})", file=sys.stderr)
            return dict(kept["document"])
    started = time.monotonic()
    result = edgekit.quantize(
        floats, scheme="auto", out=folder / f"{name}-auto", resume=False if options.fresh else None, **asked
    )
    assert isinstance(result, AutoResult)
    document = {**result.document(), "seconds": round(time.monotonic() - started, 1)}
    _save(place, dumps({"key": key, "document": envelope("quantize", document)}))
    result.delivered()
    return dict(json.loads(dumps(document)))


def row_of(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """What the table says of one network, its figures as they are."""
    chosen = document["chosen"]
    best = next(trial for trial in document["trials"] if trial["name"] == document["best_float"])
    same = chosen["name"] == best["name"]
    return {
        "network": name,
        "best_float": best["name"],
        "float_p50_ms": best["time"]["p50_ms"],
        "float_bytes": document["parent"]["bytes"],
        "chosen": chosen["name"],
        "p50_ms": chosen["time"]["p50_ms"],
        "ratio_p50": 1.0 if same else chosen["time"]["ratio_p50"],
        "ci95": None if same else chosen["time"]["ci95"],
        "verdict": "same file" if same else chosen["time"]["verdict"],
        "bytes_share": chosen["bytes"] / document["parent"]["bytes"],
        "quality": document["quality"],
        "trials": len(document["trials"]),
        "seconds": document["seconds"],
    }


def markdown(document: dict[str, Any]) -> str:
    """The table, its geometric means, and what it was measured with."""
    environment = document["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in environment["versions"].items())
    lines = [
        f"`edgekit quantize NAME.onnx NAME.tflite --scheme auto --max-drop {document['max_drop']:g}` on the shipped "
        f"networks, made by `scripts/auto_zoo`: {environment['cpu']}, {environment['cores']} cores; {versions}.",
        "",
        "| network | fastest float file | p50 ms | chosen | p50 ms | time / float (95%) | bytes / float | quality |",
        "|---|---|---:|---|---:|---:|---:|---|",
    ]
    for row in document["rows"]:
        interval = "" if row["ci95"] is None else f" ({row['ci95'][0]:.2f}–{row['ci95'][1]:.2f})"
        quality = row["quality"]
        told = " → ".join(figure(quality["metric"], quality[when]) for when in ("before", "after"))
        lost = f"{100 * quality['drop']:+.2f}" if quality["metric"] in SHARES else f"{100 * quality['drop']:+.2f}%"
        cells = [
            row["network"], row["best_float"], ms(row["float_p50_ms"]), row["chosen"], ms(row["p50_ms"]),
            f"{row['ratio_p50']:.2f}{interval}", f"{row['bytes_share']:.2f}",
            f"{quality['metric']} {told} (lost {lost}), {quality['data']}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if document["rows"]:
        means = [_geometric([row[key] for row in document["rows"]]) for key in ("ratio_p50", "bytes_share")]
        lines.append(f"| geometric mean | | | | | {means[0]:.2f} | {means[1]:.2f} | |")
    lines += [f"\n{row['network']} failed: {row['error']}" for row in document["failed"]]
    return "\n".join([*lines, ""])


def _geometric(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _save(path: Path, text: str) -> None:
    with publishing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"auto_zoo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
