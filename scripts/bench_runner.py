"""Overhead of Runner.run as a ratio, from one interleaved run; see scripts/bench_runner."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bench.clock import WarmupRule, time_calls
from edgekit.bench.environment import environment
from edgekit.bench.replicas import trimmed_mean
from edgekit.data.seeded import seeded_feed
from edgekit.environments import EXECUTORCH, OPENVINO
from edgekit.runtime.openvino import OpenVinoRunner
from edgekit.types import Feed, Format

ROOT = Path(__file__).resolve().parent.parent
BAR = 1.05
APART = {"openvino": (OPENVINO, (".onnx", ".tflite")), "executorch": (EXECUTORCH, (".pte",))}
"""Runtimes that lie in environments of their own, and the files they run."""
PAIRS = 60
BLOCK_NS = 25_000_000
"""Short blocks, many of them: a phase in which the machine is slow weighs on neighbours alike."""


def raw_openvino(runner: OpenVinoRunner, feed: Feed) -> Callable[[], Any]:
    """A request of its own on the model that ``runner`` has compiled: another compilation lies elsewhere in memory,
    which alone makes 15% here. Tensors are shared both ways."""
    import openvino

    request = runner.compiled.create_infer_request()
    ((_, array),) = feed.items()
    shared = {0: openvino.Tensor(array, shared_memory=True)}
    return lambda: request.infer(shared, share_inputs=True, share_outputs=True)


def raw_executorch(path: Path, feed: Feed) -> Callable[[], Any]:
    """As ExecuTorch's guide calls it. Its threads are those of the process: the runner has set them to one."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None
    ((_, value),) = feed.items()
    return lambda: [result.numpy() for result in method.execute([torch.from_numpy(value)])]


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
        return raw_executorch(path, feed)
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


def measure(path: Path, runtime: str | None = None) -> float:
    """Prints one line, gives the ratio."""
    with edgekit.load(path, runtime=runtime) as runner:
        card = runner.artifact.card
        feed = seeded_feed(runner.signature, card.contract if card else {}, 0)
        calls = {
            "run": lambda: runner.run(feed),
            "raw": raw_openvino(runner, feed) if isinstance(runner, OpenVinoRunner) else raw_call(path, feed),
        }
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
        f"{path.name} in {runner.name} {runner.version}: run {ours:.1f} us, raw {theirs:.1f} us, "
        f"ratio {ratio:.3f} (95%: {low:.3f} to {high:.3f}); bar {BAR}: {word}"
    )
    return ratio


def measure_apart(runtime: str, files: list[Path]) -> float:
    """The same in a runtime of another environment, by its interpreter; 0 where there is none, or no file for it."""
    environment_, suffixes = APART[runtime]
    python, fitting = environment_.python(), [str(file) for file in files if file.suffix in suffixes]
    if python is None or not fitting:
        print(f"{runtime}: {'no file for it' if python else f'not there: {environment_.install}'}")
        return 0.0
    command = [python, __file__, "--runtime", runtime, *fitting]
    return float(subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--runtime"]:
        return int(max(measure(Path(name), arguments[1]) for name in arguments[2:]) > BAR)
    print(f"{environment()['cpu']}, {date.today()}")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(name) for name in arguments]
        if not files:
            formats = [Format.ONNX, Format.TFLITE] + ([Format.PTE] if EXECUTORCH.python() else [])
            edgekit.export("cnn", to=formats, out=folder)
            files = [Path(folder) / f"cnn.{one}" for one in formats]
        missed = any(measure(file) > BAR for file in files if file.suffix != ".pte")
        return int(sum(measure_apart(runtime, files) for runtime in APART) > 0 or missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
