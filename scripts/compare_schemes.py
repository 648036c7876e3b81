"""``quantize --scheme`` with each scheme on each shipped network, both formats. See scripts/compare_schemes.

Each file is compared with its own float file, as ``quantize`` does it: quality on the same samples, time interleaved.
What is finished is kept in --out and not done again; --fresh does.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from figures import replaced
from results import FORMATS
from results_page import DATA, machine

import edgekit
from edgekit.documents import typed
from edgekit.errors import EdgekitError
from edgekit.quantization.onnx import quantize as quantize_onnx
from edgekit.quantization.tflite import quantize as quantize_tflite
from edgekit.report.against import change, time_said
from edgekit.report.document import dumps, envelope
from edgekit.report.text import figure
from edgekit.results.compressed import QualityChange, TimeRatio

SCHEMES = {"onnx": quantize_onnx.SCHEMES, "tflite": quantize_tflite.SCHEMES}
PAGE = Path("docs/quantization.md")
BEGIN, END = "<!-- scripts/compare_schemes --write: from here -->", "<!-- to here -->"
Row = Mapping[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(DATA)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/schemes"))
    parser.add_argument("--limit", type=int, default=500, help="quality on the first N test samples")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of each file and of its parent")
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished (float files are kept)")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    options = parser.parse_args()
    unknown = sorted(set(options.networks) - DATA.keys())
    if unknown:
        parser.error(f"no network is called {', '.join(unknown)}; there are: {', '.join(DATA)}")
    for name in options.networks or DATA:
        place = options.out / f"{name}.json"
        if options.fresh or not place.exists():
            rows = list(measured(name, options.out / name, options.limit, options.seconds))
            place.write_text(dumps(envelope("schemes", {"network": name, "rows": rows})), encoding="utf-8")
    found = [options.out / f"{name}.json" for name in DATA]
    text = page([json.loads(place.read_text(encoding="utf-8")) for place in found if place.exists()], options)
    print(text)
    if options.write:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), text, BEGIN, END), encoding="utf-8")
    return 0


def measured(name: str, folder: Path, limit: int, seconds: float) -> Iterator[dict[str, Any]]:
    """The document of each quantization of one network, or why it failed."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.{format_}" for format_ in FORMATS]
    if not all(file.exists() for file in files):
        edgekit.export(name, to=FORMATS, out=folder, name=name)
    for file in files:
        format_ = file.suffix[1:]
        for scheme in SCHEMES[format_]:
            print(f"{name} {format_} {scheme}", file=sys.stderr, flush=True)
            asked: dict[str, Any] = {"scheme": scheme, "data": DATA[name], "limit": limit, "seconds": seconds}
            asked["allow_slower"] = True  # slow ones are what the table shows
            try:
                made = edgekit.quantize(file, out=folder / f"{name}-{scheme}.{format_}", **asked)
            except EdgekitError as error:
                yield {"format": format_, "scheme": scheme, "refused": str(error).splitlines()[0]}
                continue
            yield {"format": format_, **made.document()}


def page(networks: list[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """The text between the marks."""
    if not networks:
        return ""
    lines = [
        f"Made by `scripts/compare_schemes` on {datetime.date.today().isoformat()}.",
        *machine(networks[0]["environment"]),
        "Every file against its own float file: bytes with the card; integer operators, and multiply-accumulates;",
        f"quality on the first {options.limit} test samples; time of {options.seconds:g} seconds each, interleaved, "
        "one thread, batch 1;",
        "95% intervals in brackets.",
    ]
    for format_ in FORMATS:
        lines += [
            "",
            f"**{format_}**",
            "",
            "| network | scheme | bytes | integer | quality | change | time, float = 1 | |",
        ]
        lines.append("|---|---|---:|---:|---|---|---:|---|")
        for network in networks:
            rows = [row for row in network["rows"] if row["format"] == format_]
            lines += [_line(network["network"] if not place else "", row) for place, row in enumerate(rows)]
    return "\n".join(lines)


def _line(name: str, row: Row) -> str:
    if "refused" in row:
        return f"| {name} | `{row['scheme']}` | refused: {row['refused']} | | | | | |"
    quality, time, account = row["quality"], row["time"], row["account"]
    size = f"{row['artifact']['bytes'] / row['parent']['bytes']:.2f}"
    integer = f"{account['integer_operators']} of {account['operators']}"
    if account.get("integer_macs_share") is not None:
        integer += f", {account['integer_macs_share']:.0%}"
    metric = quality["metric"]
    values = f"{metric} {figure(metric, quality['before'])} → {figure(metric, quality['after'])}"
    changed, took = change(typed(QualityChange, quality, name)), time_said(typed(TimeRatio, time, name))
    cells = [name, f"`{row['scheme']}`", size, integer, values, changed, took, time["verdict"]]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"compare_schemes: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
