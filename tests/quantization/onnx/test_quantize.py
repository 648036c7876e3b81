"""Quantized ONNX files: what they hold, what they compute, what onnxruntime makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.data import Dataset
from edgekit.errors import ModelError, UnsupportedError, UsageError
from edgekit.passes import PassContext
from edgekit.quality.coverage import coverage
from edgekit.quality.coverage_onnx import onnx_coverage
from edgekit.quality.evaluate import evaluate
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import METHODS, Range
from edgekit.quantization.onnx.prepare import prepared
from edgekit.quantization.onnx.quantize import SCHEMES, QuantizeOnnx
from edgekit.quantization.onnx.weights import symmetric_int8
from edgekit.quantization.schemes import check_scheme
from edgekit.runtime import load
from edgekit.types import Artifact, Format

from ..conftest import calibrate_on

pytestmark = pytest.mark.usefixtures("kept_workers")

LOSS = 0.02
"""Of 359 digits, 7: twice what the worst scheme lost here; float has some 90%."""


def quantized(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], target: Path, **options: Any
) -> Artifact:
    made = QuantizeOnnx(**{"calibration": calibrations[Format.ONNX], **options}).run(
        files[Format.ONNX], PassContext(target)
    )
    assert isinstance(made.model, Artifact)
    return made.model


def accuracy(path: Path, artifact: Artifact, test: Dataset) -> float:
    with load(path) as runner:
        return evaluate(runner, test, artifact.card).value


@pytest.mark.parametrize("scheme", SCHEMES)
def test_smaller_and_as_good(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    digits_test: Dataset,
    tmp_path: Path,
    scheme: str,
) -> None:
    parent = files[Format.ONNX]
    made = quantized(files, calibrations, tmp_path / "q.onnx", scheme=scheme)
    share = made.path.stat().st_size / parent.path.stat().st_size
    assert share < (0.75 if scheme == "fp16" else 0.6)  # of this small file the graph itself is a third
    before, after = (accuracy(p, parent, digits_test) for p in (parent.path, made.path))
    assert before > 0.8
    assert after > before - LOSS


@pytest.mark.parametrize("method", METHODS)
def test_every_calibration(files: Mapping[Format, Artifact], digits_test: Dataset, tmp_path: Path, method: str) -> None:
    parent = files[Format.ONNX]
    ranges = calibrate_on(parent, method)
    QuantizeOnnx(calibration=ranges).run(parent, PassContext(tmp_path / "q.onnx"))
    assert accuracy(tmp_path / "q.onnx", parent, digits_test) > accuracy(parent.path, parent, digits_test) - LOSS


def test_int8_is_per_channel_symmetric_with_unsigned_activations(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    made = quantized(files, calibrations, tmp_path / "q.onnx")
    graph = onnx.load(str(made.path)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [
        n for n in graph.node if n.op_type == "DequantizeLinear" and constants.get(n.input[0], np.zeros(0)).ndim == 4
    ]
    assert len(weights) == sum(node.op_type == "Conv" for node in graph.node)
    for node in weights:
        values, scale, zero = (constants[name] for name in node.input)
        assert values.dtype == np.int8
        assert scale.shape == (values.shape[0],)
        assert not zero.any()
    steps = {constants[n.input[2]].dtype for n in graph.node if n.op_type == "QuantizeLinear"}
    assert steps == {np.dtype(np.uint8)}


def optimised(path: Path, folder: Path) -> Counter[str]:
    """Operators of the graph that onnxruntime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(str(folder / "optimised.onnx")).graph.node)


def test_the_account_is_what_onnxruntime_runs(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    made = quantized(files, calibrations, tmp_path / "q.onnx")
    counted = coverage(made)
    assert counted.left_float == ()
    assert counted.weight_bytes_integer_share == 1.0
    runs = optimised(made.path, tmp_path)
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(str(made.path)).graph.node)
    assert runs["QLinearConv"] == convolutions
    assert not runs["Conv"] + runs["Gemm"] + runs["Add"] + runs["Relu"] + runs["ReduceMean"]
    assert counted.conversions == runs["QuantizeLinear"] + runs["DequantizeLinear"]


def test_the_account_of_onnxruntimes_own_default_recipe(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    """int8 activations on a residual network: the account must see what x86 leaves in float (docs/quantization.md)."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.waiting = iter(
                [{"image": np.zeros((1, 1, 8, 8), np.float32)}, {"image": np.ones((1, 1, 8, 8), np.float32)}]
            )

        def get_next(self) -> Any:
            return next(self.waiting, None)

    quantize_static(str(files[Format.ONNX].path), str(tmp_path / "q.onnx"), Reader(), per_channel=True)
    left = Counter(row.operator for row in onnx_coverage(tmp_path / "q.onnx", {}).left_float)
    runs = optimised(tmp_path / "q.onnx", tmp_path)
    assert left["Conv"] == runs["Conv"] + runs["FusedConv"] > 0
    assert left["Add"] == runs["Add"] > 0


def test_weight_only_files_are_folded_when_loaded(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    for scheme in ("int8-weights", "fp16"):
        runs = optimised(quantized(files, calibrations, tmp_path / f"{scheme}.onnx", scheme=scheme).path, tmp_path)
        assert not runs["Cast"] + runs["Mul"] + runs["DequantizeLinear"]


def test_dynamic_leaves_convolutions_in_float_and_says_why(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    result = QuantizeOnnx("int8-dynamic").run(files[Format.ONNX], PassContext(tmp_path / "q.onnx"))
    made = open_artifact(tmp_path / "q.onnx")
    counted = coverage(made, result.left_in_float)
    assert counted.integer_operators == 1
    assert any(row.operator == "Conv" and "8 times" in row.reason for row in counted.left_float)
    assert optimised(made.path, tmp_path)["ConvInteger"] == 0


def test_integer_inputs(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    made = quantized(files, calibrations, tmp_path / "q.onnx", integer_io=True)
    with load(made.path, raw=True) as runner:
        assert runner.signature.inputs[0].dtype == "uint8"


def test_a_mutated_scale_and_a_mutated_weight_are_seen(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], digits_test: Dataset, tmp_path: Path
) -> None:
    """The accuracy figure is able to fall: one scale times 300, or one layer's weights turned round."""
    made = quantized(files, calibrations, tmp_path / "q.onnx")
    good = accuracy(made.path, files[Format.ONNX], digits_test)
    for kind in ("scale", "weight"):
        model = onnx.load(str(made.path))
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if kind == "scale" and tensor.name == "relu_scale":
                tensor.CopyFrom(numpy_helper.from_array(values * np.float32(300), tensor.name))
            if kind == "weight" and values.ndim == 4 and values.shape[2] == 3:
                tensor.CopyFrom(numpy_helper.from_array(-values, tensor.name))
        onnx.save(model, str(tmp_path / f"{kind}.onnx"))
        assert accuracy(tmp_path / f"{kind}.onnx", files[Format.ONNX], digits_test) < good - 0.1


def test_what_there_is_not(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    for scheme in ("int16x8", "auto"):
        with pytest.raises(UsageError, match="int8, int8-dynamic, int8-weights, fp16, int4-weights"):
            quantized(files, calibrations, tmp_path / "q.onnx", scheme=scheme)
    with pytest.raises(UnsupportedError, match=r"has no 16-bit kernels.*int8-weights, int4-weights"):
        check_scheme("int16x8", Format.ONNX)
    with pytest.raises(UsageError, match="no scheme is called 'int3'"):
        quantized(files, calibrations, tmp_path / "q.onnx", scheme="int3")
    with pytest.raises(UsageError, match="give --data"):
        quantized(files, calibrations, tmp_path / "q.onnx", calibration=None)
    foreign = replace(calibrations[Format.ONNX], ranges={"other": Range(0, 1)})
    with pytest.raises(ModelError, match="from another file"):
        quantized(files, calibrations, tmp_path / "q.onnx", calibration=foreign)
    with pytest.raises(UsageError, match=r"works on \.onnx files"):
        QuantizeOnnx().run(files[Format.TFLITE], PassContext(tmp_path / "q.onnx"))


def test_describe_does_nothing(files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration]) -> None:
    step = QuantizeOnnx(calibration=calibrations[Format.ONNX]).describe(files[Format.ONNX])
    assert step.params["activations"] == "uint8, per tensor"
    assert step.params["calibration"] == {"method": "minmax", "data": "digits@train", "samples": 64}
    assert step.versions["onnxruntime"] == onnxruntime.__version__


def test_symmetric_int8_by_hand() -> None:
    values = np.array([[1.0, -2.0], [0.0, 0.0], [0.5, 0.25]], np.float32)
    integers, scale = symmetric_int8(values, (0,))
    assert scale.ravel().tolist() == pytest.approx([2 / 127, 1.0, 0.5 / 127])
    assert integers.tolist() == [[64, -127], [0, 0], [127, 64]]  # 63.5 rounds to even


def model_with(nodes: list[Any], constants: dict[str, Any], shape: list[Any], opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def outputs(model: onnx.ModelProto, feed: Mapping[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feed))[0]


@pytest.mark.parametrize("opset", [11, 17, 18, 21])
def test_a_file_from_elsewhere_is_prepared(tmp_path: Path, opset: int) -> None:
    """Batch norm apart, a mean over height and width, an old opset: folded and pooled, same outputs."""
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "s": rng.uniform(0.5, 2, 4).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
        "m": rng.normal(size=4).astype(np.float32),
        "v": rng.uniform(0.5, 2, 4).astype(np.float32),
    }
    axes = {"axes": [2, 3]} if opset < 18 else {}
    inputs = ["r"] if opset < 18 else ["r", "axes"]
    if opset >= 18:
        constants["axes"] = np.array([2, 3], np.int64)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("ReduceMean", inputs, ["y"], keepdims=0, **axes),
    ]
    model = model_with(nodes, constants, ["batch", 3, 8, 8], opset)
    onnx.save(model, str(tmp_path / "m.onnx"))
    found = prepared(tmp_path / "m.onnx")
    kinds = Counter(node.op_type for node in found.graph.node)
    assert kinds == {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Flatten": 1}
    assert {entry.domain for entry in found.opset_import} == {""}
    feed = {"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)}
    # Folding multiplies weights by float32 factors: relative rounding of 1e-7 over 27 terms.
    np.testing.assert_allclose(outputs(found, feed), outputs(model, feed), atol=1e-5)


def test_external_data_becomes_one_file(files: Mapping[Format, Artifact], tmp_path: Path) -> None:
    model = onnx.load(str(files[Format.ONNX].path))
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=512)
    (tmp_path / "alone").mkdir()
    source = Artifact(tmp_path / "m.onnx", Format.ONNX)
    QuantizeOnnx(scheme="int8-weights").run(source, PassContext(tmp_path / "alone" / "q.onnx"))
    (tmp_path / "m.bin").unlink()
    with load(tmp_path / "alone" / "q.onnx") as runner:
        assert runner.signature.outputs[0].name == "logits"
