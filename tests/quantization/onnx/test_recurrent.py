"""Recurrent layers of ONNX files: an LSTM runs on integers, GRU and RNN hold their weights in int8."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.artifact import open_artifact
from edgekit.errors import UnsupportedError
from edgekit.passes import PassContext
from edgekit.quality.coverage import coverage
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.onnx.contrib import dynamic_lstm
from edgekit.quantization.onnx.quantize import SCHEMES, QuantizeOnnx
from edgekit.runtime import load
from edgekit.types import Array, Feed, Format

pytestmark = pytest.mark.usefixtures("kept_workers")

FEATURES, HIDDEN, STEPS = 6, 16, 20
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ERROR = 0.03
"""Of outputs within -1..1: int8 weights are half a step of 1/254 of the largest off, over 22 products and 20 steps some
0.01; inputs quantized while running add half a step of 1/255."""


def layer_file(path: Path, kind: str, *, directions: int = 1, steps: int | str = STEPS) -> Path:
    """``x`` (T, 1, I) -> ``y`` (T, D, 1, H), one layer."""
    random = np.random.default_rng(1)
    rows = GATES[kind] * HIDDEN
    shapes = {"w": (directions, rows, FEATURES), "r": (directions, rows, HIDDEN), "b": (directions, 2 * rows)}
    constants = [
        numpy_helper.from_array(random.uniform(-0.4, 0.4, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    direction = "bidirectional" if directions == 2 else "forward"
    node = helper.make_node(
        kind, ["x", "w", "r", "b"], ["y"], name="layer", hidden_size=HIDDEN, direction=direction, layout=0, **extra
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [steps, directions, 1, HIDDEN])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def walks(count: int, steps: int = STEPS) -> list[Feed]:
    random = np.random.default_rng(2)
    return [
        {"x": (random.standard_normal((steps, 1, FEATURES)).cumsum(0) / 3).astype(np.float32)} for _ in range(count)
    ]


def outputs(path: Path, feeds: list[Feed]) -> Array:
    with load(path) as runner:
        return np.stack([runner.run(feed)["y"] for feed in feeds])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("kind", "directions"), [("LSTM", 1), ("LSTM", 2), ("GRU", 2), ("RNN", 1)])
def test_every_scheme_gives_what_the_float_file_gives(tmp_path: Path, kind: str, directions: int, scheme: str) -> None:
    path, target = layer_file(tmp_path / "m.onnx", kind, directions=directions), tmp_path / "q.onnx"
    with load(path) as runner:
        ranges = calibrate(path, walks(8), runner.signature, format=Format.ONNX)
    result = QuantizeOnnx(scheme, ranges).run(open_artifact(path), PassContext(target))
    error = np.abs(outputs(target, walks(3)) - outputs(path, walks(3))).max()
    assert 0 < error < (1e-3 if scheme == "fp16" else ERROR)  # float16 has 11 bits
    found = coverage(open_artifact(target), result.left_in_float)
    if scheme == "fp16":
        assert "float16" in found.left_float[0].reason
        return
    assert found.weight_bytes_integer_share > 0.2, "biases and scales are most of so small a layer"
    held = scheme in ("int8-weights", "int4-weights")  # there is no recurrent layer of 4 bits: int8
    if kind == "LSTM" and not held:
        assert (found.integer_operators, found.left_float) == (1, ())
    else:
        wanted = "weight-only" if kind == "LSTM" or held else f"no integer {kind}"
        assert wanted in found.left_float[0].reason


@pytest.mark.parametrize("per_row", [True, False])
def test_the_weights_of_an_integer_lstm(tmp_path: Path, per_row: bool) -> None:
    """int8, turned as the operator wants them; a scale of its own for each row, or for each direction."""
    model = onnx.load(str(layer_file(tmp_path / "m.onnx", "LSTM", directions=2)))
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert dynamic_lstm(model, per_row=per_row) == 1
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (node,) = model.graph.node
    assert (node.domain, node.op_type) == ("com.microsoft", "DynamicQuantizeLSTM")
    assert list(node.input) == ["x", "w_int8", "r_int8", "b", *[""] * 4, "w_scale", "w_zero", "r_scale", "r_zero"]
    for name in "wr":
        integers, scale = after[f"{name}_int8"], after[f"{name}_scale"]
        assert integers.dtype == np.int8 and not after[f"{name}_zero"].any()
        assert scale.shape == after[f"{name}_zero"].shape == ((2, 4 * HIDDEN) if per_row else (2,))
        step = scale[..., None] if per_row else scale[:, None, None]
        restored = integers.transpose(0, 2, 1) * step
        assert (np.abs(restored - before[name]) <= step / 2 * 1.0001).all()  # half a step, float32 rounding
    assert not {"w", "r"} & set(after), "the float weights are gone"


def test_layers_that_share_their_weights(tmp_path: Path) -> None:
    path = layer_file(tmp_path / "m.onnx", "LSTM")
    model = onnx.load(str(path))
    twin = onnx.NodeProto()
    twin.CopyFrom(model.graph.node[0])
    twin.output[0], twin.name = "z", "twin"
    model.graph.node.append(twin)
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [STEPS, 1, 1, HIDDEN]))
    onnx.save(model, str(path))
    QuantizeOnnx("int8-dynamic").run(open_artifact(path), PassContext(tmp_path / "q.onnx"))
    names = Counter(tensor.name for tensor in onnx.load(str(tmp_path / "q.onnx")).graph.initializer)
    assert set(names.values()) == {1}
    with load(tmp_path / "q.onnx") as runner:
        found = runner.run(walks(1)[0])
    assert (found["y"] == found["z"]).all()


def test_an_lstm_with_computed_weights_is_left_alone(tmp_path: Path) -> None:
    model = onnx.load(str(layer_file(tmp_path / "m.onnx", "LSTM")))
    model.graph.node.insert(0, helper.make_node("Abs", ["w"], ["w_abs"]))
    model.graph.node[1].input[1] = "w_abs"
    assert dynamic_lstm(model) == 0
    assert model.graph.node[1].op_type == "LSTM"


def test_what_onnxruntime_has_no_kernels_for_is_refused(tmp_path: Path) -> None:
    path = layer_file(tmp_path / "m.onnx", "GRU")
    with pytest.raises(UnsupportedError, match=r"not supported for \.onnx"):
        edgekit.quantize(path, scheme="int16x8", data="digits", out=tmp_path / "q.onnx")


def test_a_sum_that_is_the_output_is_not_cut_off(tmp_path: Path) -> None:
    """What was calibrated reached 1; the sum reaches 9 on newer data."""
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32) / 8, "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["change"]), helper.make_node("Add", ["change", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    with load(path) as runner:
        seen = [{"x": np.linspace(-1, 1, 4, dtype=np.float32)[None]}]
        ranges = calibrate(path, seen, runner.signature, format=Format.ONNX)
    QuantizeOnnx("int8", ranges).run(open_artifact(path), PassContext(tmp_path / "q.onnx"))
    with load(tmp_path / "q.onnx") as runner:
        found = runner.run({"x": np.full((1, 4), 8, np.float32)})["y"]
    # the change, 1 in float, is cut off at 1/8, which its own range shows; what it is added to is whole
    assert found == pytest.approx(8.125, abs=0.01)
