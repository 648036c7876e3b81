"""Prunes the shipped networks, exports parent and child, and times them interleaved; see scripts/bench_pruning."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import edgekit

FORMATS = ("onnx", "tflite")


@dataclass(frozen=True)
class Row:
    """One recipe: the network, its data, and how it is pruned."""

    family: str
    data: str
    epochs: int
    method: str = "channels"
    amount: float | None = 0.5
    spread: str = "even"


ROWS = {
    "lstm": Row("lstm", "fsdd", 15),
    "gru": Row("gru", "fsdd", 15),
    "transformer": Row("transformer", "sst2", 0),
    "autoencoder": Row("autoencoder", "digits", 150),
    "mlp": Row("mlp", "breast-cancer", 20),
    "lstm-m": Row("lstm", "fsdd", 16, "magnitude", 0.8),
    "lstm-24": Row("lstm", "fsdd", 10, "2:4", None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW")
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print("| network | method | MACs removed | quality, whole → pruned | bytes, deflated | onnx time | tflite time |")
    print("|---|---|---|---|---|---|---|")
    for name in given.rows or ROWS:
        print(_line(name, ROWS[name], given.out, given.seconds), flush=True)


def _line(name: str, row: Row, out: Path, seconds: float) -> str:
    checkpoint, record = out / f"{name}.safetensors", out / f"{name}.json"
    if not (checkpoint.is_file() and record.is_file()):
        result = edgekit.prune(
            row.family, amount=row.amount, method=row.method, data=row.data, epochs=row.epochs, out=checkpoint,
            spread=row.spread,
        )  # fmt: skip
        record.write_text(json.dumps(result.document(), default=str), encoding="utf-8")
    document = json.loads(record.read_text(encoding="utf-8"))
    quality, packed = document["quality"], document["compressed_bytes"]
    last = quality["after_finetuning"] if quality["after_finetuning"] is not None else quality["after_pruning"]
    method = row.method if row.amount is None else f"{row.method} {row.amount:g}"
    return (
        f"| {row.family} | {method} | {document['macs']['removed']:.0%} | {quality['metric']} {quality['before']:.4f} "
        f"→ {last:.4f} | {packed['before']:,} → {packed['after']:,} "
        + "".join(f"| {_ratio(row.family, checkpoint, out, format_, seconds)} " for format_ in FORMATS)
        + "|"
    )


def _ratio(family: str, checkpoint: Path, out: Path, format_: str, seconds: float) -> str:
    """p50 of the child relative to its parent, with its interval, of one interleaved run."""
    files: list[Path] = []
    for source, name in ((family, family), (str(checkpoint), f"{checkpoint.stem}-pruned")):
        (made,) = edgekit.export(source, to=[format_], out=out, name=name).artifacts
        files.append(made.artifact.path)
    (found,) = edgekit.bench(files, seconds=seconds).comparisons
    if found.ratio is None or found.low is None or found.high is None:
        return f"– ({found.reason})"
    return f"{found.ratio:.2f}× ({found.low:.2f}–{found.high:.2f}), {found.verdict}"


if __name__ == "__main__":
    main()
