"""Overhead of Runner.run as a ratio, from one interleaved run; see scripts/bench_runner."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bench.clock import WarmupRule, time_calls
from edgekit.bench.replicas import trimmed_mean
from edgekit.data.seeded import seeded_feed
from edgekit.environments import EXECUTORCH
from edgekit.runtime import interpreter_apart
from edgekit.types import Feed, Format

BAR = 1.05
PAIRS = 60
BLOCK_NS = 25_000_000
"""Short blocks, many of them: a phase in which the machine is slow weighs on neighbours alike."""


def raw_call(path: Path, feed: Feed) -> Callable[[], Any]:
    """What a user writes without edgekit, with everything laid out beforehand."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        plain = dict(feed)
        return lambda: session.run(None, plain)
    if path.suffix == ".pte":
        return executorch_call(path, feed)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    ((_, value),) = feed.items()
    given, wanted = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def call() -> Any:
        interpreter.set_tensor(given, value)
        interpreter.invoke()
        return interpreter.get_tensor(wanted)

    return call


def executorch_call(path: Path, feed: Feed) -> Callable[[], Any]:
    """As ExecuTorch's guide calls it. Its threads are those of the process: the runner has set them to one."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None
    ((_, value),) = feed.items()
    return lambda: [result.numpy() for result in method.execute([torch.from_numpy(value)])]


def elsewhere(path: Path) -> float | None:
    """The ratio where the file's runtime lies in an environment beside this one: measured there, in one process too."""
    python = interpreter_apart(None, path)
    if python is None:
        return None
    root = str(Path(__file__).resolve().parent.parent)
    command = [python, __file__, str(path)]
    return 0.0 if subprocess.run(command, env={**os.environ, "PYTHONPATH": root}).returncode == 0 else 2 * BAR


def measure(path: Path) -> float:
    """Prints one line, gives the ratio."""
    there = elsewhere(path)
    if there is not None:
        return there
    with edgekit.load(path) as runner:
        card = runner.artifact.card
        feed = seeded_feed(runner.signature, card.contract if card else {}, 0)
        calls = {"run": lambda: runner.run(feed), "raw": raw_call(path, feed)}
        medians: dict[str, list[float]] = {name: [] for name in calls}
        for pair in range(-2, PAIRS):  # the first two are warm-up
            for name in sorted(calls, reverse=bool(pair % 2)):
                block = time_calls(
                    calls[name],
                    warmup=WarmupRule(3, 0, 1_000_000),
                    min_runs=20,
                    min_ns=BLOCK_NS,
                    max_ns=20 * BLOCK_NS,
                )
                if pair >= 0:
                    medians[name].append(float(np.median(block.samples_ns)))
    logs = np.log(np.array(medians["run"]) / np.array(medians["raw"])).reshape(-1, 2).mean(axis=1)  # ABBA
    centre, half = trimmed_mean(logs)
    ratio, low, high = (float(np.exp(value)) for value in (centre, centre - half, centre + half))
    ours, theirs = (float(np.median(medians[name])) / 1e3 for name in ("run", "raw"))
    word = "met" if ratio <= BAR else "MISSED"
    print(
        f"{path.name}: run {ours:.1f} us, raw {theirs:.1f} us, ratio {ratio:.3f} (95%: {low:.3f} to {high:.3f}); "
        f"bar {BAR}: {word}"
    )
    return ratio


def main(arguments: list[str]) -> int:
    if arguments:
        return int(max(measure(Path(name)) for name in arguments) > BAR)
    with tempfile.TemporaryDirectory() as folder:
        formats = [Format.ONNX, Format.TFLITE] + ([Format.PTE] if EXECUTORCH.python() else [])
        edgekit.export("cnn", to=formats, out=folder)
        files = sorted(Path(folder).iterdir())
        return int(max(measure(file) for file in files) > BAR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
