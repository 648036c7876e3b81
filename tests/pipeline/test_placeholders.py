"""A dimension called ``?`` in an ONNX file is a size that nobody knows, not a symbol: two of them need not be equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.graph.onnx import load_onnx

pytestmark = pytest.mark.usefixtures("kept_workers")


def written(path: Path, rows: str | None) -> Path:
    """y = (a W) (b W)ᵀ, of inputs with any number of rows each."""
    weight = (np.random.default_rng(0).standard_normal((64, 64)) * 0.1).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["p"]),
        helper.make_node("MatMul", ["b", "w"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["p", "t"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, 64]) for name in "ab"]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, rows])
    graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("placeholder", ["?", "-1", "None"])
def test_two_sizes_under_one_placeholder(placeholder: str, tmp_path: Path) -> None:
    model = written(tmp_path / "m.onnx", placeholder)
    shapes = [row["shape"] for row in edgekit.inspect(model).document()["signature"]["inputs"]]
    assert shapes == [["a_0", 64], ["b_0", 64]]
    rng = np.random.default_rng(1)
    feed = {name: rng.standard_normal((size, 64)).astype(np.float32) for name, size in (("a", 7), ("b", 5))}
    with edgekit.load(model) as runner:
        assert runner.run(feed)["y"].shape == (7, 5)
    assert edgekit.verify(model, against=written(tmp_path / "nameless.onnx", None)).document()["passed"]
    assert edgekit.bench([model], seconds=0.05).document()["results"][0]["latency_ms"]["p50"] > 0


def test_what_is_made_of_it_takes_two_sizes(tmp_path: Path) -> None:
    """onnxruntime reuses the memory of one for the other where they have the same name."""
    model = written(tmp_path / "m.onnx", "?")
    rng = np.random.default_rng(1)
    samples = {name: rng.standard_normal((12, size, 64)).astype(np.float32) for name, size in (("a", 7), ("b", 5))}
    np.savez(tmp_path / "samples.npz", **samples)
    edgekit.quantize(
        model, scheme="int8", data=f"npz:{tmp_path / 'samples.npz'}", out=tmp_path / "q.onnx", seconds=None
    )
    made = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"))
    whole = onnxruntime.InferenceSession(str(written(tmp_path / "nameless.onnx", None)))
    for a, b in ((3, 9), (8, 2)):
        feed = {"a": samples["a"][0].repeat(2, 0)[:a], "b": samples["b"][0].repeat(2, 0)[:b]}
        wanted, found = whole.run(None, feed)[0], made.run(None, feed)[0]
        assert found.shape == (a, b)
        assert np.square(wanted - found).sum() < 0.01 * np.square(wanted).sum()  # 20 dB, eight bits give 35


def test_branches_too(tmp_path: Path) -> None:
    inner = helper.make_tensor_value_info("r", TensorProto.FLOAT, ["?"])
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "b", [], [inner])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    values = [("x", TensorProto.FLOAT, ["n"]), ("c", TensorProto.BOOL, []), ("y", TensorProto.FLOAT, ["?"])]
    x, c, y = (helper.make_tensor_value_info(*value) for value in values)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [x, c], [y])), tmp_path / "m.onnx")
    graph = load_onnx(tmp_path / "m.onnx").graph
    kept = [attribute.g.output[0] for attribute in graph.node[0].attribute] + [graph.output[0], graph.input[0]]
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in kept] == ["", "", "", "n"]
