"""ONNX files on onnxruntime: results, dynamic axes, delegation, and files it must refuse."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.artifact import write_card
from edgekit.errors import FeedError, ModelError, UnsupportedError
from edgekit.runtime import load
from edgekit.types import Card, QuantizedTensor, Signature, Task, TensorSpec

X = np.array([[1, 2, 3, 4]], np.float32)
Y = np.array([[0 + 2 + 6 + 12, 4 + 10 + 18 + 28, 8 + 18 + 30 + 44]], np.float32) + 1


def test_run_by_hand(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_onnx(tmp_path / "m.onnx")) as runner:
        assert runner.name == "onnxruntime"
        assert runner.signature == Signature(
            (TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 3)),)
        )
        assert runner.load_ns > 0
        result = runner.run({"x": X})
        assert list(result) == ["y"]
        assert np.array_equal(result["y"], Y)  # small integers: exact in float32


def test_a_dynamic_axis_takes_any_number(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_onnx(tmp_path / "m.onnx", dynamic=True)) as runner:
        assert runner.signature.inputs[0].shape == ("batch", 4)
        for batch in (1, 5, 2):
            assert np.array_equal(runner.run({"x": np.repeat(X, batch, 0)})["y"], np.repeat(Y, batch, 0))
    with load(files.dense_onnx(tmp_path / "m.onnx")) as runner, pytest.raises(FeedError, match="--dynamic"):
        runner.run({"x": np.repeat(X, 2, 0)})


def test_a_name_stands_for_one_number_in_all_inputs(files: ModuleType, tmp_path: Path) -> None:
    with load(files.concat_onnx(tmp_path / "m.onnx")) as runner:
        a, b = np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)
        assert runner.run({"b": b, "a": a})["y"].tolist() == [[1, 1, 0, 0, 0]] * 4
        with pytest.raises(FeedError, match="batch is 3 here and 4 in 'a'"):
            runner.run({"a": a, "b": b[:3]})


def test_bare_calls_what_run_calls(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_onnx(tmp_path / "m.onnx")) as runner:
        (result,) = runner.bare({"x": X})()  # type: ignore[misc]
        assert np.array_equal(result, Y)
        with pytest.raises(FeedError):
            runner.bare({"x": X[0]})


def test_delegation_counts_the_nodes_of_the_loaded_graph(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_onnx(tmp_path / "m.onnx")) as runner:
        delegation = runner.delegation()
        assert delegation is not None
        assert (delegation.by, delegation.delegated) == ("CPUExecutionProvider", delegation.nodes)
        assert 1 <= delegation.nodes <= 2  # MatMul and Add, or the Gemm they were fused into


def test_integers_of_the_card_become_real_numbers(files: ModuleType, tmp_path: Path) -> None:
    """ONNX graphs do not say how integer inputs are quantized; the card does."""
    path = files.identity_onnx(tmp_path / "m.onnx", TensorProto.INT8)
    signature = Signature((TensorSpec("x", "int8", (1, 4)),), (TensorSpec("y", "int8", (1, 4)),))
    how = {"x": QuantizedTensor("int8", 0.5, -3), "y": QuantizedTensor("int8", 2.0, 1)}
    write_card(path, Card("m", "custom", Task(), signature, quantized_io=how))
    with load(path) as runner:
        assert runner.signature.inputs[0].dtype == "float32"
        # -3, -1, 127 (clipped), -5 as integers; then 2 * (integer - 1)
        got = runner.run({"x": np.array([[0, 0.75, 99, -0.75]], np.float32)})["y"]
        assert got.dtype == np.float32 and got.tolist() == [[-8, -4, 252, -12]]
    with load(path, raw=True) as runner:
        assert runner.signature == signature
        assert runner.run({"x": np.array([[-3, -1, 127, -5]], np.int8)})["y"].tolist() == [[-3, -1, 127, -5]]


def test_without_a_card_integers_are_integers(files: ModuleType, tmp_path: Path) -> None:
    with load(files.identity_onnx(tmp_path / "m.onnx", TensorProto.INT8)) as runner:
        assert runner.signature.inputs[0].dtype == "int8"


def refusals(files: ModuleType, folder: Path) -> dict[str, tuple[Path, str]]:
    """What is wrong -> the file, and what the message must say."""
    whole = files.dense_onnx(folder / "whole.onnx").read_bytes()
    cut = folder / "cut.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    node, external = files.node_onnx, files.external_onnx
    missing = files.write_onnx(
        folder / "w.onnx", [helper.make_node("Add", ["x", "w"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}
    )
    return {
        "unknown operator": (
            node(folder / "1.onnx", "FrobNicate"),
            "the operator FrobNicate is unknown to onnxruntime",
        ),
        "unknown domain": (node(folder / "2.onnx", "Frob", domain="com.acme"), "com.acme:Frob"),
        "domain not imported": (node(folder / "3.onnx", "Frob", domain="com.acme", imported=False), "com.acme"),
        "future opset": (node(folder / "4.onnx", "Relu", opset=99), "it has opset 99, onnxruntime"),
        "future IR": (node(folder / "5.onnx", "Relu", ir=99), "it has IR version 99"),
        "missing weights": (missing, "'w'"),
        "weights not there": (external(folder / "6.onnx", "nowhere.bin"), "nowhere.bin"),
        "weights outside": (external(folder / "7.onnx", "../../etc/passwd"), "outside its own folder"),
        "weights at an absolute path": (external(folder / "8.onnx", "/etc/passwd"), "outside its own folder"),
        "cut short": (cut, "cut short"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "unknown operator", "unknown domain", "domain not imported", "future opset", "future IR", "missing weights",
        "weights not there", "weights outside", "weights at an absolute path", "cut short",
    ],
)  # fmt: skip
def test_a_bad_file_is_one_clear_line(
    files: ModuleType, tmp_path: Path, case: str, capfd: pytest.CaptureFixture
) -> None:
    path, said = refusals(files, tmp_path)[case]
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert said in message and str(path) in message
    assert "\n" not in message and "onnxruntime_src" not in message  # no source paths of theirs
    assert case == "cut short" or ";" in message  # cause; way out (what is cut short is found in edgekit.artifact)
    assert capfd.readouterr().err == ""  # nothing is said twice


def test_weights_behind_a_link_out_of_the_folder_are_refused(files: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside its own folder"):
        load(files.external_onnx(folder / "m.onnx", "w.bin"))
    (folder / "w.bin").unlink()
    np.ones(4, np.float32).tofile(folder / "w.bin")
    with load(folder / "m.onnx") as runner:  # beside the model they are fine
        assert np.array_equal(runner.run({"x": X})["y"], X + 1)


def test_a_sequence_is_not_a_tensor(files: ModuleType, tmp_path: Path) -> None:
    path = files.write_onnx(
        tmp_path / "m.onnx", [helper.make_node("SequenceConstruct", ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}
    )
    import onnx

    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="'y' is a seq"):
        load(path)
