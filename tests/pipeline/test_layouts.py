"""Files whose batch is not the first axis of every input: quantized and measured on .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.pipeline.evaluate import evaluate
from edgekit.pipeline.schemes import quantize
from edgekit.types import Array

pytestmark = pytest.mark.usefixtures("kept_workers")

T, D, CLASSES, SAMPLES = 12, 48, 64, 80


def network(path: Path) -> Path:
    """``x`` (time, 1, features), ``h`` (2, 1, features), a number ``t`` -> scores (1, classes)."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(D, D)) / D**0.5, "v": rng.normal(size=(D, CLASSES)) / D**0.5}
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=0),
        helper.make_node("ReduceSum", ["h", "first"], ["s"], keepdims=0),
        helper.make_node("Add", ["m", "s"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Mul", ["b", "t"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["y"]),
    ]
    shapes = {"x": [T, 1, D], "h": [2, 1, D], "t": []}
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])]
    constants.append(numpy_helper.from_array(np.array([0]), "first"))
    graph = helper.make_graph(nodes, "g", given, result, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def answer(path: Path, arrays: dict[str, Array], k: int) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {name: np.asarray(value[k]) for name, value in arrays.items()})[0]
    return found


@pytest.mark.parametrize("scheme", ["int8", "int8-weights"])
def test_quantized_and_measured(tmp_path: Path, scheme: str) -> None:
    path, rng = network(tmp_path / "m.onnx"), np.random.default_rng(1)
    arrays = {
        "x": rng.normal(size=(SAMPLES, T, 1, D)).astype(np.float32),
        "h": rng.normal(size=(SAMPLES, 2, 1, D)).astype(np.float32),
        "t": rng.uniform(1, 2, SAMPLES).astype(np.float32),
    }
    labels = np.array([answer(path, arrays, k).argmax() for k in range(SAMPLES)])
    np.savez(tmp_path / "d.npz", labels=labels, **arrays)
    data = f"npz:{tmp_path / 'd.npz'}"
    assert evaluate(path, data=data).evaluation.value == 1.0  # the labels are its own answers
    made = quantize(path, scheme=scheme, out=tmp_path / "q.onnx", data=data, max_drop=0.2, seconds=0)
    if scheme == "int8":
        fit = SAMPLES - made.after.total
        assert made.step.params["calibration"]["samples"] == fit - fit // 4  # a quarter is held back for the proof
    for k in range(3):
        wanted, found = answer(path, arrays, k), answer(tmp_path / "q.onnx", arrays, k)
        assert ((wanted - found) ** 2).sum() < 0.01 * (wanted**2).sum()
