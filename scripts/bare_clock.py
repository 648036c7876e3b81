"""A file in its bare runtime, timed when it is asked: ``bare_clock.py FILE RUNTIME FEED.npz``.

It runs in whichever environment has the runtime and imports nothing of edgekit. A line ``SECONDS`` on standard input is
answered by the milliseconds of a call in that time, on one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def onnxruntime(path: str, feed: dict[str, Any]) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def litert(path: str, feed: dict[str, Any]) -> Callable[[], object]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:  # the environment of tflite-runtime
        from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    held = [(row["index"], _held(_of(feed, row["name"], tuple(row["shape"])), row)) for row in inputs]

    def call() -> object:
        for index, array in held:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(row["index"]) for row in outputs]

    return call


def _of(feed: dict[str, Any], name: str, shape: tuple[int, ...]) -> Any:
    """The array of an input, whose name may have LiteRT's words around it; channels last where the file has them so."""
    array = next((value for key, value in feed.items() if key in name), None)
    array = next(iter(feed.values())) if array is None else array
    if array.shape != shape and array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    return array.copy()


def _held(array: Any, row: Any) -> Any:
    step, zero = row["quantization"]
    if not step or array.dtype.kind != "f":
        return array
    limits = np.iinfo(row["dtype"])
    return np.clip(np.round(array / step) + zero, limits.min, limits.max).astype(row["dtype"])


def openvino(path: str, feed: dict[str, Any], precision: str = "f32") -> Callable[[], object]:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    compiled = ov.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    arrays = {k: _of(feed, port.get_any_name(), tuple(port.shape)) for k, port in enumerate(compiled.inputs)}
    return lambda: request.infer(arrays, share_inputs=True)


def executorch(path: str, feed: dict[str, Any]) -> Callable[[], object]:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(1)
    torch.set_num_threads(1)
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    inputs = [torch.from_numpy(array) for array in feed.values()]
    return lambda: (program, method.execute(inputs))


def main(path: str, runtime: str, feed_file: str) -> None:
    with np.load(feed_file) as file:
        feed = dict(file)
    name, _, precision = runtime.partition(":")
    calls = {"onnxruntime": onnxruntime, "litert": litert, "tflite-runtime": litert, "executorch": executorch}
    call = openvino(path, feed, precision or "f32") if name == "openvino" else calls[name](path, feed)
    for _ in range(3):
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, count, started = float(line), 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            call()
            count += 1
        print(1e3 * (time.perf_counter() - started) / count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
