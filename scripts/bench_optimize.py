"""What ``edgekit optimize`` recommends beside the fastest float file of any runtime; see scripts/bench_optimize."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench_executorch import NOISE_SAMPLES, TIMM, network_of
from figures import KeptRows
from results_page import DATA

import edgekit
from edgekit.artifact import open_artifact, sha256_model
from edgekit.bench.environment import environment
from edgekit.data.arrays import save_npz
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.evidence import Typical, look
from edgekit.pipeline.search.final import Entrant, final, finalists, reported
from edgekit.pipeline.search.run import search_of
from edgekit.pipeline.search.steps import MadeFile
from edgekit.pipeline.search.subject import Subject
from edgekit.results.optimize import OptimizeResult

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "optimize.md"
MARKS = ("<!-- figures: scripts/bench_optimize -->", "<!-- end of figures -->")
ZOO = ("mlp", "cnn", "rnn", "lstm", "gru", "transformer", "gan", "autoencoder")
TIME_BAR, BYTES_BAR = 0.45, 0.25
MAX_DROP, MIN_SNR = 0.01, 20.0


def searched(name: str, work: Path, trials: int, seed: int, sampler: str, epochs: int | None) -> OptimizeResult:
    """A search of one network. Of timm's, whose weights are random, the finished file without training."""
    out = work / f"{sampler}-{seed}"
    how: dict[str, Any] = {"trials": trials, "seed": seed, "sampler": sampler, "out": out}
    if name in ZOO:
        return edgekit.optimize(name, data=DATA[name], max_drop=MAX_DROP, epochs=epochs, **how)
    source = work / f"{name}.onnx"
    if not source.exists():
        network = network_of(name)
        edgekit.export(network.module, inputs=tuple(network.example_inputs.values()), to=["onnx"], out=work, name=name)
    card = open_artifact(source).card
    assert card is not None
    pictures = np.random.default_rng(1).standard_normal((NOISE_SAMPLES, 3, 224, 224)).astype(np.float32)
    save_npz(work / "noise.npz", {card.signature.inputs[0].name: pictures})
    return edgekit.optimize(source, data=f"npz:{work / 'noise.npz'}", min_snr=MIN_SNR, **how)


def by_hand(name: str, work: Path, epochs: int | None) -> float:
    """How much of the box the files of the shipped recipe cover, timed with the same float files as a search's."""
    out = work / "recipe"
    subprocess.run([sys.executable, "-m", "edgekit", "recipe", "run", name, "-o", str(out)], check=True)
    options = OptimizeOptions(name, data=DATA[name], max_drop=MAX_DROP, epochs=epochs, out=work)
    search = search_of(Subject(options, work / "tpe-0" / ".study"))
    judge, entrants = search.subject.judge, []
    for number, path in enumerate(sorted(path for path in out.iterdir() if path.suffix in (".onnx", ".tflite"))):
        made = MadeFile(path, sha256_model(path), path.stat().st_size)
        entrants.append(
            Entrant(number, path.name, made, look(judge, made, path.name, search.references, Typical()).evidence)
        )
    chosen = finalists(entrants, "cpu", judge.allowed)
    return search.covered(
        reported(judge, final(judge, judge.devices[0], [f for f in search.floats if f.baseline], chosen))
    )


def measured(name: str, work: Path, trials: int, seeds: int, epochs: int | None) -> dict[str, Any]:
    """One network: what is recommended; with ``seeds`` also how much of the box the fronts of both samplers cover, and
    the files of the shipped recipe."""
    result = searched(name, work, trials, 0, "tpe", epochs)
    best = result.recommended
    files = Path(result.folder) / ".study" / "files"
    floats = [path.stat().st_size for path in files.glob("float-*/float.*") if path.suffix in (".onnx", ".tflite")]
    floats += [path.stat().st_size for path in work.glob("*.onnx")]  # of timm's
    row: dict[str, Any] = {
        "name": name, "trials": len(result.trials), "minutes": result.seconds / 60,
        "volume": {"tpe": [result.hypervolume["cpu"]], "random": []},
    }  # fmt: skip
    if best is not None:
        row |= {
            "file": best.name, "runtime": best.runtime, "time": best.ratio_p50 or 1.0, "ci95": best.ci95,
            "bytes": best.bytes / min(floats), "drop": best.drop, "metric": result.metric,
        }  # fmt: skip
    for seed in range(seeds):
        for sampler in ("tpe", "random"):
            if (sampler, seed) != ("tpe", 0):
                found = searched(name, work, trials, seed, sampler, epochs)
                row["volume"][sampler].append(found.hypervolume["cpu"])
    if seeds and name in ZOO:
        row["volume"]["recipe"] = [by_hand(name, work, epochs)]
    return row


def tables(record: Mapping[str, Any]) -> str:
    """The table of the page, with the geometric means that the bars are of."""
    lines = [
        f"{record['cpu']}, {record['date']}, by `scripts/bench_optimize`: the recommended file relative to the fastest",
        "float file of any runtime. Shipped networks may lose a point, those of timm, whose weights are random, keep",
        f"{MIN_SNR:g} decibels.",
        "",
        "| network | trials | minutes | recommended | time | bytes | lost | hypervolume, TPE | random | recipe |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        values = [row["volume"].get(key, ()) for key in ("tpe", "random", "recipe")]
        volumes = [", ".join(f"{value:.3f}" for value in one) or "–" for one in values]
        if "file" not in row:
            lines.append(
                f"| {row['name']} | {row['trials']} | {row['minutes']:.0f} | none | | | | {' | '.join(volumes)} |"
            )
            continue
        interval = "" if row["ci95"] is None else f" ({row['ci95'][0]:.2f} to {row['ci95'][1]:.2f})"
        lines.append(
            f"| {row['name']} | {row['trials']} | {row['minutes']:.0f} | {row['file']}, {row['runtime']} | "
            f"{row['time']:.2f}{interval} | {row['bytes']:.2f} | {row['drop']:.4f} | {' | '.join(volumes)} |"
        )
    for what, names in (("the zoo", ZOO), ("timm", TIMM)):
        rows = [row for row in record["rows"] if row["name"] in names and "file" in row]
        if rows:
            time, size = (statistics.geometric_mean(row[key] for row in rows) for key in ("time", "bytes"))
            wanted = f" (bar {BYTES_BAR})" if what == "the zoo" else ""
            count = f"{len(rows)} of {len(names)} networks of {what}"
            lines += ["", f"Geometric mean of {count}: {time:.2f} of the time (bar {TIME_BAR}), {size:.2f} of the "
                      f"bytes{wanted}."]  # fmt: skip
    return "\n".join(lines)


ROWS = KeptRows(PAGE, (*ZOO, *TIMM), MARKS, tables)


def main() -> int:
    parser = ROWS.parser(__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, help="longest training of a trial (default: that of optimize)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=0,
        help="compare with random search over so many seeds, and with the shipped recipe",
    )
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())

    def rows() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for name in ROWS.wanted(parser, options.networks):
            (work / name).mkdir(parents=True, exist_ok=True)
            row = measured(name, work / name, options.trials, options.seeds, options.epochs)
            yield row, {"cpu": environment()["cpu"]}

    came = ROWS.add(rows(), write=options.write)
    times = [row.get("time", math.inf) for row in came]
    return int(not times or statistics.geometric_mean(times) > TIME_BAR)


if __name__ == "__main__":
    sys.exit(main())
