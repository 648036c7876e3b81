"""The shipped networks in int8 on microcontrollers, as a section of docs/results.md. See scripts/results_mcu.

Each is exported, quantized with ``--for mcu`` (which proves it on TensorFlow Lite for Microcontrollers), and evaluated
there and in LiteRT on the same samples. What is finished is kept in --out and not done again; --fresh does.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from results_page import DATA, DOCS, MICRO, with_micro

import edgekit
from edgekit.errors import EdgekitError
from edgekit.report.document import dumps, envelope
from edgekit.results.base import to_json


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(DATA)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/results-mcu"))
    parser.add_argument("--limit", type=int, default=300, help="samples of each test split that quality is measured on")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished")
    parser.add_argument("--write", action="store_true", help=f"write {DOCS / MICRO} and its section of the page")
    options = parser.parse_args()
    unknown = sorted(set(options.networks) - DATA.keys())
    if unknown:
        parser.error(f"no network is called {', '.join(unknown)}; there are: {', '.join(DATA)}")
    for name in options.networks or DATA:
        place = options.out / name / "row.json"
        if options.fresh or not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(dumps(measured(name, place.parent, options.limit)), encoding="utf-8")
            print(place.read_text(encoding="utf-8"), flush=True)
    places = [options.out / name / "row.json" for name in DATA]
    rows = [json.loads(place.read_text(encoding="utf-8")) for place in places if place.exists()]
    day = datetime.date.today().isoformat()
    document = json.loads(dumps(envelope("results-mcu", {"made": day, "limit": options.limit, "networks": rows})))
    if options.write:
        (DOCS / MICRO).write_text(dumps(document), encoding="utf-8")
        page = DOCS / "results.md"
        page.write_text(with_micro(page.read_text(encoding="utf-8"), document), encoding="utf-8")
    return 0


def measured(name: str, folder: Path, limit: int) -> dict[str, Any]:
    """One row: the figures of a network, or why it does not run there."""
    row: dict[str, Any] = {"network": name, "data": DATA[name]}
    parent, made = folder / f"{name}.tflite", folder / f"{name}-int8.tflite"
    if not parent.exists():
        edgekit.export(name, to="tflite", out=folder, name=name)
    try:
        proof = edgekit.quantize(parent, scheme="int8", data=DATA[name], for_="mcu", out=made, seconds=0).micro
    except EdgekitError as error:
        return {**row, "refused": str(error).replace(str(folder), "").splitlines()[0][:300]}
    figures: dict[str, Any] = {}
    for key, path, device in (("float", parent, "cpu"), ("litert", made, "cpu"), ("tflm", made, "mcu")):
        found = edgekit.evaluate(path, data=DATA[name], limit=limit, on=device).evaluation
        figures |= {key: found.value, "metric": found.metric, "total": found.total}
    return {**row, **figures, "bytes": made.stat().st_size, "micro": to_json(proof)}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"results_mcu: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
