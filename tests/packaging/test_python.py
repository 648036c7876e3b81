"""``--for python``: the folder runs without edgekit, and makes of samples what edgekit makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgekit

pytestmark = pytest.mark.usefixtures("kept_workers")
ALONE = "import sys, runpy; sys.path.insert(0, '.'); sys.argv[:] = sys.argv[1:]; name = sys.argv[0]\n" + (
    "try: runpy.run_path(name, run_name='__main__')\n"
    "finally: assert not {'edgekit', 'torch', 'onnx', 'tensorflow'} & {*sys.modules}, 'more than numpy and one runtime'"
)
"""Runs a program of the package with nothing of the clone on its path."""


def program(python: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-I", "-W", "ignore", "-c", ALONE, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "kind", ["grey", "colour", "cubic", "letterbox", "nearest", "audio", "running", "text", "table", "series"]
)
def test_preprocessing_is_edgekits(kind: str, make: Callable[..., Path], tmp_path: Path) -> None:
    edgekit.package(make(kind, "onnx"), for_="python", out=tmp_path / "app")
    done = program(sys.executable, tmp_path / "app", "selftest.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["passed", "passed"]


@pytest.mark.parametrize(("kind", "quantized"), [("table", False), ("audio", False), ("table", True)])
def test_runs_with_numpy_1_and_tflite_runtime(
    kind: str, quantized: bool, make: Callable[..., Path], tmp_path: Path, other_python: str
) -> None:
    edgekit.package(make(kind, "tflite", quantized=quantized), for_="python", out=tmp_path / "app")
    done = program(other_python, tmp_path / "app", "selftest.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_selftest_can_fail(make: Callable[..., Path], tmp_path: Path) -> None:
    edgekit.package(make("table", "onnx"), for_="python", out=tmp_path / "app")
    spec = json.loads((tmp_path / "app" / "spec.json").read_text())
    spec["inputs"][0]["rule"]["factor"][2] *= 1.01
    (tmp_path / "app" / "spec.json").write_text(json.dumps(spec))
    done = program(sys.executable, tmp_path / "app", "selftest.py")
    assert done.returncode == 1
    assert "FAILED: preprocessing of x" in done.stdout


def test_answers_are_those_of_run(make: Callable[..., Path], tmp_path: Path) -> None:
    model = make("table", "onnx", "classification", ("ant", "bee", "cat", "dög"))
    edgekit.package(model, for_="python", out=tmp_path / "app")
    (tmp_path / "in.csv").write_text("d,c,b,a\n4.5,2,3,1\n", encoding="utf-8")
    (answer,) = edgekit.run(model, tmp_path / "in.csv", top=4).answers
    code = "import sys; sys.path.insert(0, '.'); import model, json; m = model.Model()\n" + (
        "found = m.predict(model.read(sys.argv[1], m.inputs[0]['rule'])); print(json.dumps(found))"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "in.csv")]
    done = subprocess.run(command, cwd=tmp_path / "app", capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert [label for label, _ in found] == [one.label for one in answer.top]
    np.testing.assert_allclose([p for _, p in found], [one.probability for one in answer.top], rtol=1e-12)
