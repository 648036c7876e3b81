"""ONNX files of others as ONNX files: operator sets, sizes, onnxslim; each proved against the file it is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.converters import onnx_to_onnx
from edgekit.converters.newer_opset import opset_of
from edgekit.errors import ParityError, UnsupportedError, UsageError
from edgekit.source import resolve
from edgekit.source.foreign import require_torch

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def upsample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Opset 9: Upsample between two convolutions, of asymmetric coordinates; a free batch; an Identity too many."""
    rng, node = np.random.default_rng(0), helper.make_node
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(size=(2, 4, 3, 3)).astype(np.float32),
        "s": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Identity", ["a"], ["b"]),
        node("Upsample", ["b", "s"], ["u"], mode="linear"),
        node("Conv", ["u", "v"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value("y", TensorProto.FLOAT, ["n", 2, 10, 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("onnx") / "up.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4), path)
    return path


def outputs(path: Path, feed: Any) -> Any:
    return onnxruntime.InferenceSession(path).run(None, {"x": feed})[0]


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_another_opset_computes_the_same(upsample: Path, opset: int, tmp_path: Path) -> None:
    (made,) = edgekit.export(upsample, to="onnx", opset=opset, out=tmp_path).artifacts
    assert opset_of(onnx.load(made.path)) == opset
    assert {"batch" if case.kind.startswith("n=") else case.kind for case in made.parity.cases} >= {"random", "batch"}
    feed = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(outputs(made.path, feed), outputs(upsample, feed), atol=1e-5)  # the same kernels
    card = made.artifact.card
    assert card is not None and card.steps[-1].params["opset"] == opset


def test_sizes_are_fixed_and_the_graph_is_simpler(upsample: Path, tmp_path: Path) -> None:
    (made,) = edgekit.export(upsample, to="onnx", opset=17, shape=["n=2"], optimize=True, out=tmp_path).artifacts
    model = onnx.load(made.path)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 8, 8]
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [2, 2, 10, 10]
    assert "Identity" not in {node.op_type for node in model.graph.node}
    feed = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(outputs(made.path, feed), outputs(upsample, feed), atol=1e-5)  # the same kernels


def test_another_weight_is_refused_with_the_first_operator(
    upsample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(model: Any, opset: int, file: Path) -> Any:
        for tensor in model.graph.initializer:
            if tensor.name == "v":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.5, "v"))
        return model

    monkeypatch.setattr(onnx_to_onnx, "_in_opset", changed)
    with pytest.raises(ParityError, match=r"First to differ: the operator Conv that writes 'y'"):
        edgekit.export(upsample, to="onnx", opset=17, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_of_a_foreign_file_becomes_its_card(upsample: Path, tmp_path: Path) -> None:
    (made,) = edgekit.export(upsample, to="onnx", mean=[0.5], std=[0.25], task="segmentation", out=tmp_path).artifacts
    card = made.artifact.card
    assert card is not None and card.task.kind == "segmentation"
    assert card.contract["x"].mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up.tflite", "--to", "onnx"], "TFLite is not offered as a source of export"),
        (["up.onnx", "--to", "pt2"], "writes as tflite or onnx; it cannot be converted to pt2"),
        (["up.onnx", "--to", "onnx", "--weights", "w.pt"], "--weights is for a network in torch"),
        (["up.onnx", "--to", "onnx", "--streaming"], "--streaming is for a network in torch"),
        (["mlp", "--to", "onnx", "--optimize"], "--optimize simplifies an ONNX file, and mlp is not one"),
        (["up.onnx", "--to", "onnx", "--shape", "m=3"], "no input or free dimension is called so"),
    ],
)
def test_nonsense_is_wrong_usage(
    arguments: list[str], said: str, upsample: Path, tmp_path: Path, edgekit_here: Callable[..., Any]
) -> None:
    (tmp_path / "up.onnx").write_bytes(upsample.read_bytes())
    ended = edgekit_here("export", *arguments, "-o", "out")
    assert ended.code == 2 and said in ended.err
    assert not (tmp_path / "out").exists()


def test_the_source_is_not_written_over(upsample: Path, tmp_path: Path) -> None:
    (tmp_path / "up.onnx").write_bytes(upsample.read_bytes())
    with pytest.raises(UsageError, match="is the file that is exported"):
        edgekit.export(tmp_path / "up.onnx", to="onnx", opset=17, out=tmp_path)
    assert (tmp_path / "up.onnx").read_bytes() == upsample.read_bytes()


def test_free_axes_are_those_of_the_file(upsample: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="--dynamic cannot be honoured for an ONNX file"):
        edgekit.export(upsample, to="onnx", dynamic=["x:0=batch"], out=tmp_path)


def test_it_cannot_be_trained_or_pruned(upsample: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"is an ONNX file: .* but not prune it"):
        require_torch(resolve(upsample), "prune")
