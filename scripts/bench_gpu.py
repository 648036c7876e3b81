"""Measures what edgekit adds to a bare replay of a CUDA graph, and how the ways to run a network compare on a GPU.

The bare loop lies in this process: torch's own export, its own capture, ``replay`` and ``synchronize`` under
``perf_counter_ns``. edgekit's side is a cell of its bench in a worker (``--on cuda --runtime torch:cudagraph``).
Blocks of the two take turns, and the figure is the ratio of their medians.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.artifact import open_artifact
from edgekit.bench.clock import WarmupRule
from edgekit.data.seeded import seeded_feed
from edgekit.devices import open_worker
from edgekit.errors import EdgekitError
from edgekit.runtime.cuda_driver import gpu_count, gpu_name
from edgekit.runtime.pt2 import load_program

BAR = 1.05
"""Median of edgekit over median of the bare replay."""
NETWORKS, BATCHES = ("cnn", "transformer"), (1, 256)
WAYS = ("torch:eager", "torch:compile", "torch:cudagraph", "torch:cudagraph:fp16", "torch:cudagraph:bf16")
ROUNDS, BLOCK_NS, WARM_NS = 12, 100_000_000, 500_000_000
REPORT = Path(__file__).resolve().parent.parent / "docs" / "results-gpu.md"
Call = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=REPORT, help="default: docs/results-gpu.md")
    options = parser.parse_args(arguments)
    missing = what_is_missing()
    if missing:
        print(f"bench_gpu: nothing was measured: {missing}", file=sys.stderr)
        return 4
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = {(name, batch): export(name, batch, Path(folder)) for name in NETWORKS for batch in BATCHES}
            overheads = {key: overhead(path) for key, path in files.items()}
            tables = {key: compare_ways(path) for key, path in files.items()}
    except EdgekitError as error:
        print(f"bench_gpu: {error}", file=sys.stderr)
        return error.exit_code
    options.output.write_text(report(overheads, tables), encoding="utf-8")
    for (name, batch), (bare, ours) in overheads.items():
        print(f"{name}, batch {batch}: bare {bare:.4f} ms, edgekit {ours:.4f} ms, ratio {ours / bare:.3f} (bar {BAR})")
    return 0 if all(ours / bare <= BAR for bare, ours in overheads.values()) else 1


def what_is_missing() -> str:
    """Why nothing can be measured here, empty where it can."""
    try:
        if gpu_count() < 1:
            return "the driver gives no GPU"
    except EdgekitError as error:
        return str(error)
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: pip install --force-reinstall torch"
    return (
        ""
        if torch.cuda.is_available()
        else "torch cannot use the GPU; see: python -c 'import torch; torch.cuda.init()'"
    )


def export(name: str, batch: int, folder: Path) -> Path:
    """The zoo network as a ``.pt2`` of that batch alone, as a graph has it."""
    place = folder / f"{name}-{batch}"
    edgekit.export(name, to=["pt2"], out=place, dynamic=[] if batch == 1 else [f"{input_of(name)}:0=batch"])
    return place / f"{name}.pt2"


def input_of(name: str) -> str:
    """The network's only input."""
    from edgekit.source import resolve

    (spec,) = resolve(name).signature.inputs
    return spec.name


def batch_of(path: Path) -> int:
    return int(path.parent.name.rpartition("-")[2])


def overhead(path: Path) -> tuple[float, float]:
    """Medians in milliseconds: the bare replay, and edgekit's timed run, of blocks that took turns."""
    batch = batch_of(path)
    rule = {"min_runs": 11, "min_ns": BLOCK_NS, "max_ns": 2 * BLOCK_NS}
    with open_worker("cuda", timeout_s=300) as client:
        loaded = client.load(path, runtime="torch:cudagraph")
        dims = dict.fromkeys(loaded.signature.dynamic_dims, batch)
        card = open_artifact(path).card
        assert card is not None  # edgekit's own export writes one; its contract keeps words inside the vocabulary
        feed = seeded_feed(loaded.signature, card.contract, 0, dims=dims)
        call = bare_replay(path, [feed[spec.name] for spec in loaded.signature.inputs])
        timed(call, WARM_NS)
        client.time_block(feed, warmup=WarmupRule(50, WARM_NS, 4 * WARM_NS), **rule)
        bare, ours = [], []
        for turn in range(ROUNDS):
            for side in ("bare", "ours") if turn % 2 == 0 else ("ours", "bare"):
                if side == "bare":
                    bare.append(timed(call, BLOCK_NS))
                else:
                    block = client.time_block(feed, warmup=WarmupRule(10, 0, BLOCK_NS), **rule)
                    ours.append(block.samples_ns)
    return float(np.median(np.concatenate(bare))) / 1e6, float(np.median(np.concatenate(ours))) / 1e6


def bare_replay(path: Path, arrays: Sequence[Any]) -> Call:
    """A replay of the file's program on the GPU, by torch alone, until the GPU is done."""
    import torch
    from torch.export.passes import move_to_device_pass

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as edgekit times it
    module = move_to_device_pass(load_program(path), "cuda:0").module(check_guards=False)
    inputs = [torch.from_numpy(array).cuda() for array in arrays]
    with torch.inference_mode():
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                module(*inputs)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            module(*inputs)

    def call() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return call


def timed(call: Call, length_ns: int) -> Any:
    """Nanoseconds of each call, for so long: the plainest loop there is."""
    now = time.perf_counter_ns
    samples, first = [], now()
    while now() - first < length_ns:
        started = now()
        call()
        samples.append(now() - started)
    return np.array(samples, np.int64)


def compare_ways(path: Path) -> list[Mapping[str, Any]]:
    """Entries of edgekit's own bench, one a way."""
    batch = batch_of(path)
    setting: dict[str, Any] = {"scenario": "offline", "batch": batch} if batch > 1 else {}
    result = edgekit.bench(path, on="cuda", runtime=WAYS, seconds=3.0, timeout=600.0, **setting)
    entries: list[Mapping[str, Any]] = result.document()["results"]
    return entries


def report(overheads: Mapping[Any, tuple[float, float]], tables: Mapping[Any, Sequence[Mapping[str, Any]]]) -> str:
    """docs/results-gpu.md."""
    import torch

    lines = [
        "# Results on a GPU",
        "",
        f"Made by `scripts/bench_gpu` on {datetime.date.today()}: {gpu_name(0)}; torch {torch.__version__}, Python "
        f"{platform.python_version()}, edgekit {edgekit.__version__}. Times hold for this chip and for no other.",
        "",
        "## What edgekit adds to a bare replay of a CUDA graph",
        "",
        "Medians of interleaved blocks; the time of one run on buffers that lie on the GPU, until it is done there. "
        f"Bar: {BAR}.",
        "",
        "| network | batch | bare replay ms | edgekit ms | ratio | |",
        "|---|---|---|---|---|---|",
    ]
    for (name, batch), (bare, ours) in overheads.items():
        verdict = "held" if ours / bare <= BAR else "missed"
        lines.append(f"| {name} | {batch} | {bare:.4f} | {ours:.4f} | {ours / bare:.3f} | {verdict} |")
    lines += ["", "## Ways to run", "", "p50 in milliseconds of the run, of copies in and out beside it, and of the "
              "run by CUDA events; the self-test's largest difference and what is allowed.", "",
              "| network | batch | runtime | run | copy in | copy out | events | self-test |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for (name, batch), entries in tables.items():
        lines += [f"| {name} | {batch} | {_row(entry)} |" for entry in entries]
    return "\n".join(lines) + "\n"


def _row(entry: Mapping[str, Any]) -> str:
    if "error" in entry:
        return f"{entry['runtime']} | failed: {entry['error']['message'].replace('|', '/')} | | | | "
    p50, test = entry["transfer"]["p50_ms"], entry["selftest"]
    numbers = (entry["latency_ms"]["p50"], p50["copy_in"], p50["copy_out"], p50["device"])
    shown = " | ".join("–" if value is None else f"{value:.4f}" for value in numbers)
    off = "none in the file" if test is None else f"{test['max_abs']:.2g} of {test['tolerance']:.2g}"
    return f"{entry['runtime']} | {shown} | {off}"


if __name__ == "__main__":
    sys.exit(main())
