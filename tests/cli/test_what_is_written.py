"""Nothing is written where the user did not ask for it: onnxruntime's telemetry is off in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SESSION = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


@pytest.fixture
def fresh(tmp_path: Path) -> dict[str, str]:
    """A home and a folder for temporary files of its own; a file behind ``.ses``, which onnxruntime writes through."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_", "EDGEKIT_"))}
    for name, folder in (("HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / folder).mkdir()
        environment[name] = str(tmp_path / folder)
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "tmp" / ".ses").symlink_to(tmp_path / "victim")
    return environment


def _written(folder: Path) -> list[str]:
    assert (folder / "victim").read_text() == "kept"
    places = [file for name in ("home", "tmp") for file in (folder / name).rglob("*") if file.is_file()]
    return sorted(str(file.relative_to(folder)) for file in places if file.name != ".ses")


@pytest.mark.parametrize("arguments", ["run tiny.onnx x.npz", "inspect tiny.onnx", "run tiny.onnx x.npz --on here"])
def test_a_command_and_its_workers(
    arguments: str, fresh: dict[str, str], tmp_path: Path, tiny_onnx: Path, edgekit_program: str
) -> None:
    """``here``: the worker as an interpreter is given it that knows no edgekit."""
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    words = arguments.replace("here", f"python:{sys.executable}").split()
    done = subprocess.run([edgekit_program, *words, "-q"], cwd=tmp_path, env=fresh, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert _written(tmp_path) == []


@pytest.mark.parametrize("program", [f"import edgekit; {SESSION}", f"import edgekit.runtime, {SESSION[7:]}"])
def test_a_program_that_imports_edgekit_first(
    program: str, fresh: dict[str, str], tmp_path: Path, tiny_onnx: Path
) -> None:
    subprocess.run([sys.executable, "-c", program, str(tiny_onnx)], cwd=tmp_path, env=fresh, check=True)
    assert _written(tmp_path) == []


def test_who_wants_the_telemetry_has_the_last_word(fresh: dict[str, str]) -> None:
    show: Callable[..., Any] = subprocess.check_output
    program = "import edgekit, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert show([sys.executable, "-c", program], env=fresh, text=True) == "1\n"
    assert show([sys.executable, "-c", program], env={**fresh, "ORT_DISABLE_TELEMETRY": "0"}, text=True) == "0\n"
