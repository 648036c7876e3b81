"""NNCF's int8 of a float file, in OpenVINO: ``real_openvino.py MODEL CALIBRATION TEST TARGET.xml OUT TIMES CARRY``.

It runs in an environment of its own (``.venv-openvino``) and imports nothing of edgekit. OUT gets the outputs on the
test samples; TIMES the time of a call relative to the float file in OpenVINO, in turns.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from real_bare import Call, Feed, feed_of, opened, outputs_of

ROUNDS, SECONDS = 20, 0.05


def quantize(model: str, feeds: list[Feed], target: str, *, transformer: bool = False) -> None:
    """NNCF with its defaults, or those that it has for transformers."""
    import nncf  # type: ignore[import-not-found]
    import openvino

    read = openvino.Core().read_model(model)
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    made = nncf.quantize(read, nncf.Dataset(feeds), subset_size=len(feeds), model_type=kind)
    openvino.save_model(made, target, compress_to_fp16=False)


def ratio(calls: tuple[Call, Call], feed: Feed) -> float:
    """Median time of the second relative to that of the first, in blocks that take turns."""
    blocks: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, times in zip(calls, blocks, strict=True):
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < SECONDS:
                call(feed)
                count += 1
            times.append((time.perf_counter() - started) / count)
    return float(np.median(blocks[1]) / np.median(blocks[0]))


def main(model: str, calibration: str, test: str, target: str, out: str, times: str, carry: str = "") -> None:
    arrays: list[dict[str, Any]] = []
    for path in (calibration, test):
        with np.load(path) as file:
            arrays.append(dict(file))
    ranks, call = opened(model, "openvino")
    count = len(next(iter(arrays[0].values())))
    quantize(model, [feed_of(arrays[0], ranks, number) for number in range(count)], target)
    _, after = opened(target, "openvino")
    pairs = dict(pair.split("=") for pair in carry.split(",") if pair)
    np.savez(out, **outputs_of(after, ranks, arrays[1], pairs))
    found = {"time": ratio((call, after), feed_of(arrays[1], ranks, 0))}
    Path(times).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
