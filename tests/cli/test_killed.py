"""After ``kill -9`` no process of a command goes on, and the next commands remove what it had on disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 200.0
"""Far beyond what is waited for; a machine may be busy."""


class Killed:
    """A command with a temporary folder of its own, by whose name all its processes are known."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir()
        self.environment = {"TMPDIR": str(self.temporary), "EDGEKIT_TEST_MARK": str(folder), "OMP_NUM_THREADS": "1"}
        self._program = program

    def begin(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [self._program, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not true():
            assert self.process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def children(self, word: str = "") -> list[str]:
        """Command lines of its living processes but for the first, those with ``word``."""
        mark, found = f"EDGEKIT_TEST_MARK={self.folder}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if entry.name != str(self.process.pid) and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:  # it ended, or is somebody else's
                continue
        return [line for line in found if word in line]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 20
        while self.children():
            assert time.monotonic() < deadline, self.children()
            time.sleep(0.05)


@pytest.fixture
def killed(edgekit_program: str, tmp_path: Path) -> Iterator[Killed]:
    made = Killed(edgekit_program, tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def _own(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if "edgekit-" in entry.name]


@pytest.mark.slow
def test_an_export_that_is_killed(killed: Killed, tmp_path: Path, tiny_onnx: Path, edgekit_cli: Any) -> None:
    out = tmp_path / "out"
    killed.begin("export", "mlp", "--to", "onnx", "--to", "tflite", "-o", "out")
    killed.wait_until(lambda: bool(out.is_dir() and _own(out) and killed.children("converters.worker")))
    killed.kill()
    assert len(_own(out)) == 1 and len(_own(killed.temporary)) >= 1
    assert edgekit_cli("inspect", tiny_onnx, env=killed.environment).code == 0
    assert _own(killed.temporary) == [], "any next command"
    assert edgekit_cli("export", "mlp", "--to", "onnx", "-o", "out", env=killed.environment).code == 0
    assert [p.name for p in out.iterdir()] == ["mlp.onnx"], "the next one that writes there"


@pytest.mark.slow
def test_a_bench_and_a_training_that_are_killed(killed: Killed, tmp_path: Path, tiny_onnx: Path) -> None:
    killed.begin("bench", "tiny.onnx", "--seconds", "60")
    killed.wait_until(lambda: len(killed.children("edgekit.devices.worker")) > 1)
    killed.kill()
    train = "train mlp --data breast-cancer --epochs 100000 --processes 2 -o x.safetensors"
    killed.begin(*train.split())
    killed.wait_until((tmp_path / "x.resume.safetensors").exists)  # they have imported what they need
    assert len(killed.children("spawn_main")) == 2
    killed.kill()
