"""The comparison operator by operator: it passes what the quantizers make, and names what was changed afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.devices import kept_workers, open_runner
from edgekit.errors import ParityError
from edgekit.graph.tflite_editor import Editor
from edgekit.passes import PassContext
from edgekit.quality.arithmetic import Arithmetic, compare
from edgekit.quality.as_app import Call
from edgekit.quality.readings import Pair
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.onnx.quantize import SCHEMES as ONNX_SCHEMES
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.prepared import prepare
from edgekit.quantization.tflite.quantize import SCHEMES as TFLITE_SCHEMES
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.types import Array, Artifact, Feed, Signature, TensorSpec

from ..quantization.tflite_files import dense_file

WIDTH = 32
SIGNATURE = Signature((TensorSpec("x", "float32", (1, WIDTH)),), (TensorSpec("y", "float32", (1, WIDTH)),))


def _weights() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = {"w1": (WIDTH, WIDTH), "b1": (WIDTH,), "w2": (WIDTH, WIDTH), "b2": (WIDTH,), "w3": (WIDTH, WIDTH)}
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def _feeds(count: int = 6) -> list[Feed]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, WIDTH)).astype(np.float32)} for _ in range(count)]


def _onnx_parent(path: Path) -> Artifact:
    """x -> relu(first) = r; second(r) + r = s; last(s) = y."""
    held = [numpy_helper.from_array(value, name) for name, value in _weights().items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], "first", transB=1),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["c"], "second", transB=1),
        helper.make_node("Add", ["c", "r"], ["s"], "sum"),
        helper.make_node("MatMul", ["s", "w3"], ["y"], "last"),
    ]
    sides = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, WIDTH])] for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", *sides, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return open_artifact(path)


def _tflite_parent(path: Path) -> Artifact:
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [], [schema.BufferT()]
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    editor = Editor(bytes(builder.Output()))
    _, graph = editor.graph("main")
    held = {name: graph.constant(name, value) for name, value in _weights().items()}
    x, shape = graph.tensor("x", [1, WIDTH]), [1, WIDTH]
    r = graph.made("FULLY_CONNECTED", [x, held["w1"], held["b1"]], "r", shape, fusedActivationFunction=1)
    c = graph.made("FULLY_CONNECTED", [r, held["w2"], held["b2"]], "c", shape)
    s = graph.made("ADD", [c, r], "s", shape)
    y = graph.made("FULLY_CONNECTED", [s, held["w3"]], "y", shape)
    graph.raw.inputs, graph.raw.outputs = [x], [y]
    path.write_bytes(editor.content())
    return open_artifact(path)


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("parents")
    return {"onnx": _onnx_parent(folder / "p.onnx"), "tflite": _tflite_parent(folder / "p.tflite")}


def _quantized(parent: Artifact, scheme: str, target: Path) -> Path:
    ranges = calibrate(parent.path, _feeds(40), SIGNATURE, format=parent.format)
    kind = QuantizeOnnx if parent.format == "onnx" else QuantizeTflite
    kind(scheme, ranges).run(parent, PassContext(target))
    return target


@pytest.fixture(scope="module")
def int8(parents: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("int8")
    return {name: _quantized(parent, "int8", folder / f"q.{name}") for name, parent in parents.items()}


def _pair(parent: Artifact, made: Path) -> Pair:
    return prepare(parent).pair(made, QuantizeOnnx(), made.parent)  # a pass that rewrites no more than preparing does


def _compared(parent: Artifact, made: Path) -> Arithmetic:
    pair = _pair(parent, made)
    with kept_workers(), open_runner(made) as runner:
        calls = [Call(feed, {}, runner.run(feed)) for feed in _feeds()]
        return compare(pair, calls)


def _onnx_changed(source: Path, target: Path, change: Callable[[Any, dict[str, Any]], None]) -> Path:
    model = onnx.load(str(source))
    change(model, {tensor.name: tensor for tensor in model.graph.initializer})
    onnx.save(model, str(target))
    return target


def _set(tensor: Any, value: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), tensor.name))


@pytest.mark.parametrize(
    ("format_", "scheme"), [*(("onnx", s) for s in ONNX_SCHEMES), *(("tflite", s) for s in TFLITE_SCHEMES)]
)
def test_what_the_quantizers_make_passes(
    parents: dict[str, Artifact], tmp_path: Path, format_: str, scheme: str
) -> None:
    found = _compared(parents[format_], _quantized(parents[format_], scheme, tmp_path / f"q.{format_}"))
    assert [str(one) for one in found.findings] == []
    assert found.samples == 6
    found.require("the file")


def _scale_of_an_activation(model: Any, held: dict[str, Any]) -> None:
    """The kernel takes the bias to have the scale of the input times that of the weights, which it has no more."""
    name = next(n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    _set(held[name], numpy_helper.to_array(held[name]) * np.float32(4))


def _scale_where_it_is_read_only(model: Any, held: dict[str, Any]) -> None:
    """The steps that are written are not those that are read."""
    reads = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0].startswith("r")]
    model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(held[reads[0].input[1]]) * 2, "other"))
    for node in reads:
        node.input[1] = "other"


def _scale_of_weights(model: Any, held: dict[str, Any]) -> None:
    name = next(name for name in held if name.startswith("w2") and "scale" in name)
    _set(held[name], numpy_helper.to_array(held[name]) * np.float32(1.05))


def _a_bias(model: Any, held: dict[str, Any]) -> None:
    name = next(name for name in held if name.startswith("b1") and "quantized" in name and "scale" not in name)
    values = numpy_helper.to_array(held[name]).copy()
    values[5] *= -1
    _set(held[name], values)


def _a_wire(model: Any, held: dict[str, Any]) -> None:
    """The sum reads what stands before the ReLU, which the quantized file does not compute by itself."""
    node = next(n for n in model.graph.node if n.name == "sum")
    quantize = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "r")
    node.input[1] = quantize.input[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_scale_of_an_activation, "the tensor 'relu' as "),
        (_scale_where_it_is_read_only, "the tensor 'relu' as "),
        (_scale_of_weights, "the constant 'w2' is off by"),
        (_a_bias, "the constant 'b1' is off by"),
        (_a_wire, "the tensor 'relu' as "),
    ],
)
def test_a_change_of_an_onnx_file_is_named(
    parents: dict[str, Artifact],
    int8: dict[str, Path],
    tmp_path: Path,
    change: Callable[[Any, dict[str, Any]], None],
    named: str,
) -> None:
    found = _compared(parents["onnx"], _onnx_changed(int8["onnx"], tmp_path / "m.onnx", change))
    assert named in str(found.findings[0])
    with pytest.raises(ParityError, match="does not compute what its own scales and zero points say") as caught:
        found.require("the file")
    assert caught.value.exit_code == 1


def _tflite_changed(source: Path, target: Path, change: Callable[[Any, dict[str, int]], None]) -> Path:
    editor = Editor(source.read_bytes())
    graph = editor.model.subgraphs[0]
    names = {tensor.name.decode(): number for number, tensor in enumerate(graph.tensors)}
    change(graph, names)
    target.write_bytes(editor.content())
    return target


def _reads_another(graph: Any, names: dict[str, int]) -> None:
    """The sum takes what the second product gives twice."""
    node = next(op for op in graph.operators if names["s"] in op.outputs)
    node.inputs = [names["c"], names["c"]]


def _rescaled_weights(graph: Any, names: dict[str, int]) -> None:
    how = graph.tensors[names["w2"]].quantization
    how.scale = np.where(np.arange(len(how.scale)) == 3, how.scale * np.float32(1.05), how.scale)


def _swapped_weights(graph: Any, names: dict[str, int]) -> None:
    """Two tensors that share a name would be read so."""
    graph.tensors[names["w2"]].buffer = graph.tensors[names["w1"]].buffer


def _shifted_bias(graph: Any, names: dict[str, int]) -> None:
    graph.tensors[names["b2"]].buffer = graph.tensors[names["b1"]].buffer


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_reads_another, "the tensor 'r' as s (ADD) reads it is off by"),
        (_rescaled_weights, "the constant 'w2' is off by"),
        (_swapped_weights, "the constant 'w2' is off by"),
        (_shifted_bias, "the constant 'b2' is off by"),
    ],
)
def test_a_change_of_a_tflite_file_is_named(
    parents: dict[str, Artifact],
    int8: dict[str, Path],
    tmp_path: Path,
    change: Callable[[Any, dict[str, int]], None],
    named: str,
) -> None:
    found = _compared(parents["tflite"], _tflite_changed(int8["tflite"], tmp_path / "m.tflite", change))
    with pytest.raises(ParityError) as caught:
        found.require("the file")
    assert named in str(caught.value)


def test_the_runtime_fusing_wrongly_is_seen(parents: dict[str, Artifact], int8: dict[str, Path]) -> None:
    """Outputs of the file as it is that are not those of the file with its inner tensors shown."""
    pair = _pair(parents["onnx"], int8["onnx"])
    with kept_workers(), open_runner(int8["onnx"]) as runner:
        calls = [Call(feed, {}, {name: 1.1 * value for name, value in runner.run(feed).items()}) for feed in _feeds()]
        found = compare(pair, calls)
    assert "the output 'y'" in str(found.findings[0])


def test_rounding_of_one_sign_adds_up(tmp_path: Path) -> None:
    """A constant image: every product has the same error, and they add up in a kernel that quantizes as it runs."""
    wide = 4096
    weights = np.random.default_rng(0).uniform(0.4, 0.6, (8, wide)).astype(np.float32)
    parent, made = open_artifact(dense_file(tmp_path / "p.tflite", weights)), tmp_path / "q.tflite"
    QuantizeTflite("int8-dynamic").run(parent, PassContext(made))
    x = np.full((1, wide), 88.45 / 127, np.float32)  # nearly half a step off, of the scale that the largest value sets
    x[0, 0] = 1.0
    with open_runner(made) as runner:
        found = runner.run({"x": x})
    assert np.abs(found["y"] - x.astype(np.float64) @ weights.T).max() > 1.0  # of some 1,400
    compare(_pair(parent, made), [Call({"x": x}, {}, found)]).require("the file")


def _normalised(path: Path) -> Artifact:
    """ConvNeXt's order: Conv, Transpose, LayerNormalization, Transpose, Conv; x and y are (1, 8, 6, 6)."""
    rng = np.random.default_rng(0)
    held = {
        "w1": rng.normal(0, 0.3, (8, 8, 3, 3)), "w2": rng.normal(0, 0.3, (8, 8, 1, 1)),
        "g": np.ones(8), "b": np.zeros(8),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "depth", pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["c"], ["last"], "there", perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", ["last", "g", "b"], ["n"], "norm", axis=-1),
        helper.make_node("Transpose", ["n"], ["first"], "back", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w2"], ["y"], "point"),
    ]
    sides = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8, 6, 6])] for n in ("x", "y")]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "g", *sides, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return open_artifact(path)


def _pictures(count: int, spread: float = 1.0) -> list[Feed]:
    rng = np.random.default_rng(2)
    return [{"x": rng.normal(0, spread, (1, 8, 6, 6)).astype(np.float32)} for _ in range(count)]


def test_rounding_that_the_runtime_moves_before_a_transpose(tmp_path: Path) -> None:
    """onnxruntime rounds what the normalisation gives before it is transposed; the file says behind, which is the
    same. What is wrong there is still found."""
    parent, made = _normalised(tmp_path / "p.onnx"), tmp_path / "q.onnx"
    shape = (1, 8, 6, 6)
    signature = Signature((TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", shape),))
    ranges = calibrate(parent.path, _pictures(6), signature, format=parent.format)
    QuantizeOnnx("int8", ranges).run(parent, PassContext(made))

    def compared(file: Path) -> Arithmetic:
        with kept_workers(), open_runner(file) as runner:
            calls = [Call(feed, {}, runner.run(feed)) for feed in _pictures(4, 1.5)]
            return compare(_pair(parent, file), calls)

    assert [str(one) for one in compared(made).findings] == []

    def more(model: Any, held: dict[str, Any]) -> None:
        _set(held["g"], 1.2 * numpy_helper.to_array(held["g"]))

    assert compared(_onnx_changed(made, tmp_path / "g.onnx", more)).findings

    def coarser(model: Any, held: dict[str, Any]) -> None:
        node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "first")
        scale = numpy_helper.to_array(held[node.input[1]]) * np.float32(4)
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(scale), "other"))
        node.input[1] = "other"  # what is read keeps its own

    assert compared(_onnx_changed(made, tmp_path / "s.onnx", coarser)).findings
