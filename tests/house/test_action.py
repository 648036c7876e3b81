"""The GitHub action, its steps run as a runner would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

import edgekit

pytestmark = pytest.mark.slow
_EXPRESSION = re.compile(r"\$\{\{\s*([^}]+?)\s*\}\}")


class Runner:
    """A composite action: expressions of inputs and outputs, one bash a step, ``always()`` after a failure."""

    def __init__(self, root: Path, folder: Path, program: str) -> None:
        self.action: dict[str, Any] = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))
        self.folder = folder
        self.path = os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])
        self.summary = folder / "summary.md"

    def run(self, **given: str) -> dict[str, int]:
        """Step -> exit code, of the steps that ran. ``given``: inputs."""
        inputs = {name: str(one.get("default", "")) for name, one in self.action["inputs"].items()}
        values = {f"inputs.{name}": value for name, value in (inputs | given).items()}
        codes: dict[str, int] = {}
        for number, step in enumerate(self.action["runs"]["steps"]):
            condition = step.get("if", "")
            if "uses" in step or "install == 'true'" in condition or (any(codes.values()) and condition != "always()"):
                continue
            output = self.folder / f"output-{number}"
            output.touch()
            settings = {name: self._filled(text, values) for name, text in step.get("env", {}).items()}
            names = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.summary), "PATH": self.path}
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            done = subprocess.run(command, cwd=self.folder, env={**os.environ, **settings, **names}, check=False)
            codes[step["name"]] = done.returncode
            for line in output.read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition("=")
                values[f"steps.{step['id']}.outputs.{name}"] = value
        return codes

    @staticmethod
    def _filled(text: str, values: dict[str, str]) -> str:
        return _EXPRESSION.sub(lambda found: values[found[1]], text)


@pytest.fixture
def runner(root: Path, tmp_path: Path, edgekit_program: str) -> Runner:
    return Runner(root, tmp_path, edgekit_program)


@pytest.fixture(scope="module")
def shipped(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The file that is shipped now."""
    return once("action-shipped", lambda folder: edgekit.export("mlp", to=["onnx"], out=folder)) / "mlp.onnx"


def slower(source: Path, target: Path) -> None:
    """The same network with products of no consequence beside it."""
    model = onnx.load(str(source))
    size = 512
    wide = numpy_helper.from_array(np.eye(size, dtype=np.float32), "waste")
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{one}_before" if one == name else one for one in node.output]
    before = f"{name}_before"
    nodes = [
        helper.make_node("ReduceSum", [before], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "waste"], ["t0"]),
        *(helper.make_node("MatMul", [f"t{k}", "waste"], [f"t{k + 1}"]) for k in range(6)),
        helper.make_node("ReduceMax", ["t6"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["no"]),
        helper.make_node("Add", [before, "no"], [name]),
    ]
    model.graph.initializer.extend([wide, numpy_helper.from_array(np.float32(0), "zero")])
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def test_a_slower_file_fails_and_a_copy_passes(runner: Runner, shipped: Path, tmp_path: Path) -> None:
    """The gate is wide, so that a busy machine changes nothing."""
    shutil.copy(shipped, tmp_path / "copy.onnx")
    slower(shipped, tmp_path / "slower.onnx")
    asked = {"data": "breast-cancer", "scheme": "float", "baseline": str(shipped), "seconds": "0.5", "fail-slower": "60"}
    codes = runner.run(source="copy.onnx", out="same", **asked)
    assert set(codes.values()) == {0} and len(codes) == 4
    assert "Gate of 60%: **passed**" in runner.summary.read_text()
    assert (tmp_path / "same" / "report.html").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "same").glob("*.xml")} == {"eval.xml", "bench.xml"}
    codes = runner.run(source="slower.onnx", out="other", **asked)
    assert codes["Time it beside the baseline"] == 1 and codes["Summary and page"] == 0
    assert "**slower**" in runner.summary.read_text()
    root = ET.parse(tmp_path / "other" / "bench.xml").getroot()
    (failure,) = root.iter("failure")
    assert "slower by more than 60%" in failure.get("message", "")


def test_a_network_is_exported_proved_and_quantized(runner: Runner, tmp_path: Path) -> None:
    codes = runner.run(source="mlp", data="breast-cancer", format="tflite", min="0.9", seconds="0.1",
                       **{"scheme": "int8-weights", "max-drop": "0.02"})  # fmt: skip
    assert set(codes.values()) == {0}
    made = tmp_path / "edgekit-ci"
    assert (made / "model-int8-weights.tflite").exists()
    assert {path.stem for path in made.glob("*.xml")} == {"export", "quantize", "eval", "bench"}
    codes = runner.run(source="mlp", data="breast-cancer", min="1", seconds="0.1", scheme="float", out="strict")
    assert codes["Measure the quality"] == 1 and "Time it beside the baseline" not in codes
