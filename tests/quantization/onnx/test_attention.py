"""Attention in ONNX files: products with weights on integers, float between them; what it computes, its account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.passes import AROUND_ATTENTION, PassContext
from edgekit.quality.coverage import coverage
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.kernel_choice import Conversion, Kernel, choose
from edgekit.quantization.onnx.attention import around_attention, integer_products
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.onnx.saturation import clipping
from edgekit.quantization.onnx.single import Onnx, pairs
from edgekit.runtime import load
from edgekit.types import Array, Artifact, Feed, Format

pytestmark = pytest.mark.usefixtures("kept_workers")

RNG = np.random.default_rng(0)
D, T = 16, 6


def network(path: Path) -> Artifact:
    """Convolution -> attention with its products as MatMul and Add, as Gemm, and with one weight used both ways."""
    constants = {
        "kernel": RNG.normal(size=(D, 3, 1, 1)) / 2,
        "qkv": RNG.normal(size=(D, 3 * D)) / D**0.5,
        "qkv_bias": RNG.normal(size=3 * D),
        "tied": RNG.normal(size=(D, D)) / D**0.5,
        "out_bias": RNG.normal(size=D),
        "head": RNG.normal(size=(4, D)) / D**0.5,
        "head_bias": RNG.normal(size=4),
    }
    shapes = {"flat": (1, D, T), "row": (1, D)}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv"),
        helper.make_node("Reshape", ["c", "flat"], ["f"], name="flatten"),
        helper.make_node("Transpose", ["f"], ["s"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["s", "qkv"], ["p"], name="product"),
        helper.make_node("Add", ["p", "qkv_bias"], ["qkv_out"], name="bias"),
        helper.make_node("Split", ["qkv_out"], ["q", "k", "v"], name="split", axis=2),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn_k", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["share"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["share", "v"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "tied"], ["o"], name="out"),
        helper.make_node("Add", ["o", "s"], ["sum"], name="residual"),  # no bias: it is computed
        helper.make_node("ReduceMean", ["sum"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "tied", "out_bias"], ["g"], name="turned", transB=1),
        helper.make_node("Gemm", ["g", "head", "head_bias"], ["y"], name="head", transB=1),
    ]
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()]
    tensors += [numpy_helper.from_array(np.asarray(v, np.int64), k) for k, v in shapes.items()]
    value = helper.make_tensor_value_info
    x, y = value("x", TensorProto.FLOAT, [1, 3, T, 1]), value("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "attention", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return open_artifact(path)


def feeds(count: int) -> list[Feed]:
    return [{"x": RNG.normal(size=(1, 3, T, 1)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Calibration]:
    artifact = network(tmp_path_factory.mktemp("attention") / "m.onnx")
    with load(artifact.path) as runner:
        return artifact, calibrate(artifact.path, feeds(50), runner.signature, format=Format.ONNX)


def quantized(made: tuple[Artifact, Calibration], path: Path, **options: object) -> Artifact:
    QuantizeOnnx("int8", made[1], **options).run(made[0], PassContext(path))  # type: ignore[arg-type]
    return open_artifact(path)


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def outputs(path: Path, given: list[Feed]) -> Array:
    with load(path) as runner:
        return np.stack([runner.run(feed)["y"] for feed in given])


def test_the_neighbourhood_ends_at_the_convolution(made: tuple[Artifact, Calibration]) -> None:
    model = onnx.load(made[0].path)
    assert around_attention(model) == {node.name for node in model.graph.node} - {"conv"}
    del model.graph.node[7:]  # no product of two computed tensors is left
    assert around_attention(model) == frozenset()


def test_products_are_integers_and_nothing_between_them(made: tuple[Artifact, Calibration], tmp_path: Path) -> None:
    artifact = quantized(made, tmp_path / "q.onnx")
    found = kinds(artifact.path)
    assert (found["MatMulIntegerToFloat"], found["MatMul"], found["Gemm"]) == (4, 2, 0)
    assert found["Add"] == 1, "the bias went into its product, the residual sum stays"
    given = feeds(40)
    wanted, got = outputs(made[0].path, given), outputs(artifact.path, given)
    # four products and a convolution, each good to half a step of 255 of its span
    assert 0 < np.abs(got - wanted).max() < 0.05 * np.ptp(wanted)


def test_a_product_is_weighed_with_what_quantizes_its_input(made: tuple[Artifact, Calibration], tmp_path: Path) -> None:
    """Beside it stands the integer product, from real numbers to real ones, and nothing is converted at its borders."""
    artifact = quantized(made, tmp_path / "q.onnx")
    found = {one.name: one for one in pairs(Onnx(onnx.load(made[0].path)), Onnx(onnx.load(artifact.path)))}
    products = {"product", "out", "turned", "head"}
    assert {name for name, one in found.items() if one.integer is not None} == products | {"conv", "flatten"}
    assert found["product"].reads == found["product"].writes == () and found["conv"].reads == ("x",)
    source = RNG.normal(size=(1, T, D)).astype(np.float32)
    wanted, got = (
        onnxruntime.InferenceSession(content(), providers=["CPUExecutionProvider"]).run(["qkv_out"], {"s": source})[0]
        for content in (found["product"].float, found["product"].integer)
        if content is not None
    )
    assert 0 < np.abs(got - wanted).max() < 0.05 * np.ptp(wanted)
    kernels = [
        Kernel(one.name, one.kind, 9.0 if one.integer else None, 10.0, {}, one.reads, one.writes)
        for one in found.values()
    ]
    tensors = {name for one in kernels for name in (*one.reads, *one.writes)}
    left = choose(kernels, dict.fromkeys(tensors, Conversion(5.0, 5.0)), ["x"], ["y"])
    assert found.keys() - left == products, "a conversion would cost the convolution what it saves"


def test_it_is_the_integer_arithmetic_that_it_says(made: tuple[Artifact, Calibration]) -> None:
    """One product by hand, to float32 rounding: 48 sums of 16 products of integers."""
    model = onnx.load(made[0].path)
    ranges = {name: (one.low, one.high) for name, one in made[1].ranges.items()}
    assert integer_products(model, {"product"}, ranges) == 1
    del model.graph.output[:]
    model.graph.output.extend([helper.make_tensor_value_info("qkv_out", TensorProto.FLOAT, None)])
    model.graph.output.extend([helper.make_tensor_value_info("s", TensorProto.FLOAT, None)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got, s = session.run(None, feeds(1)[0])
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(made[0].path).graph.initializer}
    low, high = min(ranges["s"][0], 0), max(ranges["s"][1], 0)
    scale = (high - low) / 255
    zero = round(-low / scale)
    rows = np.clip(np.rint(s / scale) + zero, 0, 255) - zero
    step = np.abs(constants["qkv"]).max(0) / 127
    wanted = rows @ np.round(constants["qkv"] / step) * step * scale + constants["qkv_bias"]
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_a_weight_that_is_used_both_ways_has_integers_for_both(
    made: tuple[Artifact, Calibration], tmp_path: Path
) -> None:
    path = quantized(made, tmp_path / "q.onnx").path
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    plain, turned = (tensors[f"tied_{how}"] * tensors[f"tied_{how}_scale"] for how in ("columns", "turned"))
    steps = np.maximum(tensors["tied_columns_scale"][None, :], tensors["tied_turned_scale"][:, None])
    assert (np.abs(plain - turned.T) <= steps).all()


def test_seven_bits_where_they_are_asked_for(made: tuple[Artifact, Calibration], tmp_path: Path) -> None:
    def most(reduce_range: bool | Mapping[str, int]) -> dict[str, int]:
        path = quantized(made, tmp_path / "q.onnx", reduce_range=reduce_range).path
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        return {name: int(np.abs(tensors[name].astype(int)).max()) for name in ("qkv_columns", "head_turned")}

    assert most(False) == {"qkv_columns": 127, "head_turned": 127}
    assert most(True) == {"qkv_columns": 63, "head_turned": 63}
    assert most({"qkv": 1}) == {"qkv_columns": 63, "head_turned": 127}


def test_what_clips_without_vnni_is_seen_in_these_products_too(tmp_path: Path) -> None:
    """All weights alike and inputs at the top of their range: every pair of products is beyond 16 bits."""
    artifact = network(tmp_path / "m.onnx")
    model = onnx.load(artifact.path)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "qkv")
    weight.CopyFrom(numpy_helper.from_array(np.full((D, 3 * D), 0.1, np.float32), "qkv"))
    (kernel,) = (tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    kernel.CopyFrom(numpy_helper.from_array(np.ones((D, 3, 1, 1), np.float32), "kernel"))
    onnx.save(model, artifact.path)
    given = [{"x": np.full((1, 3, T, 1), value, np.float32)} for value in (0.0, 1.0)]
    with load(artifact.path) as runner:
        ranges = calibrate(artifact.path, given, runner.signature, format=Format.ONNX)
    path = quantized((artifact, ranges), tmp_path / "q.onnx").path
    found = {one.weight: one for one in clipping(path, given)}
    assert found["qkv"].pairs == pytest.approx(0.5)  # none of the zeros, all of the ones
    assert found["qkv"].matters
    reduced = quantized((artifact, ranges), tmp_path / "q.onnx", reduce_range={"qkv": 1}).path
    assert "qkv" not in {one.weight for one in clipping(reduced, given)}


def test_integer_io_asks_for_integers_and_gets_them(made: tuple[Artifact, Calibration], tmp_path: Path) -> None:
    found = kinds(quantized(made, tmp_path / "q.onnx", integer_io=True).path)
    assert (found["MatMulIntegerToFloat"], found["MatMul"], found["Gemm"]) == (0, 4, 2)


def test_a_product_that_is_kept_in_float_stays_so(made: tuple[Artifact, Calibration], tmp_path: Path) -> None:
    path = quantized(made, tmp_path / "q.onnx", keep_float=frozenset(["out"])).path
    assert kinds(path)["MatMulIntegerToFloat"] == 3
    assert [node.name for node in onnx.load(path).graph.node if node.op_type == "MatMul"] == ["scores", "mix", "out"]


def test_the_account_says_why(made: tuple[Artifact, Calibration], tmp_path: Path) -> None:
    result = QuantizeOnnx("int8", made[1]).run(made[0], PassContext(tmp_path / "q.onnx"))
    found = coverage(open_artifact(tmp_path / "q.onnx"), result.left_in_float)
    reasons = {one.name: one.reason for one in found.left_float}
    assert reasons["softmax"] == reasons["scores"] == AROUND_ATTENTION
    assert not {"conv", "product", "out", "turned", "head"} & set(reasons)
    whole = QuantizeOnnx("int8", made[1], integer_io=True).run(made[0], PassContext(tmp_path / "whole.onnx"))
    assert "softmax" not in whole.left_in_float
