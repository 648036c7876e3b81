"""Sums of pairs in 16 bits: the simulation against a loop, and 7-bit weights where a layer clips and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.passes import PassContext
from edgekit.pipeline.quantize.make import reduce_range_where_saturating
from edgekit.quality.contents import file_signature
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.onnx.saturation import clipping, pair_sums, saturates
from edgekit.quantization.prepared import prepare
from edgekit.types import Array, Artifact, Feed, Format

pytestmark = pytest.mark.usefixtures("kept_workers")

RNG = np.random.default_rng(0)


def in_a_loop(rows: Array, columns: Array) -> Array:
    """VPMADDUBSW, then additions in 32 bits, one number at a time."""
    result = np.zeros((len(rows), columns.shape[1]), np.int64)
    for i in range(len(rows)):
        for j in range(columns.shape[1]):
            for k in range(0, len(columns), 2):
                pair = sum(int(rows[i, p]) * int(columns[p, j]) for p in range(k, min(k + 2, len(columns))))
                result[i, j] += max(-32768, min(32767, pair))
    return result


@pytest.mark.parametrize("depth", [1, 2, 9, 16])
def test_pairs_against_a_loop(depth: int) -> None:
    rows = RNG.integers(100, 256, (5, depth)).astype(np.uint8)
    columns = RNG.integers(-128, 128, (depth, 7)).astype(np.int8)
    clipped, exact, count = pair_sums(rows, columns)
    assert (clipped == in_a_loop(rows, columns)).all()
    assert (exact == rows.astype(int) @ columns.astype(int)).all()
    assert (count > 0).sum() >= (clipped != exact).sum()
    assert depth == 1 or (clipped != exact).any()


def test_what_onnxruntime_gave_on_a_haswell() -> None:
    """MatMulInteger of 255 and 127, 64 deep, onnxruntime 1.31 under QEMU 7.2's Haswell; 2,072,640 on VNNI."""
    clipped, exact, _ = pair_sums(np.full((1, 64), 255, np.uint8), np.full((64, 1), 127, np.int8))
    assert (clipped.item(), exact.item()) == (1_048_544, 2_072_640)


def test_seven_bits_cannot_clip() -> None:
    rows, columns = np.full((1, 64), 255, np.uint8), RNG.choice([-64, 63], (64, 8)).astype(np.int8)
    assert (pair_sums(rows, columns)[0] == pair_sums(rows, columns)[1]).all()


@pytest.mark.parametrize(
    ("isa", "wanted"),
    [
        (["sse4_2", "avx", "avx2", "fma"], True),
        (["avx2", "avx512f", "avx512bw"], True),
        (["avx2", "avx_vnni"], False),
        (["avx2", "avx512f", "avx512_vnni"], False),
        (["neon", "asimd"], False),
        ([], False),
    ],
)
def test_which_cpus(isa: list[str], wanted: bool) -> None:
    assert saturates(isa) is wanted


@pytest.fixture
def network(tmp_path: Path) -> Artifact:
    """``loud``: weights of one sign on large inputs, which clip; then ``calm``: one large weight among small ones."""
    calm = RNG.normal(0, 0.01, (4, 8, 1, 1)).astype(np.float32)
    calm[:, 3] = 1.0
    weights = {"loud.weight": RNG.uniform(0.9, 1, (8, 6, 3, 3)).astype(np.float32), "calm.weight": calm}
    nodes = [
        helper.make_node("Conv", ["x", "loud.weight"], ["a"], name="loud", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "calm.weight"], ["y"], name="calm", kernel_shape=[1, 1]),
    ]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 6, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4, 8, 8])]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "float.onnx")
    return Artifact(tmp_path / "float.onnx", Format.ONNX)


@pytest.fixture
def given() -> list[Feed]:
    return [{"x": RNG.uniform(0.7, 1, (1, 6, 8, 8)).astype(np.float32)} for _ in range(4)]


def weights_of(path: Path) -> dict[str, Array]:
    tensors = onnx.load(path).graph.initializer
    return {t.name.partition(".")[0]: numpy_helper.to_array(t) for t in tensors if t.name.endswith("weight_quantized")}


def test_a_layer_that_clips_gets_seven_bits_and_no_other(network: Artifact, given: list[Feed], tmp_path: Path) -> None:
    ranges = calibrate(network.path, given, file_signature(network), format=Format.ONNX)
    quantizer, target = QuantizeOnnx("int8", ranges), tmp_path / "q.onnx"
    made = quantizer.run(network, PassContext(target))
    found = clipping(target, given)
    assert [one.layer for one in found] == ["loud"]
    assert found[0].outputs == 1.0
    assert found[0].error > 0.2  # 255 * 127 twice is cut from 64,770 to 32,767; borders have fewer places
    before = target.read_bytes()

    same, _, notes = reduce_range_where_saturating(quantizer, prepare(network), made, given, ["avx2", "avx512_vnni"])
    assert target.read_bytes() == before
    assert (same.reduce_range, notes) == (False, ())

    fitting, _, notes = reduce_range_where_saturating(quantizer, prepare(network), made, given, ["avx2"])
    assert fitting.describe(network).params["reduce_range"] == ["loud.weight"]
    assert "7-bit weights" in notes[0] and "loud (100.00% of its outputs" in notes[0]
    held = weights_of(target)
    assert np.abs(held["loud"]).max() <= 64
    assert np.abs(held["calm"]).max() == 127
    assert clipping(target, given) == ()


def test_a_file_with_integer_inputs(network: Artifact, given: list[Feed], tmp_path: Path) -> None:
    ranges = calibrate(network.path, given, file_signature(network), format=Format.ONNX)
    QuantizeOnnx("int8", ranges).run(network, PassContext(tmp_path / "real.onnx"))
    QuantizeOnnx("int8", ranges, integer_io=True).run(network, PassContext(tmp_path / "whole.onnx"))
    assert clipping(tmp_path / "whole.onnx", given) == clipping(tmp_path / "real.onnx", given) != ()
