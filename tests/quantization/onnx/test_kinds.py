"""Kinds of ONNX files that other exporters write: quantized, they still compute what they did.

Random weights, so limits are about arithmetic: int8 keeps 20 dB and more of such small networks, a wrong graph 10 at
most.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.errors import UnsupportedError
from edgekit.quality.coverage import quantized_already
from edgekit.quantization.onnx.prepare import prepared
from edgekit.types import Array, Feed

from ..onnx_files import FLOAT, INT64, decibels, normal, onnx_file, quantized_onnx, run_onnx

pytestmark = pytest.mark.usefixtures("kept_workers")

LEAST = 20.0
SCHEMES = ("int8", "int8-dynamic", "int8-weights", "int4-weights", "fp16")
node = helper.make_node


def feeds(*shape: int, count: int = 32, seed: int = 1, name: str = "x") -> list[Feed]:
    return [{name: normal(seed + k, *shape)} for k in range(count)]


def judged(path: Path, scheme: str, given: list[Feed], fresh: list[Feed], **options: Any) -> float:
    """Signal to noise of the worst output of the quantized file, on feeds that did not calibrate."""
    made = quantized_onnx(path, scheme, given, **options)
    return min(decibels(run_onnx(path, feed), run_onnx(made, feed)) for feed in fresh)


def test_a_sum_over_a_relu_at_the_end_reads_the_relu(tmp_path: Path) -> None:
    constants = {"w": normal(0, 16, 3, 3, 3, by=0.3), "v": normal(1, 16, 16, 3, 3, by=0.1)}
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node("Relu", ["a"], ["r"]),
        node("Conv", ["r", "v"], ["b"], pads=[1] * 4),
        node("Add", ["b", "r"], ["y"]),
    ]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 3, 8, 8])}, ["y"], constants)
    assert judged(path, "int8", feeds(1, 3, 8, 8), feeds(1, 3, 8, 8, seed=900, count=4)) > LEAST


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_an_activation_that_is_an_output_stays(tmp_path: Path, activation: str) -> None:
    """The quantizer takes it out, because its QuantizeLinear has the same bounds, which are not there any more."""
    bounds = ["low", "high"] if activation == "Clip" else []
    nodes = [node("Gemm", ["x", "w", "b"], ["a"]), node(activation, ["a", *bounds], ["y"])]
    constants = {"w": normal(0, 32, 24), "b": normal(1, 24), "low": np.float32(0), "high": np.float32(6)}
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 32])}, ["y"], constants)
    assert judged(path, "int8", feeds(1, 32), feeds(1, 32, seed=900, count=4)) > LEAST


@pytest.mark.parametrize("scheme", SCHEMES)
def test_names_like_those_that_quantizers_make(tmp_path: Path, scheme: str) -> None:
    """A constant, an input, an inner tensor and an output that are called like scales, integers or casts of others."""
    nodes = [
        node("MatMul", ["x", "w"], ["x_quantized"]),
        node("Mul", ["x_quantized", "w_scale"], ["x_quantized_scale"]),
        node("Mul", ["x_quantized_scale", "x_scale"], ["w_int8"]),
        node("MatMul", ["w_int8", "w_cast"], ["w_int8_zero_point"]),
        node("Add", ["w_int8_zero_point", "w_quantized"], ["w_half"]),
    ]
    shapes = {"w": (64, 64), "w_scale": (64,), "w_cast": (64, 64), "w_quantized": (64,)}
    constants = {name: normal(k, *shape, by=0.2) for k, (name, shape) in enumerate(shapes.items())}
    inputs = {"x": (FLOAT, [1, 64]), "x_scale": (FLOAT, [1, 1])}
    path = onnx_file(tmp_path / "m.onnx", nodes, inputs, ["w_half"], constants)
    given = [{"x": normal(k, 1, 64), "x_scale": normal(k, 1, 1, by=0.1) + 1} for k in range(40)]
    least = 12.0 if scheme == "int4-weights" else LEAST
    assert judged(path, scheme, given[8:], given[:8]) > least
    assert [v.name for v in onnx.load(str(path)).graph.output] == ["w_half"]


def test_four_bits_are_held_under_names_of_their_own(tmp_path: Path) -> None:
    constants = {"w": normal(0, 64, 64), "w_int4": normal(1, 64), "t": normal(2, 40, 64), "t_table4": normal(3, 64)}
    nodes = [
        node("Gather", ["t", "x"], ["e"]),
        node("Add", ["e", "t_table4"], ["f"]),
        node("MatMul", ["f", "w"], ["g"]),
        node("Mul", ["g", "w_int4"], ["y"]),
    ]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (INT64, [1, 4])}, ["y"], constants)
    feed = {"x": np.array([[3, 39, 0, 7]])}
    assert decibels(run_onnx(path, feed), run_onnx(quantized_onnx(path, "int4-weights", []), feed)) > 12


def constant(name: str, value: Array) -> Any:
    return node("Constant", [], [name], value=numpy_helper.from_array(value))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_that_are_constant_nodes(tmp_path: Path, scheme: str) -> None:
    """Constants, one behind an Identity and one behind a Transpose, as the legacy exporter of torch has them."""
    nodes = [
        constant("w", normal(0, 48, 64, by=0.2)),
        node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        node("MatMul", ["x", "turned"], ["a"]),
        constant("v", normal(1, 48, 64, by=0.2)),
        node("Identity", ["v"], ["same"]),
        node("MatMul", ["a", "same"], ["b"]),
        node("MatMul", ["b", "turned"], ["y"]),
    ]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 64])}, ["y"], {})
    least = 12.0 if scheme == "int4-weights" else LEAST
    assert judged(path, scheme, feeds(1, 64), feeds(1, 64, seed=900, count=4)) > least
    made = quantized_onnx(path, scheme, feeds(1, 64))
    share = 0.6 if scheme == "fp16" else 0.4
    assert made.stat().st_size < share * path.stat().st_size  # those inside the branches, too


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_of_branches(tmp_path: Path, scheme: str) -> None:
    """Weights inside a branch, weights outside that a branch reads, and names that both branches have."""

    def branch(name: str, kind: str, weight: str) -> Any:
        inner = [numpy_helper.from_array(normal(5, 64, 64, by=0.2), "own")]
        nodes = [node("MatMul", ["r", "own"], ["t"]), node("MatMul", ["t", weight], ["s"]), node(kind, ["s"], [name])]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, FLOAT, [1, 64])], inner)

    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Relu", ["m"], ["r"]),
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["c"]),
        node("If", ["c"], ["i"], then_branch=branch("a", "Sigmoid", "w"), else_branch=branch("b", "Tanh", "u")),
        node("MatMul", ["i", "v"], ["y"]),
    ]
    constants: dict[str, Any] = {name: normal(k, 64, 64, by=0.2) for k, name in enumerate("wuv")}
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 64])}, ["y"], {**constants, "zero": np.float32(0)})
    least = 12.0 if scheme == "int4-weights" else LEAST
    assert judged(path, scheme, feeds(1, 64), feeds(1, 64, seed=900, count=8)) > least
    made = quantized_onnx(path, scheme, feeds(1, 64))
    share = 0.6 if scheme == "fp16" else 0.4
    assert made.stat().st_size < share * path.stat().st_size  # those inside the branches, too


def test_a_domain_that_only_a_branch_uses(tmp_path: Path) -> None:
    """Folding batch norms forgot it, and the model was not valid any more."""

    def branch(name: str, kind: str, domain: str) -> Any:
        made = node(kind, ["n"], [name], domain=domain)
        return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, FLOAT, [1, 8, 6, 6])])

    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("BatchNormalization", ["a", "s", "s", "s", "s"], ["n"]),
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branch("g", "Gelu", "com.microsoft"), else_branch=branch("r", "Relu", "")),
    ]
    constants = {"w": normal(0, 8, 3, 3, 3), "s": np.abs(normal(1, 8)) + 1, "zero": np.float32(0)}
    inputs = {"x": (FLOAT, [1, 3, 8, 8])}
    path = onnx_file(tmp_path / "m.onnx", nodes, inputs, ["y"], constants, domains=["com.microsoft"])
    assert judged(path, "int8", feeds(1, 3, 8, 8), feeds(1, 3, 8, 8, seed=900, count=4)) > LEAST


def test_a_mean_of_integers_is_not_a_pooling(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Cast", ["a"], ["i"], to=INT64),
        node("ReduceMean", ["i"], ["m"], axes=[2, 3], keepdims=1),
        node("Cast", ["m"], ["y"], to=FLOAT),
    ]
    path = onnx_file(
        tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 3, 8, 8])}, ["y"], {"w": normal(0, 8, 3, 3, 3, by=9)}
    )
    assert "GlobalAveragePool" not in [one.op_type for one in prepared(path).graph.node]
    made = quantized_onnx(path, "int8-weights", [])
    feed = feeds(1, 3, 8, 8, count=1)[0]
    assert np.abs(run_onnx(path, feed)[0] - run_onnx(made, feed)[0]).max() <= 2  # whole numbers, cut off after each sum


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_table_that_is_the_last_product_too(tmp_path: Path, scheme: str) -> None:
    """Rows are looked up in it, columns are multiplied: in int8 each use has scales of its own."""
    constants = {"table": normal(0, 96, 64, by=0.3), "w": normal(1, 64, 64, by=0.2), "b": normal(2, 96)}
    nodes = [
        node("Gather", ["table", "x"], ["e"]),
        node("MatMul", ["e", "w"], ["h"]),
        node("Gemm", ["h", "table", "b"], ["y"], transB=1),
    ]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (INT64, [8])}, ["y"], constants)
    rng = np.random.default_rng(0)
    given = [{"x": rng.integers(0, 96, 8)} for _ in range(40)]
    least = 12.0 if scheme == "int4-weights" else LEAST
    assert judged(path, scheme, given[8:], given[:8]) > least
    if scheme == "int8":
        made = onnx.load(str(quantized_onnx(path, scheme, given[8:]))).graph
        maker = {name: one.op_type for one in made.node for name in one.output}
        (lookup,) = (one for one in made.node if one.op_type == "Gather")
        assert maker.get(lookup.input[0]) != "DequantizeLinear"  # which onnxruntime would run at every inference


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_table_with_infinity_stays_in_float(tmp_path: Path, scheme: str) -> None:
    table = normal(0, 32, 32)
    table[3, 5] = -np.inf
    nodes = [node("Gather", ["table", "x"], ["e"]), node("Softmax", ["e"], ["s"]), node("MatMul", ["s", "w"], ["y"])]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (INT64, [4])}, ["y"], {"table": table, "w": normal(1, 32, 32)})
    given = [{"x": np.arange(k, k + 4)} for k in range(24)]
    assert judged(path, scheme, given, given[:4]) > (12.0 if scheme == "int4-weights" else LEAST)


def test_a_mask_of_infinity_stays_in_float(tmp_path: Path) -> None:
    """Outside of attention, too: a product with weights, a mask on its result, a softmax."""
    mask = np.where(np.arange(16) % 3 == 0, -np.inf, 0).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "mask"], ["m"], name="masks"),
        node("Softmax", ["m"], ["s"]),
        node("MatMul", ["s", "v"], ["y"]),
    ]
    constants = {"w": normal(0, 16, 16), "mask": mask, "v": normal(1, 16, 16)}
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 16])}, ["y"], constants)
    assert judged(path, "int8", feeds(1, 16), feeds(1, 16, seed=900, count=4)) > LEAST


def test_scores_beside_boxes_keep_their_digits(tmp_path: Path) -> None:
    """One output, columns 0 to 640 beside columns 0 to 1: joined in float, each part with a scale of its own."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["a"]),
        node("Sigmoid", ["a"], ["boxes"]),
        node("Mul", ["boxes", "size"], ["pixels"]),
        node("Gemm", ["x", "v", "c"], ["d"]),
        node("Sigmoid", ["d"], ["scores"]),
        node("Concat", ["pixels", "scores"], ["joined"], axis=1, name="join"),
        node("Reshape", ["joined", "shape"], ["y"]),
    ]
    constants: dict[str, Any] = {"w": normal(0, 32, 4), "b": normal(1, 4), "v": normal(2, 32, 10, by=0.3)}
    constants |= {"c": normal(3, 10), "size": np.float32(640), "shape": np.array([14, 1])}
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 32])}, ["y"], constants)
    made = quantized_onnx(path, "int8", feeds(1, 32))
    for feed in feeds(1, 32, seed=900, count=4):
        (wanted,), (found,) = run_onnx(path, feed), run_onnx(made, feed)
        assert decibels([wanted[4:]], [found[4:]]) > LEAST


def test_an_output_that_is_scaled_by_an_input_is_not_cut_off(tmp_path: Path) -> None:
    """A factor beyond those that calibrated scales the output all the same."""
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Mul", ["a", "factor"], ["y"])]
    inputs = {"x": (FLOAT, [1, 32]), "factor": (FLOAT, [1, 1])}
    path = onnx_file(tmp_path / "m.onnx", nodes, inputs, ["y"], {"w": normal(0, 32, 32)})
    given = [{"x": normal(k, 1, 32), "factor": np.full((1, 1), 2, np.float32)} for k in range(32)]
    made = quantized_onnx(path, "int8", given)
    feed = {"x": normal(3, 1, 32), "factor": np.full((1, 1), 9, np.float32)}
    assert decibels(run_onnx(path, feed), run_onnx(made, feed)) > LEAST


def test_half_precision_keeps_what_it_cannot_hold(tmp_path: Path) -> None:
    """One weight of 1e-8 stays in float32 beside one that fits; where none fits the file is refused."""
    constants = {"w": normal(0, 64, 64, by=1e-8), "k": np.float32(1e8), "v": normal(1, 64, 64, by=0.2)}
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Mul", ["a", "k"], ["b"]), node("MatMul", ["b", "v"], ["y"])]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 64])}, ["y"], constants)
    assert judged(path, "fp16", [], feeds(1, 64, count=4)) > 60
    one = onnx_file(
        tmp_path / "one.onnx", [*nodes[:2], node("Relu", ["b"], ["y"])], {"x": (FLOAT, [1, 64])}, ["y"], constants
    )
    with pytest.raises(UnsupportedError, match="half precision is too coarse or too small for w; use int8-weights"):
        quantized_onnx(one, "fp16", [])


@pytest.mark.parametrize("listed", [True, False])
def test_constants_among_the_inputs_as_old_files_have_them(tmp_path: Path, listed: bool) -> None:
    inputs = {"x": (FLOAT, [1, 64]), **({"w": (FLOAT, [64, 64])} if listed else {})}
    path = onnx_file(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], inputs, ["y"], {"w": normal(0, 64, 64)})
    assert judged(path, "int8", feeds(1, 64), feeds(1, 64, seed=900, count=4)) > LEAST
    kinds = Counter(one.op_type for one in onnx.load(str(quantized_onnx(path, "int8", feeds(1, 64)))).graph.node)
    assert kinds["DequantizeLinear"] + kinds["MatMulIntegerToFloat"] > 0


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "fp16"])
def test_weights_of_half_precision_are_those_of_a_float_file(tmp_path: Path, scheme: str) -> None:
    """Behind a Cast, as converters write files for storage; one that computes in half precision is refused."""
    weights = {name: normal(k, 64, 64, by=0.125).astype(np.float16) for k, name in enumerate("vw")}
    widening = [node("Cast", [name], [f"{name}32"], to=FLOAT) for name in weights]
    nodes = [
        *widening,
        node("MatMul", ["x", "v32"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "w32"], ["y"]),
    ]
    path = onnx_file(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 64])}, ["y"], weights)
    assert quantized_already(open_artifact(path)) == ""
    least = 12.0 if scheme == "int4-weights" else LEAST
    assert judged(path, scheme, feeds(1, 64), feeds(1, 64, seed=900, count=4)) > least
    assert quantized_onnx(path, scheme, feeds(1, 64)).stat().st_size < 0.75 * path.stat().st_size
    halves = [node("MatMul", ["x", "v"], ["y"])]
    computing = onnx_file(
        tmp_path / "h.onnx", halves, {"x": (TensorProto.FLOAT16, [1, 64])}, ["y"], {"v": weights["v"]}
    )
    assert quantized_already(open_artifact(computing)) == "its weights are float16"
