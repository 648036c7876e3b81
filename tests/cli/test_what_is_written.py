"""Nothing is written where the user did not ask for it: onnxruntime's telemetry is off, libraries use the cache."""

from __future__ import annotations

import importlib.util
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
    set_here = ("XDG_", "ORT_", "EDGEKIT_", "TORCHINDUCTOR_", "KERAS_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(set_here)}
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


@pytest.mark.parametrize("module", ["torch._dynamo", "keras"])
def test_libraries_keep_their_files_in_the_cache(module: str, fresh: dict[str, str], tmp_path: Path) -> None:
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module} is not installed")
    program = f"from edgekit.libraries import keep_in_the_cache as keep; keep(); import {module}"
    cache = {
        "EDGEKIT_CACHE": str(tmp_path / "cache"),
        "MPLCONFIGDIR": str(tmp_path / "plots"),
        "KERAS_BACKEND": "torch",
    }
    subprocess.run([sys.executable, "-c", program], env=fresh | cache, check=True, capture_output=True)
    assert [*(tmp_path / "home").iterdir(), *(tmp_path / "tmp").glob("[!.]*")] == []
    assert [*(tmp_path / "cache").iterdir()]


def test_what_the_user_has_settled_stays(fresh: dict[str, str], tmp_path: Path) -> None:
    names = ("TORCHINDUCTOR_CACHE_DIR", "KERAS_HOME")
    program = f"""
import os
from edgekit.libraries import keep_in_the_cache
keep_in_the_cache()
print(*(os.environ.get(name, "-") for name in {names}))
"""

    def told(**more: str) -> str:
        return subprocess.check_output([sys.executable, "-c", program], env=fresh | more, text=True).strip()

    cache = tmp_path / "home" / ".cache" / "edgekit"
    assert told() == f"{cache}/torchinductor {cache}/keras"
    assert told(TORCHINDUCTOR_CACHE_DIR="a", KERAS_HOME="b") == "a b"
    (tmp_path / "file").write_text("")
    assert told(EDGEKIT_CACHE=str(tmp_path / "file")) == told(EDGEKIT_CACHE=str(tmp_path / "file" / "in")) == "- -"
    (tmp_path / "home" / ".keras").mkdir()
    (tmp_path / "home" / ".keras" / "keras.json").write_text("{}")
    assert told() == f"{cache}/torchinductor -"


def test_who_wants_the_telemetry_has_the_last_word(fresh: dict[str, str]) -> None:
    show: Callable[..., Any] = subprocess.check_output
    program = "import edgekit, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert show([sys.executable, "-c", program], env=fresh, text=True) == "1\n"
    assert show([sys.executable, "-c", program], env={**fresh, "ORT_DISABLE_TELEMETRY": "0"}, text=True) == "0\n"
