"""torch -> TFLite in a worker: names kept, layout, dynamic batch, and a worker that may fail without harm."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from edgekit.converters import worker as conversions
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_tflite import WORKER, TorchToTflite
from edgekit.converters.worker import ConversionTransport, ConversionWorker
from edgekit.errors import (
    DeviceError,
    StorageError,
    UnsupportedError,
    WorkerCrashError,
    WorkerMemoryError,
    WorkerTimeoutError,
)
from edgekit.types import Network


def convert(network: Network, target: Path, **options: object) -> tuple[Capture, tuple[str, ...]]:
    capture = Capture(network, ConversionOptions(**options))  # type: ignore[arg-type]
    return capture, TorchToTflite().convert(capture, target)


def run(path: Path, feed: dict[str, Any]) -> dict[str, Any]:
    """By tensor name and not by signature, as a board with an old runtime does."""
    interpreter = Interpreter(model_path=str(path))
    rows = {row["name"]: row for row in interpreter.get_input_details()}
    assert set(rows) == set(feed)
    for name, array in feed.items():
        interpreter.resize_tensor_input(rows[name]["index"], array.shape)
    interpreter.allocate_tensors()
    for name, array in feed.items():
        interpreter.set_tensor(rows[name]["index"], array)
    interpreter.invoke()
    return {row["name"]: interpreter.get_tensor(row["index"]) for row in interpreter.get_output_details()}


def test_names_order_and_narrowed_integers(twelve: Network, tmp_path: Path) -> None:
    capture, notes = convert(twelve, tmp_path / "m.tflite")
    signature = Interpreter(model_path=str(tmp_path / "m.tflite")).get_signature_list()["serving_default"]
    assert sorted(signature["inputs"]) == ["tokens", "unused"]
    assert sorted(signature["outputs"]) == sorted(f"output_{k}" for k in range(12))
    tokens = np.array([[1, 9, 3, 0, 2, 5]], np.int32)
    unused = np.zeros((1, 2), np.float32)
    got = run(tmp_path / "m.tflite", {"tokens": tokens, "unused": unused})
    wanted = capture.reference({"tokens": tokens.astype(np.int64), "unused": unused})
    for name, values in wanted.items():
        assert np.allclose(got[name], values, atol=1e-6), name  # float32 sums in another order
    assert [note.split(" is ")[0] for note in notes] == ["input 'tokens'", "output 'output_11'"]


def test_channels_last_leaves_no_transpose_at_the_input(small: Network, tmp_path: Path) -> None:
    capture, _ = convert(small, tmp_path / "last.tflite", channels_last=True)
    convert(small, tmp_path / "first.tflite")
    first_operators = []
    for name in ("last", "first"):
        interpreter = Interpreter(model_path=str(tmp_path / f"{name}.tflite"))
        fed = interpreter.get_input_details()[0]["index"]
        first_operators.append([op["op_name"] for op in interpreter._get_ops_details() if fed in op["inputs"]])
    assert first_operators == [["CONV_2D"], ["TRANSPOSE"]]
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    got = run(tmp_path / "last.tflite", {"image": image})["output"]
    assert np.allclose(got, capture.reference({"image": image})["output"], atol=1e-5)  # XNNPACK sums in another order


def test_a_dynamic_batch_takes_every_size_and_starts_at_one(small: Network, tmp_path: Path) -> None:
    capture, _ = convert(small, tmp_path / "m.tflite", dynamic={"image": {0: "batch"}})
    row = Interpreter(model_path=str(tmp_path / "m.tflite")).get_input_details()[0]
    assert list(row["shape"]) == [1, 3, 8, 8]
    assert list(row["shape_signature"]) == [-1, 3, 8, 8]
    for size in (1, 2, 7):
        image = np.random.default_rng(size).normal(size=(size, 3, 8, 8)).astype(np.float32)
        got = run(tmp_path / "m.tflite", {"image": image})["output"]
        assert np.allclose(got, capture.reference({"image": image})["output"], atol=1e-5)  # as above


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_an_operation_without_a_lowering_is_named_and_the_worker_lives_on(
    network_of: Callable[..., Network], small: Network, tmp_path: Path
) -> None:
    convert(small, tmp_path / "m.tflite")
    worker = WORKER.start().result()
    with pytest.raises(UnsupportedError, match=r"cannot convert 'net'.*bessel_j0"):
        convert(network_of(Bessel(), torch.zeros(1, 3)), tmp_path / "bad.tflite")
    assert not (tmp_path / "bad.tflite").exists()
    convert(small, tmp_path / "again.tflite")
    assert WORKER.start().result() is worker  # the import was paid once
    assert (tmp_path / "again.tflite").read_bytes() == (tmp_path / "m.tflite").read_bytes()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A worker with a stand-in for litert-torch: ``worker(body)`` starts one whose command does ``body``."""
    made: list[ConversionWorker] = []

    def start(body: str) -> ConversionWorker:
        program = tmp_path / "stand_in.py"
        program.write_text(
            "import os, time\nfrom edgekit.devices.protocol import Message\nfrom edgekit.devices.worker import main\n"
            f"def convert(message):\n    {body}\n    return Message({{'notes': [message.header['what']]}})\n"
            "main(commands={'litert': convert})\n"
        )
        monkeypatch.setattr(ConversionTransport, "program", (str(program),))
        made.append(ConversionWorker("litert", "no file in time", lambda: ConversionTransport("the conversion")))
        return made[-1]

    yield start
    for item in made:
        item.close()


def test_a_crash_is_an_error_with_its_last_words(worker: Any) -> None:
    pending = worker("print('the last words'); os.kill(os.getpid(), 11)").ask({})
    with pytest.raises(WorkerCrashError, match=r"the conversion died.*SIGSEGV.*the last words"):
        pending()


def test_an_exit_is_an_error_with_its_status(worker: Any) -> None:
    with pytest.raises(WorkerCrashError, match="exit status 3"):
        worker("os._exit(3)").ask({})()


def test_a_kill_is_taken_for_a_lack_of_memory(worker: Any) -> None:
    with pytest.raises(WorkerMemoryError, match="memory"):
        worker("os.kill(os.getpid(), 9)").ask({})()


def test_after_a_crash_the_next_conversion_has_a_new_worker(worker: Any) -> None:
    started = worker("message.header['what'] == 'crash' and os._exit(3)")
    with pytest.raises(WorkerCrashError):
        started.ask({"what": "crash"})()
    assert started.ask({"what": "second"})().header["notes"] == ["second"]


def test_a_worker_that_died_between_two_conversions_is_replaced(worker: Any) -> None:
    started = worker("pass")
    client = started.start().result()
    os.kill(client.hello["pid"], 9)
    for _ in range(200):
        if not client.alive:
            break
        time.sleep(0.05)
    assert started.ask({"what": "next"})().header["notes"] == ["next"]


def test_an_answer_nobody_waited_for_is_passed_over(worker: Any) -> None:
    started = worker("if message.header['what'] == 'first': raise ValueError('its export failed elsewhere')")
    started.ask({"what": "first"})
    assert started.ask({"what": "second"})().header["notes"] == ["second"]


def test_a_hang_ends_the_worker(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversions, "TIMEOUT_S", 0.01)
    started = worker("time.sleep(600)")
    client = started.start().result()
    with pytest.raises(WorkerTimeoutError, match="no file in time"):
        started.ask({})()
    assert not client.alive and not os.path.exists(f"/proc/{client.hello['pid']}")


def test_no_room_for_what_the_tool_writes_is_a_full_disk(worker: Any) -> None:
    body = "from edgekit.errors import StorageError; raise StorageError('no space left while writing m.tflite')"
    with pytest.raises(StorageError, match=r"no space left while writing m\.tflite"):
        worker(body).ask({})()


def test_a_tool_that_is_not_installed_fails_the_worker_and_not_the_network(worker: Any) -> None:
    with pytest.raises(DeviceError, match="No module named 'nowhere'"):
        worker("import nowhere").ask({})()


def test_a_tool_that_cannot_be_imported_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversions, "MODULES", {"tool": "edgekit.no_such_tool"})
    with pytest.raises(ImportError):
        conversions._tool("tool")
    assert gc.isenabled()
