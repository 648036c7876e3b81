"""TFLite files on TensorFlow Lite for Microcontrollers, beside LiteRT and the bare interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgekit
from edgekit.devices import WorkerClient, open_worker
from edgekit.devices.mcu import measured_arena
from edgekit.environments import TFLM
from edgekit.errors import FeedError, ModelError, RuntimeMissingError, UnsupportedError, UsageError, WorkerCrashError
from edgekit.types import Feed, Signature

BARE = """\
import json, sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
path, size = sys.argv[1], int(sys.argv[2])
interpreter = runtime.Interpreter.from_file(path, arena_size=size)
feeds = json.load(sys.stdin)
for feed in feeds:
    for place, values in enumerate(feed):
        details = interpreter.get_input_details(place)
        interpreter.set_input(np.array(values, details["dtype"]).reshape(details["shape"]), place)
    interpreter.invoke()
    print(json.dumps(interpreter.get_output(0).reshape(-1).tolist()))
"""


@pytest.fixture(scope="module", autouse=True)
def python(tflm_python: str) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TFLM.variable, tflm_python)
        yield tflm_python


@pytest.fixture(scope="module")
def client(python: str) -> Iterator[WorkerClient]:
    """A worker for the tests that only look at files."""
    with open_worker("mcu") as there:
        yield there


def bare(python: str, path: Path, feeds: list[list[object]], size: int = 1 << 20) -> subprocess.CompletedProcess[str]:
    words = [python, "-c", BARE, str(path), str(size)]
    return subprocess.run(words, input=json.dumps(feeds), capture_output=True, text=True, check=False)


def random_feed(signature: Signature, generator: np.random.Generator) -> Feed:
    return {
        spec.name: np.asarray(generator.standard_normal(spec.resolved()), np.float32).reshape(spec.resolved())
        for spec in signature.inputs
    }


@pytest.mark.parametrize("name", ["dense", "conv_int8", "relu_int8", "mixed", "many_outputs", "resource"])
def test_it_gives_what_litert_gives(name: str, files: ModuleType, tmp_path: Path, client: WorkerClient) -> None:
    path = getattr(files, f"{name}_tflite")(tmp_path / "m.tflite")
    loaded = client.load(path)
    assert (loaded.runtime, loaded.delegation) == ("tflm", None)
    step = 0.25 if name == "conv_int8" else 1e-5  # of the output's scale; float32 sums of numbers up to 40
    with edgekit.load(path) as here:
        assert loaded.signature == here.signature
        generator = np.random.default_rng(4)
        for _ in range(3):
            feed = random_feed(here.signature, generator)
            wanted, found = here.run(feed), client.run(feed)
            assert list(found) == list(wanted)
            for key, value in wanted.items():
                assert found[key].shape == value.shape
                assert np.abs(found[key] - value).max() <= step


def test_it_is_the_bare_interpreter(files: ModuleType, tmp_path: Path, client: WorkerClient, python: str) -> None:
    """As integers, to the bit, on several calls in a row."""
    path = files.conv_int8_tflite(tmp_path / "m.tflite")
    client.load(path, raw=True)
    images = np.random.default_rng(7).integers(-128, 128, (4, 1, 8, 8, 3), np.int8)
    done = bare(python, path, [[image.tolist()] for image in images])
    wanted = [json.loads(line) for line in done.stdout.splitlines()]
    found = [client.run({"image": image})["features"] for image in images]
    assert found[0].dtype == np.int8
    assert [one.reshape(-1).tolist() for one in found] == wanted


def test_a_number_without_axes(files: ModuleType, tmp_path: Path, client: WorkerClient) -> None:
    add = (files.schema.BuiltinOptions.AddOptions, files.schema.AddOptionsT())
    tensors = [files.Tensor(name, "float32", ()) for name in "xy"]
    path = files.write_tflite(
        tmp_path / "m.tflite", tensors, [files.Operator(files.OPERATORS.ADD, [0, 0], [1], add)], [0], [1]
    )
    client.load(path)
    found = client.run({"x": np.array(1.5, np.float32)})["y"]
    assert found.shape == () and found == 3


def test_a_free_size_is_the_one_that_the_file_holds(files: ModuleType, tmp_path: Path, client: WorkerClient) -> None:
    loaded = client.load(files.dense_tflite(tmp_path / "m.tflite", dynamic=True))
    assert loaded.signature.inputs[0].shape == (1, 4)
    with edgekit.load(tmp_path / "m.tflite", runtime="tflm") as runner:
        with pytest.raises(FeedError, match=r"input 'x'.*got shape \[2, 4\], wanted \[1, 4\], axis 0 is 2 for 1"):
            runner.run({"x": np.zeros((2, 4), np.float32)})
        assert runner.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1]]


def test_state_is_kept_only_where_that_is_asked_for(files: ModuleType, tmp_path: Path) -> None:
    """A resource variable that begins with sevens: the interpreter's own reset makes zeros of it."""
    real = np.zeros
    files.np.zeros = lambda *words: real(*words) + np.float32(7)
    try:
        path = files.resource_tflite(tmp_path / "m.tflite")
    finally:
        files.np.zeros = real
    feed = {"x": np.ones((1, 2), np.float32)}
    with edgekit.load(path, runtime="tflm") as runner:
        assert [runner.run(feed)["y"][0, 0] for _ in range(3)] == [8, 8, 8]
    with edgekit.load(path, runtime="tflm", stateful=True) as runner:
        assert [runner.run(feed)["y"][0, 0] for _ in range(3)] == [8, 9, 10]
        runner.reset()
        assert runner.run(feed)["y"][0, 0] == 8


def test_operators_that_it_does_not_have(files: ModuleType, tmp_path: Path, client: WorkerClient) -> None:
    with pytest.raises(UnsupportedError, match=r"tflm .* does not have UNIDIRECTIONAL_SEQUENCE_RNN; write"):
        client.load(files.recurrent_tflite(tmp_path / "r.tflite"))
    with pytest.raises(UnsupportedError, match="does not have Frobnicate"):
        client.load(files.custom_op_tflite(tmp_path / "c.tflite"))
    tensors = [files.Tensor(name, "float32", (1, 4)) for name in "xyz"]
    nodes = [files.Operator(code, [k], [k + 1]) for k, code in enumerate((files.OPERATORS.GELU, files.OPERATORS.ATAN2))]
    with pytest.raises(UnsupportedError, match="does not have GELU, ATAN2"):
        client.load(files.write_tflite(tmp_path / "two.tflite", tensors, nodes, [0], [2]))


def test_what_it_refuses_otherwise_is_said_in_its_words(
    files: ModuleType, tmp_path: Path, client: WorkerClient
) -> None:
    options = (files.schema.BuiltinOptions.FullyConnectedOptions, files.schema.FullyConnectedOptionsT())
    weights = files.Tensor("w", "int8", (3, 4), np.ones((3, 4), np.int8), scale=(0.5,))
    tensors = [files.Tensor("x", "float32", (1, 4)), weights, files.Tensor("y", "float32", (1, 3))]
    hybrid = files.Operator(files.OPERATORS.FULLY_CONNECTED, [0, 1, -1], [2], options)
    with pytest.raises(
        UnsupportedError,
        match=r"does not accept it: Input type: FLOAT32 with filter type: INT8 not supported.*--for mcu",
    ):
        client.load(files.write_tflite(tmp_path / "m.tflite", tensors, [hybrid], [0], [2]))


def test_a_damaged_file(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ModelError, match=r"m\.tflite"):
        edgekit.load(path, runtime="tflm")


def test_one_thread(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    with pytest.raises(UsageError, match="threads is 2; tflm computes in one thread"):
        edgekit.load(path, runtime="tflm", threads=2)


def test_a_crash_is_typed(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    with edgekit.load(path, runtime="tflm") as runner:
        os.kill(int(runner.client.hello["pid"]), 11)  # type: ignore[attr-defined]
        with pytest.raises(WorkerCrashError, match="SIGSEGV"):
            runner.run({"x": np.zeros((1, 4), np.float32)})


def test_without_it_the_message_has_the_command(
    files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    monkeypatch.delenv(TFLM.variable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(RuntimeMissingError, match=r"environment of its own: .*pip install tflite-micro"):
        edgekit.load(path, runtime="tflm")
    with pytest.raises(RuntimeMissingError, match=r"'mcu' needs tflite-micro.*pip install tflite-micro"):
        edgekit.load(path, device="mcu")


@pytest.mark.parametrize("name", ["dense", "conv_int8", "mixed", "resource", "many_outputs"])
def test_the_arena_is_enough_and_no_less_is(
    name: str, files: ModuleType, tmp_path: Path, client: WorkerClient, python: str
) -> None:
    path = getattr(files, f"{name}_tflite")(tmp_path / "m.tflite")
    loaded = client.load(path)
    arena = measured_arena(client)
    feed = [np.ones(spec.resolved()).tolist() for spec in loaded.signature.inputs]
    assert bare(python, path, [feed], arena.bytes).returncode == 0
    assert bare(python, path, [feed], arena.bytes - 16).returncode != 0
    assert arena.persistent_bytes + arena.non_persistent_bytes <= arena.bytes
    assert all(method.startswith("Add") for method in arena.operators)
