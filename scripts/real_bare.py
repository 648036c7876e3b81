"""Runs a model file in its bare runtime, call after call, and keeps the outputs: ``real_bare.py MODEL SAMPLES OUT``.

Nothing of edgekit is imported. An array of SAMPLES (.npz) holds one sample an entry, with or without the leading 1 of
its input. ``CARRY`` (``output=input,…``) hands outputs to inputs of the next call; where ``start`` is true the
state is that of the samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Feed = dict[str, Any]
Call = Callable[[Feed], Feed]


def onnx(path: str) -> tuple[dict[str, int], Call]:
    """Ranks of the inputs by name, and one call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    ranks = {each.name: len(each.shape) for each in session.get_inputs()}
    return ranks, lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def tflite(path: str) -> tuple[dict[str, int], Call]:
    """Ranks of the inputs by name, and one call; free sizes are set to those of the first one."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    signatures = interpreter.get_signature_list()
    if signatures:
        run = interpreter.get_signature_runner(next(iter(signatures)))
        details, results = run.get_input_details(), run.get_output_details()

        def signature(feed: Feed) -> Feed:
            outputs = run(**{name: _held(feed[name], detail) for name, detail in details.items()})
            return {name: _real(value, results[name]) for name, value in outputs.items()}

        return {name: len(detail["shape"]) for name, detail in details.items()}, signature
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()

    def call(feed: Feed) -> Feed:
        for detail in inputs:
            interpreter.set_tensor(detail["index"], _held(feed[detail["name"]], detail))
        interpreter.invoke()
        return {detail["name"]: _real(interpreter.get_tensor(detail["index"]), detail) for detail in outputs}

    return {detail["name"]: len(detail["shape"]) for detail in inputs}, call


def _held(value: Any, detail: Any) -> Any:
    """A real value as an input of integers holds it."""
    step, zero = detail["quantization"]
    if not step or value.dtype.kind != "f":
        return value
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(value / step) + zero, limits.min, limits.max).astype(detail["dtype"])


def _real(value: Any, detail: Any) -> Any:
    """What the integers of an output stand for."""
    step, zero = detail["quantization"]
    return np.float32(step) * (value.astype(np.float32) - zero) if step and value.dtype.kind in "iu" else value


def openvino(path: str) -> tuple[dict[str, int], Call]:
    """Ranks of the inputs by name, and one call."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    ranks = {port.get_any_name(): len(port.partial_shape) for port in compiled.inputs}

    def call(feed: Feed) -> Feed:
        outputs = compiled(feed)
        return {port.get_any_name(): np.array(outputs[port]) for port in compiled.outputs}

    return ranks, call


def opened(path: str, runtime: str = "") -> tuple[dict[str, int], Call]:
    """The file in the runtime of its format, or in ``openvino``."""
    if runtime == "openvino":
        return openvino(path)
    return (onnx if path.endswith(".onnx") else tflite)(path)


def feed_of(arrays: Feed, ranks: dict[str, int], number: int) -> Feed:
    """One sample, with the leading 1 of each input."""
    feed = {}
    for name, rank in ranks.items():
        sample = np.array(arrays[name][number % len(arrays[name])])
        feed[name] = sample if sample.ndim == rank else sample[None]
    return feed


def outputs_of(call: Call, ranks: dict[str, int], arrays: Feed, carry: dict[str, str]) -> Feed:
    """Every output over all samples, stacked along a new first axis."""
    rows: dict[str, list[Any]] = {}
    state: Feed = {}
    free = [name for name in ranks if name not in carry.values()]
    for number in range(len(arrays[free[0]])):
        if "start" in arrays and arrays["start"][number]:  # a new recording
            state = {}
        outputs = call({**feed_of(arrays, ranks, number), **state})
        state = {target: np.array(outputs[source]) for source, target in carry.items()}
        for name, value in outputs.items():
            rows.setdefault(name, []).append(np.array(value))
    return {name: np.stack(values) for name, values in rows.items()}


def main(path: str, samples: str, target: str, carry: str = "", runtime: str = "") -> None:
    with np.load(samples) as file:
        arrays = dict(file)
    ranks, call = opened(path, runtime)
    pairs = dict(pair.split("=") for pair in carry.split(",") if pair)
    np.savez(target, **outputs_of(call, ranks, arrays, pairs))


if __name__ == "__main__":
    main(*sys.argv[1:])
