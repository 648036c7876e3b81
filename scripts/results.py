"""The shipped cnn down the whole line on cifar10's 10,000 test images; writes docs/results/README.md and its JSON."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

from quickstart import FORMATS, choose, epoch, measure, show_progress, step

import edgekit
from edgekit.errors import EdgekitError
from edgekit.report.document import dumps, envelope
from edgekit.report.text import ms, ratio, share, size

DOCS = Path("docs/results")
STAGES = ("float", "int8", "pruned", "pruned int8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=int, default=30, help="of fine-tuning after pruning")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing a file")
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    options = parser.parse_args()
    show_progress()
    started = time.monotonic()
    files = build(options.out, options.data, options.epochs)
    rows = measure(files, options.data, options.seconds)
    choice = choose(rows)
    body = {"source": "cnn", "data": options.data, "rows": rows, "ship": choice, "seconds": time.monotonic() - started}
    document = envelope("results", body)
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / "cnn-cifar10.json").write_text(dumps(document), encoding="utf-8")
    (DOCS / "README.md").write_text(markdown(json.loads(dumps(document))), encoding="utf-8")
    step(f"written to {DOCS}/ ({time.monotonic() - started:.0f} s)")
    return 0


def build(out: Path, data: str, epochs: int) -> dict[tuple[str, str], Path]:
    """The shipped cnn and its pruned child, float and int8, in both formats."""
    out.mkdir(parents=True, exist_ok=True)
    pruned = out / "cnn-pruned.safetensors"
    step("prune half of the multiply-accumulates, then fine-tune with the unpruned network as teacher")
    edgekit.prune("cnn", amount=0.5, data=data, epochs=epochs, out=pruned, progress=epoch)
    step("export and quantize")
    edgekit.export("cnn", to=FORMATS, data=data, out=out, name="cnn")
    edgekit.export(pruned, to=FORMATS, data=data, out=out, name="cnn-pruned")
    files = {}
    for suffix in FORMATS:
        for stage, name in (("float", "cnn"), ("pruned", "cnn-pruned")):
            files[stage, suffix] = out / f"{name}.{suffix}"
            int8 = out / f"{name}-int8.{suffix}"
            edgekit.quantize(files[stage, suffix], scheme="int8", data=data, out=int8)
            files["int8" if stage == "float" else "pruned int8", suffix] = int8
    return {(stage, suffix): files[stage, suffix] for suffix in FORMATS for stage in STAGES}


def markdown(document: dict[str, Any]) -> str:
    """The page: one table, and what it was measured with."""
    environment = document["environment"]
    runtimes = environment["versions"]
    lines = [
        "# Results",
        "",
        f"The shipped `cnn` on `{document['data']}@test`, made by `scripts/results` on "
        f"{datetime.date.today().isoformat()}: {environment['cpu']},",
        f"{environment['cores']} cores, one thread, batch 1; "
        f"{', '.join(f'{name} {number}' for name, number in runtimes.items())}.",
        "The times are of this machine and of no other; all figures: [cnn-cifar10.json](cnn-cifar10.json).",
        "",
        "| stage | format | accuracy | drop, points | bytes | p50 ms | time / float | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        interval = "" if not row["ci95"] else f" ({row['ci95'][0]:.2f}–{row['ci95'][1]:.2f})"
        figures = [
            row["stage"],
            row["format"],
            share(row["accuracy"]),
            f"{100 * row['drop']:.2f}",
            size(row["bytes"]),
            ms(row["p50_ms"]),
            f"{ratio(row['ratio'])}{interval}",
            row["verdict"] or "",
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join([*lines, "", document["ship"]["sentence"], ""])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgekitError as error:
        print(f"results: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
