"""NNCF's int8 beside edgekit's, both in OpenVINO: ``openvino_times.py FOLDER NAME``; see scripts/compare_openvino.

It runs in OpenVINO's environment and imports nothing of edgekit. FOLDER holds NAME.onnx, NAME-int8.onnx and NAME.npz,
the calibration samples, the last of which judges; NAME-nncf.xml is made where it is not there. Prints a line of JSON:
of each way the milliseconds of CPU time of a call on one thread (medians of blocks that take turns) and the decibels of
the outputs beside those of the float file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from real_openvino import quantize

ROUNDS, SECONDS, SAMPLES = 12, 0.08, 32
WAYS = (("f32", "", "f32"), ("bf16", "", "bf16"), ("ours", "-int8", "f32"), ("nncf", "-nncf", "f32"))
"""Name, what the file's name ends with, precision."""


def opened(path: Path, precision: str, sample: Any) -> tuple[Callable[[], object], Any]:
    """A call on one thread, and its outputs as one vector."""
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    request.get_input_tensor(0).data[:] = sample
    request.infer()
    outputs = [tensor.data.ravel() for tensor in request.output_tensors]
    return request.infer, np.concatenate(outputs).astype(np.float64)


def decibels(found: Any, wanted: Any) -> float:
    noise = float(((found - wanted) ** 2).sum())
    return float(10 * np.log10(float((wanted**2).sum()) / noise)) if noise else 200.0


def main(folder: str, name: str) -> None:
    place = Path(folder)
    with np.load(place / f"{name}.npz") as file:
        ((key, samples),) = dict(file).items()
    nncf = place / f"{name}-nncf.xml"
    if not nncf.exists():
        quantize(
            str(place / f"{name}.onnx"),
            [{key: samples[k : k + 1]} for k in range(SAMPLES)],
            str(nncf),
            transformer="vit" in name,
        )
    calls, outputs = {}, {}
    for way, suffix, precision in WAYS:
        path = nncf if way == "nncf" else place / f"{name}{suffix}.onnx"
        calls[way], outputs[way] = opened(path, precision, samples[-1:])
    times: dict[str, list[float]] = {way: [] for way in calls}
    for turn in range(ROUNDS):
        for way in sorted(calls, reverse=bool(turn % 2)):
            calls[way]()
            started, count = time.process_time(), 0
            while time.process_time() - started < SECONDS:
                calls[way]()
                count += 1
            times[way].append(1e3 * (time.process_time() - started) / count)
    rows = {way: {"ms": float(np.median(times[way])), "db": decibels(outputs[way], outputs["f32"])} for way in calls}
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
