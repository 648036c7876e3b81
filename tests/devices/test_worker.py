"""A worker that works: load, run, time, print, count."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgekit
from edgekit.bench.clock import WarmupRule
from edgekit.devices import WorkerClient, open_runner, open_worker
from edgekit.errors import DeviceError, FeedError, ModelError, ProtocolError, RuntimeMissingError, UsageError
from edgekit.runtime import load

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture(scope="module")
def client() -> WorkerClient:
    with open_worker("cpu") as worker:
        yield worker


def test_an_isolated_runner_is_the_same_runner(files: ModuleType, tmp_path: Path) -> None:
    for path in (
        files.dense_onnx(tmp_path / "m.onnx", dynamic=True),
        files.dense_tflite(tmp_path / "m.tflite", dynamic=True),
    ):
        with load(path) as here, edgekit.load(path, isolated=True) as there:
            assert (there.name, there.version, there.signature) == (here.name, here.version, here.signature)
            assert there.delegation() == here.delegation()
            assert there.load_ns > 0
            for batch in (1, 3):
                feed = {"x": np.repeat(X, batch, 0)}
                assert np.array_equal(there.run(feed)["y"], here.run(feed)["y"])
            with pytest.raises(FeedError, match="missing: 'x'"):
                there.run({"xx": X})


def test_integers_raw_and_real(files: ModuleType, tmp_path: Path) -> None:
    path = files.relu_int8_tflite(tmp_path / "m.tflite")
    real = np.array([[-70, -0.25, 0, 0.25, 0.75, 100]], np.float32)
    with open_runner(path) as runner:
        assert runner.run({"x": real})["y"].tolist() == [[0, 0, 0, 0, 1.0, 65.0]]
    with open_runner(path, raw=True) as runner:
        assert runner.signature.inputs[0].dtype == "int8"
        assert runner.run({"x": np.full((1, 6), -128, np.int8)})["y"].tolist() == [[-3] * 6]


def test_state_is_reset_or_kept(files: ModuleType, tmp_path: Path) -> None:
    path = files.recurrent_tflite(tmp_path / "m.tflite")
    feed = {"x": np.ones((1, 3, 2), np.float32)}
    with open_runner(path, stateful=True) as runner:
        assert [runner.run(feed)["y"][0, 0, 0] for _ in range(2)] == [1, 4]
        runner.reset()
        assert runner.run(feed)["y"][0, 0, 0] == 1


def test_errors_come_back_as_what_they_are(client: WorkerClient, files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        client.load(tmp_path / "nowhere.onnx")
    with pytest.raises(UsageError, match="no runtime is called"):
        client.load(files.dense_onnx(tmp_path / "m.onnx"), runtime="nope")
    with pytest.raises(DeviceError, match="no model yet"):
        client.run({"x": X})
    client.load(tmp_path / "m.onnx")
    with pytest.raises(FeedError, match="got shape"):
        client.run({"x": X[0]})
    assert client.run({"x": X})["y"].shape == (1, 3)  # and the worker lives on


def test_timing_happens_in_the_worker(client: WorkerClient, files: ModuleType, tmp_path: Path) -> None:
    client.load(files.dense_onnx(tmp_path / "m.onnx"))
    block = client.time_block({"x": X}, warmup=WarmupRule(3, 0, 10**9), min_runs=50, min_ns=0, max_ns=10**10)
    assert block.samples_ns.dtype == np.int64 and block.samples_ns.size >= 50 and block.samples_ns.min() > 0
    assert block.warmup_ns.size >= 3
    with pytest.raises(FeedError):
        client.time_block({"x": X[0]}, warmup=WarmupRule(0, 0, 0), min_runs=1, min_ns=0, max_ns=1)


def test_what_a_worker_says_of_itself(client: WorkerClient) -> None:
    assert client.hello["python"].startswith("3.")
    assert client.hello["runtimes"]["onnxruntime"]
    assert client.hello["pid"] != os.getpid()
    assert client.environment()["cores"] >= 1
    peak = client.peak_memory_bytes()
    assert peak is not None and 1e7 < peak < 1e10


def test_large_arrays_both_ways_at_once(files: ModuleType, tmp_path: Path) -> None:
    """Larger than any pipe buffer, so that neither side may wait for the other to finish writing."""
    path = files.write_onnx(
        tmp_path / "m.onnx", [files.helper.make_node("Identity", ["x"], ["y"])], {"x": ("n", 1000)}, {"y": ("n", 1000)}
    )
    x = np.random.default_rng(0).random((8000, 1000), dtype=np.float32)
    with open_runner(path) as runner:
        assert np.array_equal(runner.run({"x": x})["y"], x)


def test_what_libraries_print_breaks_nothing(
    broken: Callable[..., WorkerClient], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "edgekit")
    body = "print('python prints')\nos.write(1, b'native code writes\\n')\nassert not sys.stdin.read()"
    with broken(body) as client:
        client.reset()
        client.reset()
    assert "python prints" in caplog.text and "native code writes" in caplog.text
    assert capfd.readouterr() == ("", "")  # nothing on the user's terminal


def test_a_flood_of_errors_blocks_nothing_and_is_not_kept(broken: Callable[..., WorkerClient]) -> None:
    with broken("for k in range(20000): sys.stderr.write('x' * 500 + '\\n')") as client:  # 10 MB
        client.reset()
        assert len(client._channel.stderr_tail._kept) <= 64 << 10


def test_waiting_costs_the_parent_nothing(broken: Callable[..., WorkerClient]) -> None:
    """CPU time of this process, not time on the wall: polling would take about as much as it waits."""
    with broken("time.sleep(1.5)") as client:
        before = time.process_time()
        client.reset()
        assert time.process_time() - before < 0.3


def test_an_answer_that_cannot_be_sent_is_an_error_and_not_the_end(broken: Callable[..., WorkerClient]) -> None:
    with broken("return protocol.Message({}, {'y': np.array([object()])})") as client:
        with pytest.raises(ProtocolError, match="only numbers"):
            client.reset()
        assert client.environment()
    with (
        broken("return protocol.Message({'value': np.int64(3)})") as client,
        pytest.raises(DeviceError, match="TypeError"),
    ):
        client.reset()


def test_a_closed_worker_says_so() -> None:
    client = open_worker("cpu")
    client.close()
    client.close()
    with pytest.raises(DeviceError, match="is closed; open another"):
        client.environment()


def test_a_missing_runtime_is_told_by_the_worker(files: ModuleType, tmp_path: Path, other_python: str) -> None:
    with pytest.raises(RuntimeMissingError, match=r"onnxruntime, which is not installed in .*python"):
        open_runner(files.dense_onnx(tmp_path / "m.onnx"), device=f"python:{other_python}")
