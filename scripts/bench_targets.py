"""``--scheme auto`` beside onnxruntime, LiteRT, OpenVINO, NNCF and ExecuTorch; see scripts/bench_targets."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_executorch import NOISE_SAMPLES, TIMM, ZOO, network_of
from figures import KeptRows

import edgekit
from edgekit.artifact import open_artifact, write_card
from edgekit.bench.environment import environment
from edgekit.data import open_data
from edgekit.data.arrays import save_npz
from edgekit.data.dataset import stratified
from edgekit.data.preprocess import feeds
from edgekit.environments import OPENVINO
from edgekit.errors import EdgekitError
from edgekit.results.quantize import AutoResult
from edgekit.runtime import interpreter_apart
from edgekit.types import Card

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "targets.md"
MARKS = "<!-- figures: scripts/bench_targets -->", "<!-- end of figures -->"
BAR, MAX_DROP, MIN_SNR = 1.05, 0.01, 20.0
ROUNDS, SECONDS = 24, 0.08
SAMPLES, LIMIT = 100, 500


@dataclass(frozen=True)
class Rival:
    """A file in a runtime. ``why``: it is not good enough to count, or could not be made."""

    name: str
    file: Path
    runtime: str
    why: str = ""


def limit_of(name: str) -> float | None:
    """The loss of its figure of merit that is allowed; none for networks with random weights."""
    return MAX_DROP if name in ZOO else None


def floor_of(name: str) -> float | None:
    """The decibels that those have to reach."""
    return None if name in ZOO else MIN_SNR


def exported(name: str, work: Path) -> dict[str, Path]:
    """The float files of a network by format; those that are there already are not made again."""
    files = {format_: work / f"{name}.{format_}" for format_ in ("onnx", "tflite", "pt2", "pte")}
    missing = [format_ for format_, path in files.items() if not path.exists()]
    if missing:
        network = network_of(name)
        source: Any = name if name in ZOO else network.module
        inputs = None if name in ZOO else tuple(network.example_inputs.values())
        edgekit.export(source, inputs=inputs, to=missing, out=work, name=name)
    return files


def data_of(name: str, files: Mapping[str, Path], work: Path) -> str:
    """What the network is calibrated and judged on; pictures of noise for those of timm, whose weights are random."""
    if name in ZOO:
        return ZOO[name]
    card = open_artifact(files["onnx"]).card
    assert card is not None
    pictures = np.random.default_rng(1).standard_normal((NOISE_SAMPLES, 3, 224, 224)).astype(np.float32)
    save_npz(work / "noise.npz", {card.signature.inputs[0].name: pictures})
    return f"npz:{work / 'noise.npz'}"


def rivals(name: str, files: Mapping[str, Path], data: str, work: Path) -> Iterator[Rival]:
    """What the other runtimes and tools give, each judged like auto's candidates."""
    onnx = files["onnx"]
    yield Rival("onnxruntime", onnx, "onnxruntime")
    yield Rival("LiteRT", files["tflite"], "litert")
    yield Rival("OpenVINO", onnx, "openvino")
    yield judged(name, "OpenVINO bf16", onnx, "openvino:bf16", onnx, data)
    target = work / f"{name}-nncf.onnx"
    if not target.exists():
        calibrate(onnx, data, work / "calibration.npz")
        script = ROOT / "scripts" / "nncf_here.py"
        bare = work / "bare.onnx"
        command = [str(OPENVINO.python()), str(script), str(onnx), str(work / "calibration.npz"), str(bare)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if bare.exists():
            write_card(bare, plain_card(onnx), target)
    if target.exists():
        yield judged(name, "NNCF int8 in OpenVINO", target, "openvino", onnx, data)
    else:
        yield Rival("NNCF int8 in OpenVINO", target, "openvino", "NNCF makes no file")
    yield Rival("ExecuTorch", files["pte"], "executorch")
    small = work / f"{name}-int8.pte"
    try:
        if not small.exists():
            edgekit.quantize(files["pt2"], scheme="int8", data=data, samples=SAMPLES, limit=LIMIT, out=small,
                             seconds=0, max_drop=limit_of(name), min_snr=floor_of(name))  # fmt: skip
        yield Rival("ExecuTorch int8", small, "executorch")
    except EdgekitError as error:
        yield Rival("ExecuTorch int8", small, "executorch", told(error))


def plain_card(file: Path) -> Card:
    """What the file's inputs and outputs mean, without its self-test."""
    card = open_artifact(file).card
    assert card is not None
    return replace(card, selftest=None)


def judged(name: str, label: str, file: Path, runtime: str, parent: Path, data: str) -> Rival:
    """A rival whose outputs are not float32's: within a point of the float file's figure, or 20 dB of its outputs."""
    try:
        if name in ZOO:
            before = edgekit.evaluate(parent, data=data, limit=LIMIT).evaluation
            after = edgekit.evaluate(file, data=data, limit=LIMIT, runtime=runtime).evaluation
            drop = before.drop_to(after)
            return Rival(label, file, runtime, f"loses {drop:.4f} of {before.metric}" if drop > MAX_DROP else "")
        error = difference(parent, file, runtime, data)
    except EdgekitError as failure:
        return Rival(label, file, runtime, told(failure))
    return Rival(label, file, runtime, f"{-20 * np.log10(error):.1f} dB" if error > 10 ** (-MIN_SNR / 20) else "")


def difference(parent: Path, file: Path, runtime: str, data: str) -> float:
    """Relative error of the first output over the samples."""
    with edgekit.load(parent) as one, edgekit.load(file, runtime=runtime) as other:
        noise = signal = 0.0
        for feed in feeds(open_data(data), one.signature, {}):
            wanted, found = (next(iter(runner.run(feed).values())).astype(np.float64) for runner in (one, other))
            noise, signal = noise + np.square(found - wanted).sum(), signal + np.square(wanted).sum()
    return float(np.sqrt(noise / signal))


def calibrate(file: Path, data: str, target: Path) -> None:
    """Samples as the file takes them, without their leading 1."""
    artifact = open_artifact(file)
    with edgekit.load(file) as runner:
        signature = runner.signature
    contract = artifact.card.contract if artifact.card is not None else {}
    samples = stratified(open_data(data, default_split="train"), SAMPLES)
    rows = [{name: array[0] for name, array in feed.items()} for feed in feeds(samples, signature, contract)]
    save_npz(target, {name: np.stack([row[name] for row in rows]) for name in rows[0]})


def chosen(name: str, files: Mapping[str, Path], data: str, work: Path) -> Rival:
    """What auto publishes, with the runtime that it was chosen in."""
    result = edgekit.quantize(
        (files["onnx"], files["tflite"]),
        scheme="auto",
        data=data,
        limit=LIMIT,
        seconds=2.0,
        out=work / f"{name}-auto",
        max_drop=limit_of(name),
        min_snr=floor_of(name),
    )
    assert isinstance(result, AutoResult)
    return Rival(f"auto: {result.chosen.name}", result.artifact.path, str(result.chosen.runtime))


@contextmanager
def clock(rival: Rival, feed: Path) -> Iterator[subprocess.Popen[str]]:
    """The rival in its bare runtime, in a process of its own."""
    python = interpreter_apart(rival.runtime) or sys.executable
    command = [python, str(ROOT / "scripts" / "bare_clock.py"), str(rival.file), rival.runtime, str(feed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True) as process:  # fmt: skip
        assert process.stdout is not None and process.stdin is not None
        for line in process.stdout:
            if line.strip() == "ready":
                break
        else:
            raise SystemExit(f"{rival.name} does not run: {' '.join(command)}")
        yield process
        process.stdin.close()


def timed(entrants: list[Rival], feed: Path) -> list[list[float]]:
    """Milliseconds of a call of each in every round; the order of a round is drawn."""
    blocks: list[list[float]] = [[] for _ in entrants]
    order = np.random.default_rng(0)
    with ExitStack() as stack:
        processes = [stack.enter_context(clock(rival, feed)) for rival in entrants]
        for _ in range(ROUNDS):
            for k in order.permutation(len(entrants)):
                process = processes[k]
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(f"{SECONDS}\n")
                process.stdin.flush()
                blocks[k].append(float(process.stdout.readline()))
    return blocks


def measured(name: str, work: Path) -> dict[str, Any]:
    """One network: every entrant's time, and auto's relative to the fastest that counts."""
    files = exported(name, work)
    data = data_of(name, files, work)
    every = [chosen(name, files, data, work), *rivals(name, files, data, work)]
    entrants = [rival for rival in every if not rival.why]
    with edgekit.load(files["onnx"]) as runner:
        signature = runner.signature
    contract = open_artifact(files["onnx"]).card
    feed = next(iter(feeds(open_data(data), signature, contract.contract if contract else {}, limit=1)))
    save_npz(work / "feed.npz", dict(feed))
    blocks = timed(entrants, work / "feed.npz")
    times = {rival.name: float(np.median(block)) for rival, block in zip(entrants, blocks, strict=True)}
    best = min(range(1, len(entrants)), key=lambda k: float(np.median(blocks[k])))
    ratios = np.array(blocks[0]) / np.array(blocks[best])
    return {
        "name": name, "auto": entrants[0].name, "best": entrants[best].name, "ratio": float(np.median(ratios)),
        "quartiles": [float(q) for q in np.quantile(ratios, (0.25, 0.75))], "ms": times,
        "left_out": {rival.name: rival.why for rival in every if rival.why},
    }  # fmt: skip


def told(error: Exception) -> str:
    return str(error).partition(". ")[0][:160]


def figures(record: Mapping[str, Any]) -> str:
    """The table of the page."""
    lines = [
        f"{record['cpu']}, {record['date']}, by `scripts/bench_targets`: median milliseconds of a call in the bare",
        "runtime, one thread, in turns; the last column is the choice of `--scheme auto` relative to the fastest of",
        f"the others, with the quartiles of the ratio (bar: {BAR}).",
        "",
    ]
    names = list(dict.fromkeys(key for row in record["rows"] for key in row["ms"] if not key.startswith("auto: ")))
    lines += [f"| network | {' | '.join(names)} | auto | relative |", "| --- |" + " ---: |" * (len(names) + 2)]
    for row in record["rows"]:
        cells = [f"{row['ms'][key]:.3g}" if key in row["ms"] else "–" for key in names]
        low, high = row["quartiles"]
        choice = f"{row['ms'][row['auto']]:.3g} ({row['auto'].removeprefix('auto: ')})"
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {choice} | {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    left = [f"- {row['name']}, {key}: {why}" for row in record["rows"] for key, why in row["left_out"].items()]
    return "\n".join(
        [*lines, "", *(["Not counted, since not good enough or not made:", "", *left, ""] if left else [])]
    )


ROWS = KeptRows(PAGE, (*ZOO, *TIMM), MARKS, figures)


def main() -> int:
    parser = ROWS.parser(__doc__)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())

    def rows() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for name in ROWS.wanted(parser, options.networks):
            (work / name).mkdir(parents=True, exist_ok=True)
            yield measured(name, work / name), {"cpu": environment()["cpu"]}

    return int(any(row["ratio"] > BAR for row in ROWS.add(rows(), write=options.write)))


if __name__ == "__main__":
    sys.exit(main())
