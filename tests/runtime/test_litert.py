"""TFLite files on ai-edge-litert: names, integers, dynamic shapes, state, delegation, and files it must refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.artifact import open_artifact, write_card
from edgekit.errors import FeedError, GateError, ModelError
from edgekit.flatbuffer_reader import keeps_variables
from edgekit.quality.state import keeps_state
from edgekit.quantization.tflite.stateless import stateless
from edgekit.runtime import load
from edgekit.types import Card, Signature, Task, TensorSpec

X = np.array([[1, 2, 3, 4]], np.float32)
Y = np.array([[20, 60, 100]], np.float32) + 1


def card(signature: Signature) -> Card:
    return Card("m", "custom", Task(), signature)


@pytest.mark.parametrize(("signature", "names"), [(True, ("x", "y")), (False, ("the_x", "the_y"))])
def test_run_by_hand_under_the_signatures_names(
    files: ModuleType, tmp_path: Path, signature: bool, names: tuple
) -> None:
    with load(files.dense_tflite(tmp_path / "m.tflite", signature=signature)) as runner:
        assert runner.name == "litert"
        assert (runner.signature.inputs[0].name, runner.signature.outputs[0].name) == names
        result = runner.run({names[0]: X})
        assert np.array_equal(result[names[1]], Y)  # small integers: exact in float32
        assert np.array_equal(runner.bare({names[0]: X})()[0], Y)  # type: ignore[index]


def test_outputs_with_numbers_keep_their_order_and_take_the_cards_names(files: ModuleType, tmp_path: Path) -> None:
    path = files.many_outputs_tflite(tmp_path / "m.tflite")
    names = [f"head{'abcdefghijkl'[k]}" for k in range(12)]
    rows = tuple(TensorSpec(name, "float32", (1, 2)) for name in names)
    write_card(path, card(Signature((TensorSpec("x", "float32", (1, 2)),), rows)))
    with load(path) as runner:
        result = runner.run({"x": np.zeros((1, 2), np.float32)})
    assert list(result) == names
    assert [float(array[0, 0]) for array in result.values()] == list(range(12))  # not 0, 1, 10, 11, 2, ...


@pytest.mark.parametrize(
    "wrong",
    [
        Signature((TensorSpec("x", "float32", (1, 5)),), (TensorSpec("y", "float32", (1, 3)),)),
        Signature((TensorSpec("x", "int32", (1, 4)),), (TensorSpec("y", "float32", (1, 3)),)),
        Signature((TensorSpec("x", "float32", (1, 4)),) * 2, (TensorSpec("y", "float32", (1, 3)),)),
        Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (3,)),)),
    ],
)
def test_a_card_of_another_file_is_refused(files: ModuleType, tmp_path: Path, wrong: Signature) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    write_card(path, card(wrong))
    with pytest.raises(ModelError, match="belongs to another file"):
        load(path)


def test_dynamic_shapes_are_resized_as_feeds_come(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite", dynamic=True)
    with load(path) as runner:
        assert runner.signature.inputs[0].shape == ("batch", 4)
        for batch in (1, 3, 3, 2, 1):
            assert np.array_equal(runner.run({"x": np.repeat(X, batch, 0)})["y"], np.repeat(Y, batch, 0))
    write_card(
        path, card(Signature((TensorSpec("x", "float32", ("rows", 4)),), (TensorSpec("y", "float32", ("rows", 3)),)))
    )
    with load(path) as runner:
        assert runner.signature.dynamic_dims == ("rows",)
    with load(files.dense_tflite(tmp_path / "f.tflite")) as runner, pytest.raises(FeedError, match="axis 0 is 2 for 1"):
        runner.run({"x": np.repeat(X, 2, 0)})


def test_integers_are_taken_and_given_as_real_numbers(files: ModuleType, tmp_path: Path) -> None:
    """Scale 0.5, zero point -3, by hand: -0.25 -> -0.5 -> 0 (even) -> -3; 0.75 -> 1.5 -> 2 (even) -> -1 -> 1.0."""
    path = files.relu_int8_tflite(tmp_path / "m.tflite")
    real = np.array([[-70, -0.25, 0, 0.25, 0.75, 100]], np.float32)
    integers = np.array([[-128, -3, -3, -3, -1, 127]], np.int8)
    with load(path, raw=True) as runner:
        assert runner.signature.inputs[0].dtype == "int8"
        out = runner.run({"x": integers})["y"]
        assert out.dtype == np.int8 and out.tolist() == [[-3, -3, -3, -3, -1, 127]]  # -3 stands for zero
        with pytest.raises(FeedError, match="got float32, wanted int8"):
            runner.run({"x": real})
    with load(path) as runner:
        assert runner.signature.inputs[0].dtype == "float32"
        out = runner.run({"x": real})["y"]
        assert out.dtype == np.float32 and out.tolist() == [[0, 0, 0, 0, 1.0, 65.0]]
        with pytest.raises(FeedError, match="got int8, wanted float32"):
            runner.run({"x": integers})


def test_an_integer_convolution_against_numpy(files: ModuleType, tmp_path: Path) -> None:
    path = files.conv_int8_tflite(tmp_path / "m.tflite")
    image = np.random.default_rng(0).uniform(-3, 3, (1, 8, 8, 3)).astype(np.float32)
    with load(path) as runner:
        got = runner.run({"image": image})["features"]
    assert np.abs(got - files.conv_int8_by_hand(image)).max() <= 0.25  # one step: runtimes round halves differently
    assert len(np.unique(got)) > 50  # it does not sit at its limits
    assert np.abs(got - files.conv_int8_by_hand(image + 0.3)).max() > 0.25  # and another input is told apart


def test_state_starts_anew_with_every_run(files: ModuleType, tmp_path: Path) -> None:
    path = files.recurrent_tflite(tmp_path / "m.tflite")
    feed = {"x": np.ones((1, 3, 2), np.float32)}
    sequence = [[1, 1], [2, 2], [3, 3]]
    with load(path) as runner:
        assert [runner.run(feed)["y"][0].tolist() for _ in range(2)] == [sequence, sequence]
        call = runner.bare(feed)
        assert [call()[0][0].tolist() for _ in range(2)] == [sequence, sequence]  # type: ignore[index]
    with load(path, stateful=True) as runner:
        assert runner.run(feed)["y"][0].tolist() == sequence
        assert runner.run(feed)["y"][0].tolist() == [[4, 4], [5, 5], [6, 6]]
        runner.reset()
        assert runner.run(feed)["y"][0].tolist() == sequence


def test_a_file_that_says_that_it_starts_anew_is_never_reset(files: ModuleType, tmp_path: Path) -> None:
    """Else a state left behind would show in an app and nowhere else. This one lies, and is found out."""
    path = files.recurrent_tflite(tmp_path / "m.tflite")
    with load(path) as runner:
        own = card(runner.signature)
    feed = {"x": np.ones((1, 3, 2), np.float32)}
    for stateful, second in ((None, [1, 1]), (True, [1, 1]), (False, [4, 4])):
        write_card(path, replace(own, stateful=stateful))
        assert keeps_state(open_artifact(path)) is (stateful is not False)
        with load(path) as runner:
            assert runner.run(feed)["y"][0][0].tolist() == [1, 1]
            assert runner.run(feed)["y"][0][0].tolist() == second


def test_what_keeps_a_state_is_read_off_the_file(files: ModuleType, tmp_path: Path) -> None:
    for made, kept in ((files.recurrent_tflite, True), (files.resource_tflite, True), (files.mixed_tflite, None)):
        path = made(tmp_path / "m.tflite")
        assert keeps_state(open_artifact(path)) is kept
        assert keeps_variables(path.read_bytes()) is bool(kept)
    with pytest.raises(GateError, match=r"ASSIGN_VARIABLE .* keeps a state .*--stateful keeps .*: open the file anew"):
        stateless(files.resource_tflite(path).read_bytes())


def test_resource_variables_start_anew_too(files: ModuleType, tmp_path: Path) -> None:
    """``reset_all_variables`` does not touch them, as the test shows; the runner resets them all the same."""
    path = files.resource_tflite(tmp_path / "m.tflite")
    feed = {"x": np.ones((1, 2), np.float32)}
    with load(path, stateful=True) as runner:
        first = runner.run(feed)["y"]
        second = runner.run(feed)["y"]
        assert np.array_equal(second, first + 1)
        runner._interpreter.reset_all_variables()  # type: ignore[attr-defined]
        assert np.array_equal(runner.run(feed)["y"], first + 2)
    with load(path) as runner:
        assert [runner.run(feed)["y"].tolist() for _ in range(3)] == [[[1, 1]]] * 3


def test_delegation_counts_what_xnnpack_took(files: ModuleType, tmp_path: Path) -> None:
    with load(files.many_outputs_tflite(tmp_path / "m.tflite")) as runner:
        taken = runner.delegation()
        assert taken is not None and (taken.nodes, taken.delegated, taken.by) == (12, 12, "XNNPACK")
    with load(files.recurrent_tflite(tmp_path / "r.tflite")) as runner:
        taken = runner.delegation()
        assert taken is not None and (taken.nodes, taken.delegated, taken.by) == (1, 0, "")


def test_delegation_of_a_mixed_graph(files: ModuleType, tmp_path: Path) -> None:
    """XNNPACK has no CUMSUM: it takes the operators before and after it."""
    path = files.mixed_tflite(tmp_path / "m.tflite")
    with load(path) as runner:
        taken = runner.delegation()
    assert taken is not None and taken.by == "XNNPACK"
    assert (taken.nodes, taken.delegated) == (3, 2)


def test_a_bad_file_is_one_clear_line(files: ModuleType, tmp_path: Path) -> None:
    custom = files.custom_op_tflite(tmp_path / "custom.tflite")
    with pytest.raises(ModelError, match="the custom operator Frobnicate is unknown to litert"):
        load(custom)
    whole = files.dense_tflite(tmp_path / "whole.tflite").read_bytes()
    for name, data in {
        "half": whole[: len(whole) // 2],
        "tail": whole[:-8],
        "noise": b"\0\0\0\1TFL3" + bytes(range(250)),
    }.items():
        bad = tmp_path / f"{name}.tflite"
        bad.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            load(bad)
        assert "\n" not in str(caught.value) and str(bad) in str(caught.value)


def test_information_lines_go_to_the_log_and_others_stay(files: ModuleType, tmp_path: Path) -> None:
    """In a process of its own: native code says them once a process."""
    program = (
        "import logging, os, sys; log = logging.getLogger('edgekit')\n"
        "log.setLevel(logging.DEBUG); log.addHandler(logging.FileHandler(sys.argv[2]))\n"
        "import edgekit.runtime, edgekit.runtime.native_stderr as native_stderr; edgekit.runtime.load(sys.argv[1])\n"
        "with native_stderr.filter_stderr(): os.write(2, b'ERROR: kept\\nINFO: logged\\n')\n"
    )
    path = files.dense_tflite(tmp_path / "m.tflite")
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "ERROR: kept\n")
    logged = (tmp_path / "log").read_text()
    assert "XNNPACK" in logged and "INFO: logged" in logged


def test_a_name_that_is_not_text_is_a_damaged_file(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    content = path.read_bytes()
    assert b"the_y" in content
    path.write_bytes(content.replace(b"the_y", b"\xff\xfe\xff_y"))
    with pytest.raises(ModelError, match="cannot be read as a TFLite model"):
        load(path)
