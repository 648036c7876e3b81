"""What is left where an operating system has less than Linux: modules of Python are taken away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgekit

WINDOWS = ("fcntl", "resource", "termios", "pwd", "grp")
"""Modules that Python has not on Windows."""
WITHOUT = f"import sys; [sys.modules.update({{name: None}}) for name in {WINDOWS}]\n"


@pytest.fixture(scope="module")
def model(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return once("platform-mlp", lambda folder: edgekit.export("mlp", to=["onnx"], out=folder)) / "mlp.onnx"


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT + code, *words], capture_output=True, text=True, check=False)


def test_a_file_is_run_in_python(model: Path) -> None:
    code = (
        "import edgekit, numpy as np\n"
        "with edgekit.load(sys.argv[1]) as runner:\n"
        "    print(runner.run({'table': np.zeros((1, 30), np.float32)})['logits'].shape)"
    )
    done = python(code, str(model))
    assert (done.stdout, done.returncode) == ("(1, 2)\n", 0), done.stderr


def test_a_file_is_inspected(model: Path) -> None:
    done = python("from edgekit.cli import main; main(sys.argv[1:])", "inspect", str(model))
    assert done.returncode == 0 and "breast-cancer@test" in done.stdout, done.stderr


def test_what_needs_a_lock_says_so_in_one_sentence(model: Path) -> None:
    done = python("from edgekit.cli import main; main(sys.argv[1:])", "bench", str(model), "--seconds", "0.1")
    assert done.returncode == 3
    (said,) = done.stderr.splitlines()
    assert said.startswith("edgekit: this needs Linux or macOS") and "edgekit.load()" in said
