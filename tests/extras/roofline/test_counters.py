"""The same network counts the same in all three formats; loops count as often as they run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.extras.roofline import work
from edgekit.extras.roofline.peaks import measure
from edgekit.extras.roofline.work import UNKNOWN_LOOP
from edgekit.runtime import load


def test_a_dense_layer_in_three_formats(files: ModuleType, tmp_path: Path) -> None:
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.ones(1, 4),)), tmp_path / "d.pt2")
    for path in (files.dense_tflite(tmp_path / "d.tflite"), files.dense_onnx(tmp_path / "d.onnx"), tmp_path / "d.pt2"):
        with load(path) as runner:
            found = work(runner, {runner.signature.inputs[0].name: np.ones((1, 4), np.float32)})
        assert found["macs"] == 12
        assert found["uncounted"] == []
        # input, weights, bias, output: 4 + 12 + 3 + 3 numbers of 4 bytes, and what an ONNX file adds in between
        assert 4 * 22 <= found["bytes"] <= 4 * 40


def test_the_batch_of_the_feed_counts(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_tflite(tmp_path / "d.tflite", dynamic=True)) as runner:
        assert work(runner, {"x": np.ones((5, 4), np.float32)})["macs"] == 60


def test_convolutions_and_recurrent_cells(files: ModuleType, conv_tflite: Path, tmp_path: Path) -> None:
    with load(conv_tflite) as runner:
        assert work(runner, {"x": np.ones((1, 48, 48, 16), np.float32)})["macs"] == 2 * 48 * 48 * 16 * 144
    with load(files.recurrent_tflite(tmp_path / "r.tflite")) as runner:
        assert work(runner, {"x": np.ones((1, 3, 2), np.float32)})["macs"] == 3 * 2 * (2 + 2)


def test_transposed_convolution_whose_weights_are_packed(tmp_path: Path) -> None:
    """onnxruntime leaves packed weights out of its trace unless packing is off."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((8, 5, 3, 3), np.float32), "w")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 6, 6]),
    ]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "t.onnx")
    with load(tmp_path / "t.onnx") as runner:
        assert work(runner, {"x": np.ones((1, 8, 4, 4), np.float32)})["macs"] == 8 * 16 * 5 * 9


def loop_tflite(files: ModuleType, path: Path, limit: int | None) -> Path:
    """``WHILE i < limit: i = i + 1, x = x @ W``; ``limit`` None: it is handed in as a result and not known."""
    schema = files.schema
    options, while_ = schema.FullyConnectedOptionsT(), schema.WhileOptionsT()
    while_.condSubgraphIndex, while_.bodySubgraphIndex = 1, 2
    less = (schema.BuiltinOptions.LessOptions, schema.LessOptionsT())
    add = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    scalar = np.array(3 if limit is None else limit, np.int32)
    state = [files.Tensor("i", "int32", ()), files.Tensor("x", "float32", (1, 4)), files.Tensor("n", "int32", ())]
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    one = np.array(1, np.int32)
    main = [
        files.Tensor("zero", "int32", (), np.array(0, np.int32)), files.Tensor("x", "float32", (1, 4)),
        files.Tensor("n", "int32", (), scalar), files.Tensor("one", "int32", (), one), files.Tensor("m", "int32", ()),
        *(files.Tensor(f"{t.name}_out", t.dtype, t.shape) for t in state),
    ]  # fmt: skip
    given = 2 if limit is not None else 4
    adding = [files.Operator(files.OPERATORS.ADD, [2, 3], [4], add)] if limit is None else []
    loop = files.Operator(files.OPERATORS.WHILE, [0, 1, given], [5, 6, 7], (schema.BuiltinOptions.WhileOptions, while_))
    condition = [*state, files.Tensor("less", "bool", ())]
    weights = np.eye(4, dtype=np.float32)
    body = [
        *state, files.Tensor("w", "float32", (4, 4), weights),
        files.Tensor("b", "float32", (4,), np.zeros(4, np.float32)),
        files.Tensor("y", "float32", (1, 4)), files.Tensor("one", "int32", (), one), files.Tensor("j", "int32", ()),
    ]  # fmt: skip
    dense = files.Operator(
        files.OPERATORS.FULLY_CONNECTED, [1, 3, 4], [5], (schema.BuiltinOptions.FullyConnectedOptions, options)
    )
    files.TFLITE_TYPES.setdefault("bool", schema.TensorType.BOOL)
    model.subgraphs = [
        files._graph(model, main, [*adding, loop], [1], [6]),
        files._graph(model, condition, [files.Operator(files.OPERATORS.LESS, [0, 2], [3], less)], [0, 1, 2], [3]),
        files._graph(model, body, [dense, files.Operator(files.OPERATORS.ADD, [0, 6], [7], add)], [0, 1, 2], [7, 5, 2]),
    ]
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def test_the_body_of_a_loop_counts_as_often_as_it_runs(files: ModuleType, tmp_path: Path) -> None:
    with load(loop_tflite(files, tmp_path / "l.tflite", 7)) as runner:
        assert work(runner, {runner.signature.inputs[0].name: np.ones((1, 4), np.float32)})["macs"] == 7 * 16


def test_a_loop_of_unknown_length_is_said(files: ModuleType, tmp_path: Path) -> None:
    with load(loop_tflite(files, tmp_path / "u.tflite", None)) as runner:
        found = work(runner, {runner.signature.inputs[0].name: np.ones((1, 4), np.float32)})
    assert found["uncounted"] == [{"type": UNKNOWN_LOOP, "calls": 1}]


@pytest.mark.parametrize("threads", [1, 2])
def test_peaks_of_this_machine(threads: int) -> None:
    found = measure(threads, 100_000)
    # any CPU that runs this does a hundred million operations a second, none does a hundred million million
    assert 1e8 < found["flops_per_s"] < 1e14
    assert 1e8 < found["memory_bytes_per_s"] < 1e13
    assert 1e8 < found["bytes_per_s"] < 1e14
