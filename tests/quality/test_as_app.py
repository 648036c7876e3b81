"""A file as an app runs it: what only a later call, a zero or the end of a range shows is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.errors import DeviceError, QualityError, UnreachableError, WorkerCrashError
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.quality.as_app import keeps_state, refusing, run_as_app
from edgekit.quality.fidelity import MOST_DB, Fidelity
from edgekit.types import Artifact

SHAPE = [1, 4]


def _onnx(path: Path, *nodes: onnx.NodeProto, **constants: np.ndarray) -> Artifact:
    """``x`` -> ``y`` by some nodes."""
    sides = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)] for name in ("x", "y")]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", *sides, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return open_artifact(path)


def _tflite(path: Path, build: Callable[[Graph, int], int], shape: list[int]) -> Artifact:
    """``x`` -> what ``build`` makes of it."""
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [], [schema.BufferT()]
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    editor = Editor(bytes(builder.Output()))
    _, graph = editor.graph("main")
    x = graph.tensor("x", shape)
    graph.raw.inputs, graph.raw.outputs = [x], [build(graph, x)]
    path.write_bytes(editor.content())
    return open_artifact(path)


def _dense(graph: Graph, x: int) -> int:
    weights = graph.constant("w", np.full((3, 4), 0.5))
    y = graph.made("FULLY_CONNECTED", [x, weights], "y", [1, 5, 3])
    graph.raw.operators[-1].builtinOptions.keepNumDims = True
    return y


def _remembering(graph: Graph, x: int) -> int:
    """A plain RNN, whose state nobody puts back."""
    state = graph.tensor("h", [1, 3], variable=True)
    weights = [graph.constant("w", np.full((3, 4), 0.5)), graph.constant("r", np.full((3, 3), 0.3))]
    y = graph.tensor("y", [1, 5, 3])
    operands = [x, *weights, graph.constant("b", np.zeros(3)), state]
    graph.operator("UNIDIRECTIONAL_SEQUENCE_RNN", operands, [y], fusedActivationFunction=4)
    return y


def _run(parent: Artifact, made: Artifact, shape: tuple[int, ...] = (1, 4)) -> Fidelity:
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.uniform(0.5, 1, shape).astype(np.float32)} for _ in range(5)]
    return run_as_app(parent, made, feeds, {}, "five samples").fidelity


@pytest.fixture
def parent(tmp_path: Path) -> Artifact:
    return _onnx(tmp_path / "parent.onnx", helper.make_node("Mul", ["x", "k"], ["y"]), k=np.float32(2))


def test_what_is_right_passes(parent: Artifact) -> None:
    found = _run(parent, parent)
    assert (found.samples, found.data, found.least_db) == (5, "five samples", MOST_DB)


def test_what_only_zeros_break_is_refused(parent: Artifact, tmp_path: Path) -> None:
    """2 x² / x: right on every sample, NaN at zero."""
    nodes = (
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Mul", ["a", "x"], ["b"]),
        helper.make_node("Div", ["b", "x"], ["y"]),
    )
    made = _onnx(tmp_path / "made.onnx", *nodes, k=np.float32(2))
    with pytest.raises(
        QualityError, match=r"NaN or infinity in output 'y' on the case 'zeros'.*--keep-float"
    ) as caught:
        _run(parent, made)
    assert caught.value.exit_code == 1


def test_what_the_parent_does_not_take_either_is_not_a_fault(tmp_path: Path) -> None:
    """The parent divides by its input, too."""
    parent = _onnx(tmp_path / "parent.onnx", helper.make_node("Div", ["k", "x"], ["y"]), k=np.float32(2))
    assert _run(parent, parent).least_db == MOST_DB


def test_a_file_that_dies_is_refused_and_the_program_lives(tmp_path: Path) -> None:
    """An integer DIV by a divisor that rounds to zero, as TFLite's kernel has it."""

    def divide(graph: Graph, x: int) -> int:
        return graph.made("DIV", [x, graph.constant("k", np.full(SHAPE, 0.5))], "y", SHAPE)

    def integers(graph: Graph, x: int) -> int:
        def made(name: str, step: float) -> int:
            number = graph.tensor(name, SHAPE, "int8")
            how = schema.QuantizationParametersT()
            how.scale, how.zeroPoint = np.array([step], np.float32), np.array([0], np.int64)
            graph.raw.tensors[number].quantization = how
            return number

        divisor, taken, result, y = made("k", 1.5), made("x8", 0.01), made("y8", 0.1), graph.tensor("y", SHAPE)
        graph.raw.tensors[divisor].buffer = graph.editor.buffer(np.zeros(SHAPE, np.int8))
        graph.operator("QUANTIZE", [x], [taken])
        graph.operator("DIV", [taken, divisor], [result], version=2)
        graph.operator("DEQUANTIZE", [result], [y], version=2)
        return y

    parent = _tflite(tmp_path / "parent.tflite", divide, SHAPE)
    made = _tflite(tmp_path / "made.tflite", integers, SHAPE)
    with pytest.raises(QualityError, match="the compressed file does not run") as caught:
        _run(parent, made)
    assert caught.value.exit_code == 1


def test_a_state_that_is_left_behind_is_refused(tmp_path: Path) -> None:
    parent = _tflite(tmp_path / "parent.tflite", _dense, [1, 5, 4])
    made = _tflite(tmp_path / "made.tflite", _remembering, [1, 5, 4])
    with pytest.raises(QualityError, match="it keeps state between calls, its parent does not"):
        _run(parent, made, (1, 5, 4))


def test_a_file_whose_parent_keeps_state_is_reset_as_that_is(tmp_path: Path) -> None:
    parent = _tflite(tmp_path / "parent.tflite", _remembering, [1, 5, 4])
    assert keeps_state(parent, {"x": np.ones((1, 5, 4), np.float32)})
    assert _run(parent, parent, (1, 5, 4)).least_db == MOST_DB


def test_what_is_a_refusal_and_what_is_not() -> None:
    for error in (WorkerCrashError("died"), DeviceError("failed while running")):
        with pytest.raises(QualityError, match="Nothing was published"), refusing("the file"):
            raise error
    with pytest.raises(UnreachableError), refusing("the file"):
        raise UnreachableError("gone")
