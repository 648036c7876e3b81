"""What ``bench_executorch.py`` has done in ExecuTorch's own environment, by its bare API; imports nothing of edgekit.

``executorch_here.py lower PROGRAM.pt2 TARGET.pte`` lowers a program to XNNPACK as ExecuTorch's own guide does it.
``executorch_here.py ratio ONE.pte OTHER.pte FEED.npz OUT.json`` times both in turns: the time of OTHER relative to ONE.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROUNDS, SECONDS = 40, 0.04


def lower(program: str, target: str) -> None:
    """The lines of ExecuTorch's guide."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.load(program)
    made = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    Path(target).write_bytes(made.buffer)


def ratio(one: str, other: str, feed: str, out: str) -> None:
    """Medians of the blocks and of the ratios of neighbours, on one thread."""
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(1)
    torch.set_num_threads(1)
    with np.load(feed) as arrays:
        inputs = [torch.from_numpy(arrays[name]) for name in sorted(arrays, key=int)]
    programs = [Runtime.get().load_program(path) for path in (one, other)]
    calls: list[Any] = [program.load_method("forward") for program in programs]
    for call in calls:
        for _ in range(3):
            call.execute(inputs)
    blocks: list[list[float]] = [[], []]
    for number in range(ROUNDS):
        for side in (0, 1) if number % 2 else (1, 0):
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < SECONDS:
                calls[side].execute(inputs)
                count += 1
            blocks[side].append((time.perf_counter() - started) / count)
    ratios = np.array(blocks[1]) / np.array(blocks[0])
    low, high = np.quantile(ratios, (0.25, 0.75))
    found = {
        "one_ms": 1e3 * float(np.median(blocks[0])), "other_ms": 1e3 * float(np.median(blocks[1])),
        "ratio": float(np.median(ratios)), "quartiles": [float(low), float(high)],
    }  # fmt: skip
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"lower": lower, "ratio": ratio}
    commands[sys.argv[1]](*sys.argv[2:])
