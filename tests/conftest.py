"""What every room's tests share: where the clone is, the command line as a user has it, and real data where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RUNTIME_NOISE = {"TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "160"}


@dataclass(frozen=True)
class Ended:
    """A finished command line."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the clone."""
    return ROOT


@pytest.fixture(scope="session")
def edgekit_program() -> str:
    """The installed program beside this interpreter."""
    return str(Path(sys.executable).with_name("edgekit"))


@pytest.fixture(scope="session")
def other_python(root: Path) -> str:
    """The interpreter of the environment with tflite-runtime and numpy 1, which ``scripts/test`` makes."""
    path = os.environ.get("EDGEKIT_TFLITE_PYTHON") or str(root / ".venv-tflite" / "bin" / "python")
    if not os.access(path, os.X_OK):
        pytest.skip("needs .venv-tflite or $EDGEKIT_TFLITE_PYTHON: run scripts/test")
    return path


@pytest.fixture
def edgekit_cli(edgekit_program: str, tmp_path: Path) -> Callable[..., Ended]:
    """Runs ``edgekit ARGUMENTS`` in a process of its own, in ``tmp_path``; never raises for an exit code."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 300, **options: Any) -> Ended:
        return run_program([edgekit_program, *map(str, arguments)], cwd=tmp_path, env=env, timeout=timeout, **options)

    return run


def run_program(
    command: Sequence[str], *, cwd: Path, env: dict[str, str] | None = None, timeout: float = 300, **options: Any
) -> Ended:
    """One process, its output captured as text."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **RUNTIME_NOISE, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of downloaded data sets ($EDGEKIT_DATA); skips where there is none."""
    folder = os.environ.get("EDGEKIT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs $EDGEKIT_DATA with the downloaded data sets")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``needs_data`` or ``gpu`` are skipped, with the reason, where there is none."""
    folder = os.environ.get("EDGEKIT_DATA", "")
    without_data = pytest.mark.skip(reason="needs $EDGEKIT_DATA with the downloaded data sets")
    without_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("needs_data") and not (folder and Path(folder).is_dir()):
            item.add_marker(without_data)
        if item.get_closest_marker("gpu") and not _has_cuda():
            item.add_marker(without_gpu)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
