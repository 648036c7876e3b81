"""4-bit weights of ONNX files: packed as onnxruntime packs them, computed as they stand, and accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi._pybind_state import quantize_matmul_4bits

from edgekit.artifact import open_artifact
from edgekit.passes import PassContext
from edgekit.quality.coverage import coverage
from edgekit.quantization.onnx.contrib import BLOCK, packed, symmetric_int4
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.runtime import load
from edgekit.types import Array, Artifact

pytestmark = pytest.mark.usefixtures("kept_workers")

RNG = np.random.default_rng(0)
WIDTH, HIDDEN, WORDS = 48, 80, 50  # 48 and 80 are not multiples of the block


def test_by_hand() -> None:
    rows = np.zeros((1, BLOCK), np.float32)
    rows[0, :4] = [-4.0, 2.0, 0.26, 0.24]  # the largest magnitude is -8 steps of 0.5
    integers, scale = symmetric_int4(rows)
    assert scale.tolist() == [[0.5]]
    assert integers[0, 0, :5].tolist() == [-8, 4, 1, 0, 0]
    assert packed(integers)[0, 0, :2].tolist() == [0x48, 0x01]


@pytest.mark.parametrize("inner", [32, 96, 100])
def test_it_is_what_onnxruntime_makes(inner: int) -> None:
    weight, blocks = RNG.normal(size=(inner, 7)).astype(np.float32), -(-inner // BLOCK)
    content, scales = np.zeros((7, blocks, BLOCK // 2), np.uint8), np.zeros(7 * blocks, np.float32)
    quantize_matmul_4bits(content, weight, scales, np.zeros((7 * blocks + 1) // 2, np.uint8), BLOCK, 7, inner, True)
    integers, scale = symmetric_int4(weight.T)
    assert scale.reshape(-1) == pytest.approx(scales, rel=1e-6)
    own, given = (part.reshape(7, -1)[:, : inner // 2].astype(int) for part in (packed(integers + 8), content))
    apart = own - given  # what fills a row up meets nothing, and is not the same
    assert np.count_nonzero(apart) <= 0.01 * apart.size  # a weight halfway between two steps may go either way


def network(path: Path) -> Artifact:
    """Words -> a table, a product, two Gemms with biases, whose weights lie either way."""
    constants = {
        "table": RNG.normal(size=(WORDS, WIDTH)),
        "w": RNG.normal(size=(WIDTH, HIDDEN)) / WIDTH**0.5,
        "up": RNG.normal(size=(HIDDEN, WIDTH)) / HIDDEN**0.5,
        "down": RNG.normal(size=(64, WIDTH)) / WIDTH**0.5,
        "b": RNG.normal(size=WIDTH),
        "c": RNG.normal(size=64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "words"], ["e"], name="embed"),
        helper.make_node("MatMul", ["e", "w"], ["h"], name="product"),
        helper.make_node("Gemm", ["h", "up", "b"], ["u"], name="plain"),
        helper.make_node("Relu", ["u"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "down", "c"], ["y"], name="turned", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("words", TensorProto.INT64, [16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 64])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return open_artifact(path)


def rounded(values: Array) -> Array:
    """What the 4-bit rows stand for."""
    integers, scale = symmetric_int4(values)
    return np.asarray((integers * scale[:, :, None]).reshape(len(values), -1)[:, : values.shape[1]])


def computed(path: Path, words: Array) -> Array:
    with load(path) as runner:
        return np.asarray(runner.run({"words": words})["y"])


def test_the_file_computes_what_its_weights_say(tmp_path: Path) -> None:
    artifact, words = network(tmp_path / "m.onnx"), RNG.integers(0, WORDS, 16)
    made = QuantizeOnnx("int4-weights").run(artifact, PassContext(tmp_path / "q.onnx")).model
    assert isinstance(made, Artifact)
    held = {one.name: numpy_helper.to_array(one) for one in onnx.load(str(artifact.path)).graph.initializer}
    hidden = rounded(held["table"])[words] @ rounded(held["w"].T).T
    wanted = np.maximum(hidden @ rounded(held["up"].T).T + held["b"], 0) @ rounded(held["down"]).T + held["c"]
    found = computed(made.path, words)
    # inputs of the three products are rounded to 8 bits, a scale for each block: 0.4% of a value at most, each time
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    assert np.abs(found - computed(artifact.path, words)).max() > 0.02 * np.abs(wanted).max()  # 4 bits are seen
    assert made.path.stat().st_size < 0.3 * artifact.path.stat().st_size
    counted = coverage(made)
    assert counted.weight_bytes_integer_share > 0.9
    assert counted.integer_macs_share == 1.0
    reasons = {one.operator: one.reason for one in counted.left_float}
    assert "rows that are read are turned into float" in reasons["GatherBlockQuantized"]
    assert "MatMulNBits" not in reasons
    step = QuantizeOnnx("int4-weights").describe(artifact)
    assert step.params["granularity"] == "blocks of 32"


def test_a_mutated_scale_is_seen(tmp_path: Path) -> None:
    artifact, words = network(tmp_path / "m.onnx"), RNG.integers(0, WORDS, 16)
    QuantizeOnnx("int4-weights").run(artifact, PassContext(tmp_path / "q.onnx"))
    good, model = computed(tmp_path / "q.onnx", words), onnx.load(str(tmp_path / "q.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale"):
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, str(tmp_path / "bad.onnx"))
    assert np.abs(computed(tmp_path / "bad.onnx", words) - good).max() > 0.5 * np.abs(good).max()


def kinds(path: Path) -> dict[str, str]:
    nodes: Any = onnx.load(str(path)).graph.node
    return {node.name: node.op_type for node in nodes}


def test_layers_that_are_kept(tmp_path: Path) -> None:
    artifact = network(tmp_path / "m.onnx")
    keep = frozenset(("embed", "plain"))
    QuantizeOnnx("int4-weights", keep_float=keep).run(artifact, PassContext(tmp_path / "q.onnx"))
    found = kinds(tmp_path / "q.onnx")
    assert (found["embed"], found["plain"]) == ("Gather", "Gemm")
    assert (found["product"], found["turned"]) == ("MatMulNBits", "MatMulNBits")
    held = {one.name for one in onnx.load(str(tmp_path / "q.onnx")).graph.initializer}
    assert {"table", "up"} <= held


def test_what_has_no_operator_of_4_bits(tmp_path: Path) -> None:
    """A scaled Gemm, a table read by columns, and a product with computed weights; the note of a file with nothing."""
    artifact = network(tmp_path / "m.onnx")
    model = onnx.load(str(artifact.path))
    nodes = {node.name: node for node in model.graph.node}
    for name in ("plain", "turned"):
        nodes[name].attribute.append(helper.make_attribute("alpha", 0.5))
    nodes["product"].input[1] = "w_abs"
    model.graph.node.insert(0, helper.make_node("Abs", ["w"], ["w_abs"], name="abs"))
    nodes["embed"].input[0] = "table_abs"
    model.graph.node.insert(0, helper.make_node("Abs", ["table"], ["table_abs"], name="abs2"))
    onnx.save(model, str(tmp_path / "odd.onnx"))
    made = QuantizeOnnx("int4-weights").run(open_artifact(tmp_path / "odd.onnx"), PassContext(tmp_path / "q.onnx"))
    assert not {"MatMulNBits", "GatherBlockQuantized"} & set(kinds(tmp_path / "q.onnx").values())
    assert made.notes == (
        "onnxruntime has 4-bit matrix products and tables only, and this file has none: its weights are int8",
    )
