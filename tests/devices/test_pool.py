"""Workers that are kept from one file to the next."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import kept_workers, open_runner
from edgekit.devices.runner import WorkerRunner
from edgekit.errors import ModelError, WorkerCrashError
from edgekit.pipeline.doctor import TINY_ONNX
from edgekit.runtime.base import Runner


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(TINY_ONNX)
    return path


def _pid(runner: Runner) -> int:
    assert isinstance(runner, WorkerRunner)
    return int(runner.client.hello["pid"])


def _run(runner: Runner) -> None:
    runner.run({spec.name: np.ones(spec.resolved(), spec.dtype) for spec in runner.signature.inputs})


def _there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_worker_serves_file_after_file_and_ends_with_the_pool(tiny: Path) -> None:
    with kept_workers():
        pids = set()
        for _ in range(3):
            with open_runner(tiny) as runner:
                _run(runner)
                pids.add(_pid(runner))
        assert len(pids) == 1
        with open_runner(tiny) as one, open_runner(tiny) as two:  # open together: one worker each
            assert _pid(one) != _pid(two)
    assert not _there(pids.pop())


def test_outside_every_file_has_its_own(tiny: Path) -> None:
    with open_runner(tiny) as runner:
        first = _pid(runner)
    assert not _there(first)


def test_a_dead_worker_is_not_handed_out_again(tiny: Path) -> None:
    with kept_workers():
        with open_runner(tiny) as runner:
            first = _pid(runner)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(WorkerCrashError):
                _run(runner)
        with open_runner(tiny) as runner:
            _run(runner)
            assert _pid(runner) != first


def test_a_refused_file_costs_no_worker(tiny: Path, tmp_path: Path) -> None:
    with kept_workers():
        with open_runner(tiny) as runner:
            first = _pid(runner)
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(TINY_ONNX.replace(b"Relu", b"Rely").replace(b"Add", b"Adx").replace(b"Mul", b"Mux"))
        with pytest.raises(ModelError):
            open_runner(broken)
        with open_runner(tiny) as runner:
            assert _pid(runner) == first
