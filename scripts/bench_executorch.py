"""ExecuTorch files of the shipped networks and of timm's, beside bare exports; see scripts/bench_executorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import KeptRows
from timm_here import use_timm

import edgekit
from edgekit.artifact import open_artifact
from edgekit.bench.environment import environment
from edgekit.data.arrays import save_npz
from edgekit.data.seeded import seeded_feed
from edgekit.environments import EXECUTORCH
from edgekit.errors import EdgekitError
from edgekit.source import resolve
from edgekit.source.module import of_module

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "executorch.md"
MARKS = "<!-- figures: scripts/bench_executorch -->", "<!-- end of figures -->"
ZOO: Mapping[str, str] = {
    "mlp": "breast-cancer", "cnn": "cifar10", "autoencoder": "digits", "gan": "", "transformer": "sst2",
    "rnn": "fsdd", "gru": "fsdd", "lstm": "fsdd", "detector": "digit-scenes", "segmenter": "digit-masks",
}  # fmt: skip
"""Family -> data that its int8 file is calibrated and measured on; none where it has no samples."""
TIMM = ("resnet18", "mobilenetv3_large_100", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_lite0")
BAR = 1.1
NOISE_SAMPLES = 24
"""Pictures of noise that the int8 files of timm's networks are calibrated and compared on: their weights are random."""
SAMPLES, LIMIT = 100, 500
NOT_TRIED = "not measured"


@dataclass(frozen=True)
class Row:
    """One network. ``ratio``: time of edgekit's file relative to the bare export's; ``int8``: what became of that, a
    refusal in words, or size and time relative to the float file, decibels of the worst output, and points lost."""

    name: str
    bytes: int
    ms: float
    ratio: float
    quartiles: tuple[float, float]
    max_abs: float
    cases: int
    nodes: int
    delegated: int
    left: tuple[str, ...]
    int8: Any


def network_of(name: str) -> Any:
    """The network with its own weights; those of timm's are random, from seed 0."""
    import torch

    if name in ZOO:
        return resolve(name)
    if not use_timm():
        raise SystemExit("timm is not installed here")
    import timm

    torch.manual_seed(0)
    return of_module(timm.create_model(name).eval(), torch.randn(1, 3, 224, 224), name)


def here(*arguments: str | Path) -> None:
    """A command of ``executorch_here.py``."""
    python = EXECUTORCH.python()
    if python is None:
        raise SystemExit(f"ExecuTorch is not here: {EXECUTORCH.install}")
    subprocess.run([python, str(ROOT / "scripts" / "executorch_here.py"), *map(str, arguments)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def measured(name: str, work: Path, real: bool) -> Row:
    """Exports, times and (unless ``real``) quantizes one network; what is in ``work`` already is not made again."""
    import torch

    network = network_of(name)
    ours, bare = work / f"{name}.pte", work / f"{name}.bare.pte"
    source: Any = name if name in ZOO else network.module
    inputs = None if name in ZOO else tuple(network.example_inputs.values())
    missing = [one for one in (("pte",) if real else ("pte", "pt2")) if not ours.with_suffix(f".{one}").exists()]
    if missing:
        edgekit.export(source, inputs=inputs, to=missing, out=work, name=name)
    card = open_artifact(ours).card
    assert card is not None
    if not bare.exists():
        examples = tuple(torch.from_numpy(np.array(network.example_inputs[s.name])) for s in network.signature.inputs)
        program = torch.export.export(network.module.eval(), examples)
        torch.export.save(program, work / "bare.pt2")
        here("lower", work / "bare.pt2", bare)
    feed = seeded_feed(card.signature, card.contract, 0)
    save_npz(work / "feed.npz", {str(k): feed[spec.name] for k, spec in enumerate(card.signature.inputs)})
    here("ratio", bare, ours, work / "feed.npz", work / "ratio.json")
    time = json.loads((work / "ratio.json").read_text(encoding="utf-8"))
    with edgekit.load(ours) as runner:
        told = runner.delegation()
    assert told is not None
    step = card.steps[-1].params
    left = tuple(sorted({one.type for one in told.left}))
    return Row(
        name, ours.stat().st_size, time["other_ms"], time["ratio"], tuple(time["quartiles"]), step["max_abs"],
        step["cases"], told.nodes, told.delegated, left,
        NOT_TRIED if real else int8_of(name, work, card.signature.inputs[0].name),
    )  # fmt: skip


def int8_of(name: str, work: Path, image: str) -> Any:
    """What became of the int8 file: figures, or why it was not made."""
    target, data = work / f"{name}-int8.pte", ZOO.get(name)
    if data == "":
        return "no samples to calibrate on"
    if data is None:
        pictures = np.random.default_rng(1).standard_normal((NOISE_SAMPLES, 3, 224, 224)).astype(np.float32)
        save_npz(work / "noise.npz", {image: pictures})
        data = f"npz:{work / 'noise.npz'}"
    try:
        made = edgekit.quantize(
            work / f"{name}.pt2", scheme="int8", data=data, samples=SAMPLES, limit=LIMIT, out=target, seconds=1.0
        )
    except EdgekitError as error:
        return str(error).partition(". Nothing")[0].replace(f"{work}{os.sep}", "")[:240]
    assert made.fidelity is not None and made.time is not None
    ratios = [one.snr_db for one in made.fidelity.outputs if one.snr_db is not None]
    return {
        "bytes": made.artifact.bytes, "time": made.time.ratio_p50, "db": min(ratios, default=None), "drop": made.drop,
        "metric": None if made.quality is None else made.quality.metric,
        "integer": made.account.integer_operators, "operators": made.account.operators,
    }  # fmt: skip


def figures(record: Mapping[str, Any]) -> str:
    """The tables of the page."""
    machine, rows = record["machine"], [Row(**row) for row in record["rows"]]
    lines = [
        f"{machine['cpu']}, {record['date']}, ExecuTorch {record['version']}, by `scripts/bench_executorch`. Time:",
        "median of a call on one thread; beside it edgekit's file relative to the bare export of the same module, in",
        f"turns, with the quartiles of the ratio (bar: {BAR}). Difference: the largest from torch in the whole proof.",
        f"The load average of the machine was {machine['load']:.1f}: the ratios hold, the times are longer than alone.",
        "",
        "| network | bytes | ms | relative to bare | difference | cases | by XNNPACK | left to ExecuTorch's kernels |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        left = ", ".join(f"`{kind}`" for kind in row.left[:4])
        left += f" and {len(row.left) - 4} more" if row.left[4:] else ""
        lines.append(
            f"| {row.name} | {row.bytes:,} | {row.ms:.3g} | {row.ratio:.2f} ({row.quartiles[0]:.2f} to "
            f"{row.quartiles[1]:.2f}) | {row.max_abs:.1e} | {row.cases} | {row.delegated} of {row.nodes} | "
            f"{left or '–'} |"
        )
    lines += ["", "int8, relative to the float `.pte`:", "",
              "| network | bytes | time | signal to noise | quality lost | on integers |",
              "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in rows:
        one = row.int8
        if one == NOT_TRIED:
            continue
        if isinstance(one, str):
            lines.append(f"| {row.name} | – | – | – | – | {one} |")
            continue
        lost = "–" if one["drop"] is None else f"{100 * one['drop']:.2f} points of {one['metric']}"
        decibels = "–" if one["db"] is None else f"{one['db']:.1f} dB"
        lines.append(
            f"| {row.name} | {one['bytes'] / row.bytes:.2f} | {one['time']:.2f} | {decibels} | {lost} | "
            f"{one['integer']} of {one['operators']} |"
        )
    return "\n".join([*lines, ""])


ROWS = KeptRows(PAGE, (*ZOO, *TIMM), MARKS, figures)


def main() -> int:
    parser = ROWS.parser(__doc__)
    parser.add_argument("--float", action="store_true", dest="real", help="leave int8 out")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)

    def rows() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for name in ROWS.wanted(parser, options.networks):
            row = asdict(measured(name, work, options.real))
            machine = {"cpu": environment()["cpu"], "load": os.getloadavg()[0]}
            yield row, {"machine": machine, "version": EXECUTORCH.packages[1].partition("==")[2]}

    return int(any(row["ratio"] > BAR for row in ROWS.add(rows(), write=options.write)))


if __name__ == "__main__":
    sys.exit(main())
