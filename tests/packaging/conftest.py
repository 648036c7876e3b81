"""Files whose outputs are their input (Relu of it), with a card of any kind: what is packaged is the preprocessing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.artifact import write_card
from edgekit.data.seeded import seeded_feed
from edgekit.types import Card, InputSpec, QuantizedTensor, SelfTest, Signature, Step, Task, TensorSpec

WORDS = " ".join(["the", "film", "is", "n't", "'s", "good", "masterful", "wonderful", "über", ".", "do", "boring"])
MEL: dict[str, Any] = {
    "rate": 8000, "window": 200, "hop": 128, "n_fft": 256, "bands": 20, "fmin": 20.0, "fmax": 4000.0, "floor": 1e-6,
}  # fmt: skip
KINDS: dict[str, tuple[InputSpec, tuple[int, ...], str]] = {
    "grey": (InputSpec("image", "NCHW", (8, 8), 1, 1 / 255), (1, 1, 8, 8), "float32"),
    "colour": (
        InputSpec("image", "NHWC", (24, 20), 3, 1 / 255, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), params={"shorter": 26}),
        (1, 24, 20, 3), "float32",
    ),
    "cubic": (
        InputSpec("image", "NCHW", (20, 24), 3, 1.0, (100.0, 90.0, 80.0), params={
            "color": "BGR", "interpolation": "bicubic", "resize": (22, 31)}),
        (1, 3, 20, 24), "float32",
    ),
    "letterbox": (InputSpec("image", "NHWC", (30, 17), 3, 1 / 255, params={"letterbox": 114}), (1, 30, 17, 3),
                  "float32"),
    "nearest": (InputSpec("image", "NHWC", (9, 7), 1, params={"interpolation": "nearest"}), (1, 9, 7, 1), "float32"),
    "audio": (
        InputSpec("audio", mean=(-5.0,) * 20, std=(2.0,) * 20, params={
            **MEL, "mel": "htk", "frames": 12, "level": "peak", "pad": "front"}),
        (1, 12, 20), "float32",
    ),
    "running": (
        InputSpec("audio", mean=(-5.0,) * 20, std=(2.0,) * 20, params={
            **MEL, "mel": "htk", "frames": 12, "level": "running", "least": 0.1, "pad": "back"}),
        (1, 12, 20), "float32",
    ),
    "text": (
        InputSpec("text", params={
            "tokenizer": "english", "lower": True, "beginning": 5, "length": 16, "vocabulary": WORDS}),
        (1, 16), "int32",
    ),
    "table": (InputSpec("table", mean=(1.0, 2.0, 3.0, 4.0), std=(0.5,) * 4, columns=("a", "b", "c", "d")), (1, 4),
              "float32"),
    "series": (
        InputSpec("series", mean=(1.0, 2.0), std=(3.0, 4.0), columns=("x", "y"), params={"history": 5}), (1, 5, 2),
        "float32",
    ),
}  # fmt: skip
Make = Callable[..., Path]
_NUMBERS = itertools.count()


@pytest.fixture
def make(tmp_path: Path, model_files: ModuleType) -> Make:
    """``make("table", "onnx", task=…, labels=…)``: a file with a self-test; ``quantized``: int8 in and out."""

    def file(kind: str, suffix: str, task: str = "none", labels: tuple[str, ...] = (), quantized: bool = False) -> Path:
        rule, shape, dtype = KINDS[kind]
        held = "int8" if quantized else dtype
        path = tmp_path / f"{kind}{next(_NUMBERS)}.{suffix}"
        if suffix == "onnx":
            _write_onnx(path, held, shape)
        else:
            tensors = [model_files.Tensor(name, held, shape) for name in ("x", "y")]
            if quantized:
                tensors = [model_files.Tensor(name, held, shape, scale=(0.05,), zero_point=-68) for name in ("x", "y")]
            operator = model_files.Operator(model_files.OPERATORS.RELU, [0], [1])
            model_files.write_tflite(path, tensors, [operator], [0], [1], ({"x": 0}, {"y": 1}))
        seen = Signature((TensorSpec("x", dtype, shape),), (TensorSpec("y", dtype, shape),))
        feed = seeded_feed(seen, {"x": rule}, 0)["x"]
        wanted = np.maximum(feed, 0).ravel()[:64]
        if quantized:
            wanted = wanted.clip(None, (127 + 68) * 0.05)
        how = {name: QuantizedTensor("int8", 0.05, -68) for name in ("x", "y")} if quantized else {}
        signature = Signature((TensorSpec("x", held, shape),), (TensorSpec("y", held, shape),))
        test = SelfTest(0, {"y": tuple(float(v) for v in wanted)}, 0.051 if quantized else 1e-5)
        card = Card(
            f"a {kind}", "custom", Task(task, labels), signature, {"x": rule}, selftest=test, quantized_io=how,
            steps=(Step("export", {}, {"torch": "2.13.0"}),),
        )  # fmt: skip
        write_card(path, card)
        return path

    return file


def _write_onnx(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    given, made = (onnx.helper.make_tensor_value_info(name, element, shape) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [given], [made])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
