"""ONNX files of others on their way to TFLite: names, order, layout and sizes, proof, and what is refused."""

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
from edgekit.converters import onnx_to_tflite
from edgekit.converters.onnx_ends import input_name, output_name, prepared
from edgekit.environments import ONNX2TF
from edgekit.errors import ParityError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.graph.onnx_sizes import fixed
from edgekit.results.proof import ExportResult
from edgekit.source import resolve
from edgekit.types import Signature, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def normal(seed: int, *shape: int) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.2).astype(np.float32)


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], opset: int = 17, **weights: Any) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value(*one) for one in inputs],
        [value(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Equal sizes of channels, height and width, a free batch, a table of three rows, an input that nothing reads."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image:0", "w"], ["c"], pads=[1] * 4),
        node("Gather", ["table", "ids"], ["rows"]),
        node("ReduceMean", ["rows"], ["shift"], keepdims=0),
        node("Add", ["c", "shift"], ["map/out"]),
        node("GlobalAveragePool", ["map/out"], ["p"]),
        node("Flatten", ["p"], ["flat"]),
    ]
    inputs = [("ids", INT64, [1, 4]), ("image:0", FLOAT, ["n", 3, 3, 3]), ("unread", FLOAT, [1, 2])]
    outputs = [("flat", FLOAT, ["n", 3]), ("map/out", FLOAT, ["n", 3, 3, 3])]
    path = tmp_path_factory.mktemp("onnx") / "strange.onnx"
    return save(path, nodes, inputs, outputs, w=normal(0, 3, 3, 3, 3), table=normal(1, 3, 5))


@pytest.fixture(scope="module")
def exported(strange: Path, onnx2tf_python: str, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    out = tmp_path_factory.mktemp("out")
    options = {"opset": 18, "mean": [0.5], "layout": "NCHW", "channels_first": True}
    return edgekit.export(strange, to=["tflite", "onnx"], out=out, **options)


def test_names_order_and_layout_are_those_of_the_onnx_file(exported: ExportResult, strange: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    made = exported.artifacts[0]
    interpreter = Interpreter(str(made.path))
    runner = interpreter.get_signature_runner()
    found = {name: tuple(row["shape"]) for name, row in runner.get_input_details().items()}
    assert found == {"ids": (1, 4), "image:0": (1, 3, 3, 3), "unread": (1, 2)}
    feed = {"ids": np.array([[0, 2, 1, 2]]), "image:0": normal(5, 1, 3, 3, 3), "unread": normal(6, 1, 2)}
    wanted = onnxruntime.InferenceSession(strange).run(["flat", "map/out"], feed)
    got = runner(**{name: array.astype(runner.get_input_details()[name]["dtype"]) for name, array in feed.items()})
    assert list(got) == ["flat", "map/out"] or set(got) == {"flat", "map/out"}
    for name, array in zip(("flat", "map/out"), wanted, strict=True):
        np.testing.assert_allclose(got[name], array, atol=1e-5)  # sums of 27 products of float32


def test_it_is_proved_and_says_what_was_fixed(exported: ExportResult) -> None:
    made, other = exported.artifacts
    assert made.parity.passed and {"random", "zeros", "calls"} <= {case.kind for case in made.parity.cases}
    assert any("axis 0 (n) of 'image:0' is free in the ONNX file and 1 in this one" in note for note in made.notes)
    card = made.artifact.card
    assert card is not None
    assert [str(spec) for spec in card.signature.outputs] == ["flat: float32[1, 3]", "map/out: float32[1, 3, 3, 3]"]
    assert card.contract["ids"].params["below"] == 3
    assert card.steps[-1].versions["onnx2tf"]
    assert edgekit.verify(made.path, against=other.path).passed


def test_a_card_goes_along_and_images_turn(exported: ExportResult, tmp_path: Path) -> None:
    old = exported.artifacts[1].artifact
    (made,) = edgekit.export(old.path, to="tflite", task="segmentation", out=tmp_path).artifacts
    card = made.artifact.card
    assert old.card is not None and card is not None
    assert (card.source_sha256, card.config) == (old.card.source_sha256, old.card.config)
    assert [step.name for step in card.steps] == ["export", "export"]
    assert (card.contract["image:0"].layout, card.contract["image:0"].mean) == ("NHWC", (0.5, 0.5, 0.5))
    shapes = [spec.shape for spec in card.signature.outputs]
    assert shapes == [(1, 3), (1, 3, 3, 3)]
    feed = {"ids": np.array([[0, 2, 1, 2]]), "image:0": normal(5, 1, 3, 3, 3), "unread": normal(6, 1, 2)}
    wanted = onnxruntime.InferenceSession(old.path).run(["map/out"], feed)[0]
    turned = {**feed, "ids": feed["ids"].astype(np.int32), "image:0": feed["image:0"].transpose(0, 2, 3, 1)}
    with edgekit.load(made.path) as runner:
        got = runner.run(turned)["map/out"]
    np.testing.assert_allclose(got.transpose(0, 3, 1, 2), wanted, atol=1e-5)  # sums of 27 products of float32


def test_another_weight_is_refused_with_the_first_operator(
    strange: Path, onnx2tf_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*arguments: Any) -> Any:
        model = prepared(*arguments)
        for tensor in model.graph.initializer:
            if tensor.name == "w":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.5, "w"))
        return model

    monkeypatch.setattr(onnx_to_tflite, "prepared", changed)
    with pytest.raises(ParityError, match=r"First to differ: .*CONV_2D"):
        edgekit.export(strange, to="tflite", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_onnx2tf_cannot_take_is_refused(
    onnx2tf_python: str, tmp_path: Path, edgekit_here: Callable[..., Any]
) -> None:
    value, node = helper.make_tensor_value_info, helper.make_node
    branches = [
        helper.make_graph([node(kind, ["m"], [name])], name, [], [value(name, FLOAT, [1, 8])])
        for kind, name in (("Relu", "then"), ("Tanh", "other"))
    ]
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    path = save(
        tmp_path / "if.onnx",
        nodes,
        [("x", FLOAT, [1, 8])],
        [("y", FLOAT, [1, 8])],
        w=normal(0, 8, 8),
        zero=np.float32(0),
    )
    ended = edgekit_here("export", path, "--to", "tflite", "-o", "out")
    assert ended.code in (1, 3), ended.err
    assert "Nothing was published" in ended.err and "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_without_onnx2tf_the_way_to_get_it_is_said(
    strange: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ONNX2TF.variable, str(tmp_path / "nowhere"))
    with pytest.raises(
        RuntimeMissingError, match=f"{ONNX2TF.variable} names .*nowhere.*-m venv .*.venv-onnx2tf && .*onnx2tf=="
    ):
        edgekit.export(strange, to="tflite", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_quantized_file_is_refused(
    strange: Path, tmp_path: Path, onnx2tf_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = helper.make_node
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    shape = [1, 8]
    path = save(
        tmp_path / "q.onnx", nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], s=np.float32(0.1), z=np.uint8(3)
    )
    with pytest.raises(UnsupportedError, match=r"is quantized .*convert the float file it was made from"):
        edgekit.export(path, to="tflite", out=tmp_path / "out")


def test_sizes_that_a_file_needs_are_asked_for(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    shape = ["n", 1, "high", "wide"]
    path = save(
        tmp_path / "c.onnx", nodes, [("x", FLOAT, shape)], [("y", FLOAT, ["n", 2, "a", "b"])], w=normal(0, 2, 1, 3, 3)
    )
    with pytest.raises(UsageError, match=r"does not run with them at 1: .*--shape n=N --shape high=N --shape wide=N"):
        edgekit.export(path, to="tflite", out=tmp_path / "out")
    network = resolve(path)
    assert network.example_inputs["x"].shape == (1, 1, 3, 3)
    network = resolve(path, shapes={"high": (6,), "wide": (8,), "n": (2,)})
    assert network.signature.outputs[0].shape == (2, 2, 4, 6)


def test_the_prepared_graph_has_ends_of_our_own(strange: Path) -> None:
    model = onnx.load(strange)
    signature = Signature(
        (
            TensorSpec("ids", "int64", (1, 4)),
            TensorSpec("image:0", "float32", (1, 3, 3, 3)),
            TensorSpec("unread", "float32", (1, 2)),
        ),
        (TensorSpec("flat", "float32", (1, 3)), TensorSpec("map/out", "float32", (1, 3, 3, 3))),
    )
    made = prepared(model, signature, (False, True, False), (False, False))
    onnx.checker.check_model(made)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    feed = {"ids": np.array([[0, 2, 1, 2]]), "image:0": normal(5, 1, 3, 3, 3), "unread": normal(6, 1, 2)}
    turned = {input_name(k): array for k, array in enumerate(feed.values())}
    turned[input_name(1)] = np.ascontiguousarray(feed["image:0"].transpose(0, 2, 3, 1))
    got = session.run([output_name(0), output_name(1)], turned)
    wanted = onnxruntime.InferenceSession(strange).run(["flat", "map/out"], feed)
    assert got[1].shape == (1, 27)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.ravel(), other.ravel(), atol=1e-6)  # the same kernels
    shape = fixed(model, {"image:0": (3, 3, 3, 3)}).graph.output[1].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [3, 3, 3, 3]
