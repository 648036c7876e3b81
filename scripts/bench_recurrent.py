"""Recurrent layers in TFLite against litert-torch's unrolled ones; see scripts/bench_recurrent."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter

import edgekit
from edgekit.artifact import open_artifact
from edgekit.bench.clock import WarmupRule, time_calls
from edgekit.bench.replicas import trimmed_mean
from edgekit.data.seeded import seeded_feed
from edgekit.quality.contents import operators
from edgekit.quality.parity import RELATIVE
from edgekit.source import resolve

INPUTS, HIDDEN = 40, 64
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
PAIRS = 20
BLOCK_NS = 50_000_000
OPERATORS = {"LSTM": 10, "GRU": 60}
"""Bars: operators at any length, bytes of the float parameters, seconds to convert and prove, share of the time."""
BYTES, SECONDS, SHARE = 1.2, 3.0, 0.8
SCHEMES = ("int8", "int8-dynamic", "int8-weights")
STEPS, CALLS = 64, 1000
STATELESS = {"time": 1.08, "bytes": 1.05}
"""Bars of files that start every call from zeros, relative to those that keep their state, at so many steps."""

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.{kind}({inputs}, {hidden}, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0]


def net():
    torch.manual_seed(0)
    return Net(), (torch.randn(1, {steps}, {inputs}),)
"""

UNROLLED = """
import os, sys, time
os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
import litert_torch, torch
sys.path.insert(0, sys.argv[1])
import net_{kind} as source
module, examples = source.net()
litert_torch.convert(torch.nn.Linear(2, 2).eval(), (torch.zeros(1, 2),))  # imports and tables, once
begun, cpu = time.monotonic(), time.process_time()
with torch.no_grad():
    model = litert_torch.convert(module.eval(), examples)
model.export(sys.argv[2])
print("SECONDS", time.monotonic() - begun, time.process_time() - cpu, file=sys.stderr)
"""


@dataclass(frozen=True)
class Row:
    """A file and how long it took to make."""

    path: Path
    seconds: float

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def operators(self) -> int:
        return sum(operators(open_artifact(self.path)).values())

    def __str__(self) -> str:
        return f"{self.operators:,} operators, {self.bytes:,} bytes, {self.seconds:.1f} s to convert"


def ours(folder: Path, kind: str) -> Row:
    """Captured, converted and proved, the worker having its imports behind it."""
    result = edgekit.export(f"{folder / f'net_{kind}.py'}:net", to="tflite", out=folder / "ours", name=kind)
    return Row(result.artifacts[0].artifact.path, result.artifacts[0].seconds)


def theirs(folder: Path, kind: str) -> Row:
    """Converted by litert-torch alone, not proved; imports not counted."""
    target = folder / f"unrolled_{kind}.tflite"
    done = subprocess.run(
        [sys.executable, "-c", UNROLLED.format(kind=kind), str(folder), str(target)],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("SECONDS"))
    return Row(target, float(line.split()[1]))


def latency(a: Path, b: Path) -> tuple[float, float, float, float, float]:
    """Medians in ms of both, ratio a/b with its 95% interval, from blocks in the order ABBA; no state is put back."""
    with edgekit.load(a, stateful=True) as first, edgekit.load(b, stateful=True) as second:
        calls: dict[str, Callable[[], object]] = {}
        feed = seeded_feed(first.signature, {}, 0)
        calls["a"] = first.bare(feed)
        calls["b"] = second.bare(dict(zip([s.name for s in second.signature.inputs], feed.values(), strict=True)))
        medians: dict[str, list[float]] = {name: [] for name in calls}
        for pair in range(-2, PAIRS):  # the first two are warm-up
            for name in sorted(calls, reverse=bool(pair % 2)):
                block = time_calls(
                    calls[name], warmup=WarmupRule(2, 0, 1_000_000), min_runs=10, min_ns=BLOCK_NS, max_ns=20 * BLOCK_NS
                )
                if pair >= 0:
                    medians[name].append(float(np.median(block.samples_ns)))
    logs = np.log(np.array(medians["a"]) / np.array(medians["b"])).reshape(-1, 2).mean(axis=1)
    centre, half = trimmed_mean(logs)
    ratio, low, high = (float(np.exp(value)) for value in (centre, centre - half, centre + half))
    ms = {name: float(np.median(taken)) / 1e6 for name, taken in medians.items()}
    return ms["a"], ms["b"], ratio, low, high


def stateless(folder: Path, source: str, name: str) -> list[str]:
    """Prints what it costs that a file starts every call from zeros, and how far a thousand calls in a row are from
    torch; returns the bars that are missed."""
    (kept,) = edgekit.export(source, to="tflite", out=folder / "kept", name=name, stateful=True).artifacts
    (made,) = edgekit.export(source, to="tflite", out=folder / "stateless", name=name).artifacts
    paths = made.artifact.path, kept.artifact.path
    _, _, ratio, low, high = latency(*paths)
    apart = furthest(paths[0], source)
    found = {"time": ratio, "bytes": made.bytes / kept.bytes}
    print(
        f"{name}, {STEPS} steps, stateless: bytes {found['bytes']:.3f}, time {ratio:.3f} ({low:.3f} to {high:.3f}) of "
        f"the file that keeps its state; {CALLS:,} calls in a row differ by {apart:.1e} of torch's largest output"
    )
    data = walks_of(folder, STEPS)
    for scheme in SCHEMES if source == name else ():  # integers would cost untrained weights too much
        own, other = (
            edgekit.quantize(
                path, scheme=scheme, out=folder / f"{path.parent.name}-{name}-{scheme}.tflite", data=data, seconds=0
            )
            for path in paths
        )
        _, _, ratio, low, high = latency(own.artifact.path, other.artifact.path)
        print(f"  {scheme}: bytes {own.bytes / other.bytes:.3f}, time {ratio:.3f} ({low:.3f} to {high:.3f})")
    missed = [f"{name}: {what} {found[what]:.3f}, not {most}" for what, most in STATELESS.items() if found[what] > most]
    return missed + ([f"{name}: {apart:.1e} from torch"] if apart > RELATIVE else [])


def furthest(path: Path, source: str) -> float:
    """Largest difference from torch over many calls of a bare interpreter, which nothing resets, on walks, zeros and
    extremes; of torch's largest output."""
    module, interpreter = resolve(source).module.eval(), Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    random = np.random.default_rng(0)
    walks = random.standard_normal((6, *given["shape"])).cumsum(2) / 4
    inputs = np.concatenate([walks, 20 * walks[:2], np.zeros_like(walks[:1])]).astype(np.float32)
    with torch.no_grad():
        wanted = [module(torch.from_numpy(x)).numpy() for x in inputs]
    worst = 0.0
    for k in random.integers(len(inputs), size=CALLS):
        interpreter.set_tensor(given["index"], inputs[k])
        interpreter.invoke()
        worst = max(worst, float(np.abs(interpreter.get_tensor(result["index"]) - wanted[k]).max()))
    return worst / max(float(np.abs(value).max()) for value in wanted)


def walks_of(folder: Path, steps: int) -> str:
    """Walks to calibrate on, as ``--data`` takes them."""
    walks = np.random.default_rng(0).standard_normal((64, steps, INPUTS)).cumsum(1)
    path = folder / f"walks-{steps}.npz"
    np.savez(path, inputs=(walks / np.sqrt(np.arange(1, steps + 1))[:, None]).astype(np.float32))
    return f"npz:{path}"


def compressed(folder: Path, kind: str, parent: Path, steps: int) -> None:
    """Prints bytes and time of each int8 form, relative to the float file."""
    data = walks_of(folder, steps)
    for scheme in SCHEMES:
        target = folder / f"{kind}-{scheme}.tflite"
        made = edgekit.quantize(parent, scheme=scheme, out=target, data=data, seconds=0)
        _, _, ratio, low, high = latency(target, parent)
        worst = max(made.lengths, key=lambda one: one.relative)
        print(
            f"  {scheme}: bytes {made.bytes / made.parent_bytes:.2f}, time {ratio:.3f} (95%: {low:.3f} to {high:.3f}), "
            f"{made.account.integer_operators} of {made.account.operators} operators on integers, error at most "
            f"{worst.relative:.2%} of the largest output, at step {worst.steps}"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="recurrent layers in TFLite against litert-torch's unrolled ones")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--keep", type=Path, help="folder with the files; unrolled ones found there are not made anew")
    options = parser.parse_args(arguments)
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("LSTM", "GRU"):
            source = NETWORK.format(kind=kind, inputs=INPUTS, hidden=HIDDEN, steps=options.steps)
            (folder / f"net_{kind}.py").write_text(source)
        begun = time.monotonic()
        edgekit.export("mlp", to="tflite", out=folder / "warm")  # starts the worker
        print(f"start of the worker and a first export (mlp): {time.monotonic() - begun:.1f} s")
        print(f"a first recurrent layer, which imports more: {ours(folder, 'LSTM').seconds:.1f} s")
        for kind in ("LSTM", "GRU"):
            row = ours(folder, kind)
            kept = folder / f"unrolled_{kind}.tflite"
            other = Row(kept, float("nan")) if kept.exists() else theirs(folder, kind)
            mine_ms, their_ms, ratio, low, high = latency(row.path, other.path)
            weights = 4 * GATES[kind] * HIDDEN * (INPUTS + HIDDEN + 2)
            print(f"{kind} {INPUTS} -> {HIDDEN}, {options.steps} steps")
            print(f"  edgekit:  {row}, proof included, {mine_ms:.3f} ms")
            print(f"  unrolled: {other}, {their_ms:.3f} ms")
            print(
                f"  ratios: operators 1/{other.operators / row.operators:,.0f}, bytes {row.bytes / other.bytes:.3f} "
                f"({row.bytes / weights:.2f}x the float parameters), conversion {row.seconds / other.seconds:.3f}, "
                f"time {ratio:.3f} (95%: {low:.3f} to {high:.3f})"
            )
            bars = {f"{OPERATORS[kind]} operators": row.operators <= OPERATORS[kind]}
            if kind == "LSTM":
                bars[f"{BYTES}x the bytes of the float parameters"] = row.bytes <= BYTES * weights
                bars[f"{SECONDS} s to convert and prove"] = row.seconds <= SECONDS
                bars[f"{SHARE}x the time"] = ratio <= SHARE
            compressed(folder, kind, row.path, options.steps)
            for name, met in bars.items():
                print(f"  bar {name}: {'met' if met else 'MISSED'}")
                if not met:
                    missed.append(f"{kind}: {name}")
        short = folder / "short.py"
        short.write_text(NETWORK.format(kind="LSTM", inputs=INPUTS, hidden=HIDDEN, steps=STEPS))
        for source, name in (("lstm", "lstm"), ("rnn", "rnn"), (f"{short}:net", f"LSTM-{INPUTS}-{HIDDEN}")):
            missed += stateless(folder, source, name)
    print(f"missed: {', '.join(missed)}" if missed else "every bar is met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
