"""The parts of scripts/bench_trust: each takes one more measurement, as a row of plain numbers."""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.artifact import open_artifact
from edgekit.bench.clock import TimedBlock
from edgekit.bench.compare import compare_paired
from edgekit.bench.plan import CellPlan
from edgekit.bench.session import InProcess, time_interleaved
from edgekit.bench.statistics import pooled
from edgekit.devices import parse_device
from edgekit.pipeline.bench.cell import Cell

Row = dict[str, Any]
FACTORY = """\
import torch
from torch import nn


def net(layers, width, rows):
    torch.manual_seed(0)
    stack = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*stack).eval(), (torch.randn(rows, width),)


def net0(): return net(12, 256, 1)
def net1(): return net(8, 256, 8)
def net2(): return net(8, 512, 32)
def net3(): return net(12, 1024, 48)
def net4(): return net(12, 1024, 512)
"""
SIZES = 5
"""Networks from about 0.03 ms to 100 ms a run on a server core."""
WORKERS = 3
"""Processes that stand for edgekit, and for the bare loop beside it."""


def matmuls(path: Path, layers: int, width: int, rows: int = 1) -> Path:
    """An ONNX file of ``layers`` equal matrix products in a row, all with the same weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    if path.exists():
        return path
    weights = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32) / np.float32(np.sqrt(width))
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("MatMul", ["x" if k == 0 else f"t{k}", "w"], [f"t{k + 1}"]) for k in range(layers)]
    nodes.append(helper.make_node("Relu", [f"t{layers}"], ["y"]))
    ends = [value("x", TensorProto.FLOAT, [rows, width])], [value("y", TensorProto.FLOAT, [rows, width])]
    graph = helper.make_graph(nodes, "small", *ends, [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def networks(folder: Path) -> list[tuple[Path, Path]]:
    """The five networks as ONNX and as TFLite, exported once."""
    factory = folder / "nets.py"
    if not factory.exists() or factory.read_text() != FACTORY:
        factory.write_text(FACTORY)
    made = []
    for number in range(SIZES):
        files = folder / f"net{number}.onnx", folder / f"net{number}.tflite"
        if not all(file.exists() for file in files):
            edgekit.export(f"{factory}:net{number}", to=["onnx", "tflite"], out=folder, name=f"net{number}")
        made.append(files)
    return made


def same_file(folder: Path, seconds: float, number: int) -> Row:
    """A/A: a file against its own copy; three files take turns."""
    layers, width, rows = ((8, 256, 1), (20, 256, 64), (8, 1024, 1))[number % 3]
    path = matmuls(folder / f"aa-{layers}x{width}x{rows}.onnx", layers, width, rows)
    copy = folder / f"copy-of-{path.name}"
    shutil.copy(path, copy)
    return compared(path, copy, seconds, number)


def five_percent(folder: Path, seconds: float, number: int) -> Row:
    """20 equal matrix products against 21: 5% more work, the same weights."""
    base = matmuls(folder / "work-20.onnx", 20, 256, 64)
    return compared(base, matmuls(folder / "work-21.onnx", 21, 256, 64), seconds, number)


def five_percent_loaded(folder: Path, seconds: float, number: int) -> Row:
    """The same while another process loads one core for part of the time."""
    with part_time_load():
        return five_percent(folder, seconds, number)


def compared(a: Path, b: Path, seconds: float, seed: int) -> Row:
    """The second file relative to the first, and what the run cost."""
    started = time.monotonic()
    result = edgekit.bench([a, b], seconds=seconds, seed=seed)
    wall = time.monotonic() - started
    found, document = result.comparisons[0], result.document()
    return {
        "model": b.name, "verdict": found.verdict.value, "ratio": found.ratio, "low": found.low, "high": found.high,
        "detectable": found.smallest_detectable, "wall_s": wall, "seconds": seconds,
        "parent_cores": document["protocol"]["parent_cores"], "others": document["protocol"]["others"]["cores"],
        "noise": [entry["noise"]["verdict"] for entry in document["results"]],
        "workers": document["results"][0]["workers"],
    }  # fmt: skip


def _spin(on_s: float, off_s: float) -> None:
    while True:
        until = time.monotonic() + on_s
        while time.monotonic() < until:
            pass
        time.sleep(off_s)


@contextmanager
def part_time_load() -> Iterator[None]:
    """A process that loads one core for 0.7 s of each 2 s."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, args=(0.7, 1.3), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def bare_loop(path: Path, feed: dict[str, np.ndarray]) -> Callable[[], object]:
    """What someone would write without edgekit: copy in, run, copy out, one thread."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, feed)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    arrays = [(d["index"], next(iter(feed.values())).astype(d["dtype"])) for d in inputs]

    def call() -> object:
        for index, array in arrays:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in outputs]

    return call


def open_cell(path: Path, workers: int) -> Cell:
    """A cell of ``path`` on one thread; a file of cache size differs by several percent from process to process, so
    more than one worker stands for it."""
    plan = CellPlan(
        model=str(path), artifact=open_artifact(path), device=parse_device("cpu"), runtime=None, threads=1,
        scenario="single-stream", batch=None, shapes={}, input=None, seed=0, workers=workers, number=0,
    )  # fmt: skip
    cell = Cell(plan)
    cell.open()
    if cell.error is not None:
        cell.close()
        raise cell.error
    return cell


def _bare(path: Path, feed: dict[str, np.ndarray], connection: Connection) -> None:
    call = InProcess(bare_loop(path, feed))
    while asked := connection.recv():
        connection.send(call.time_block(**asked))


class BareProcess:
    """A bare loop in a new process, which has loaded nothing but the runtime, as an edgekit worker has."""

    def __init__(self, path: Path, feed: dict[str, np.ndarray]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_bare, args=(path, feed, theirs), daemon=True)
        self.process.start()

    def time_block(self, **asked: Any) -> TimedBlock:
        """See :func:`edgekit.bench.clock.time_calls`."""
        self.connection.send(asked)
        block: TimedBlock = self.connection.recv()
        return block

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()


def with_bare_loop(folder: Path, seconds: float, number: int) -> Row:
    """p50 of workers against that of bare loops, each in a process of its own, in interleaved blocks."""
    path = networks(folder)[number // 2 % SIZES][number % 2]
    cell = open_cell(path, workers=WORKERS)
    with ExitStack() as stack:
        stack.callback(cell.close)
        bare = [BareProcess(path, dict(cell.feed)) for _ in range(WORKERS)]
        for one in bare:
            stack.callback(one.close)
        taken = time_interleaved([cell.replicas, bare], seconds=seconds, seed=number).taken
    p50 = [float(np.median(pooled(record.blocks))) / 1e6 for record in taken]
    found = compare_paired("edgekit", "bare loop", taken[0].blocks, taken[1].blocks)
    return {"model": path.name, "edgekit_ms": p50[0], "other_ms": p50[1], "ratio": found.ratio}


def with_litert_tool(folder: Path, seconds: float, number: int) -> Row:
    """p50 of workers against the benchmark of the ai-edge-litert package, a new process of each in turn.

    The tool times ``CompiledModel.run_by_name`` with its buffers filled before; its rounding to 0.01 ms is taken out.
    """
    path = networks(folder)[number % SIZES][1]
    ratios, ours, theirs = [], [], []
    for turn in range(6):
        cell = open_cell(path, workers=1)
        try:
            blocks = time_interleaved([cell.replicas], seconds=seconds / 6, seed=turn).taken[0].blocks
        finally:
            cell.close()
        ours.append(float(np.median(pooled(blocks))) / 1e6)
        runs = int(min(max(1000 * seconds / 6 / ours[-1], 11), 20_000))
        program = [sys.executable, __file__, "--litert-tool", str(path), str(runs)]
        theirs.append(float(subprocess.run(program, check=True, capture_output=True, text=True).stdout))
        ratios.append(ours[-1] / theirs[-1])
    return {
        "model": path.name, "edgekit_ms": float(np.median(ours)), "other_ms": float(np.median(theirs)),
        "ratio": float(np.exp(np.median(np.log(ratios)))),
    }  # fmt: skip


def litert_tool(path: str, runs: int) -> float:
    """The median in milliseconds, without rounding, that the package's own benchmark finds for ``path``."""
    from ai_edge_litert.tools import benchmark_litert_model as tool

    tool.round = lambda value, digits=0: value
    sys.argv = ["tool", "--model", path, "--num_runs", str(runs), "--warmup_runs", str(max(runs // 10, 3))]
    with redirect_stdout(io.StringIO()):
        return float(tool.run_benchmark(tool.parse_args())["latency"]["median_ms"])


def one_occasion(folder: Path, seconds: float, number: int) -> Row:
    """The bench of one file once more; five files take turns, so that the occasions of one lie apart."""
    path = networks(folder)[number % SIZES][0]
    entry = edgekit.bench(path, seconds=seconds, seed=number).document()["results"][0]
    latency = entry["latency_ms"]
    low, high = latency["ci95_p50"]
    return {"model": path.name, "p50": latency["p50"], "low": low, "high": high, "noise": [entry["noise"]["verdict"]]}


def end_to_end(folder: Path, seconds: float, number: int) -> Row:
    """Wall time of the command line, from its start to its end."""
    onnx, tflite = networks(folder)[number % SIZES]
    command = [
        str(Path(sys.executable).with_name("edgekit")),
        "bench",
        str(onnx),
        str(tflite),
        "--seconds",
        f"{seconds:g}",
    ]
    out = folder / "end_to_end.json"
    started = time.monotonic()
    subprocess.run([*command, "-q", "--json", str(out)], check=True)
    wall = time.monotonic() - started
    cells = len(json.loads(out.read_text())["results"])
    return {"model": onnx.name, "wall_s": wall, "allowed_s": seconds * cells + 5, "seconds": seconds}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--litert-tool", nargs=2, required=True)
    model, count = parser.parse_args().litert_tool
    print(litert_tool(model, int(count)))
