"""JUnit's XML: of gates that hold, that say no, and of commands that could not ask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import edgekit
from edgekit.cli.program import run
from edgekit.report.junit import junit
from edgekit.results.checks import Check


@pytest.fixture(scope="module")
def mlp_onnx(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The shipped mlp, exported."""
    return once("mlp-onnx", lambda folder: edgekit.export("mlp", to=["onnx"], out=folder)) / "mlp.onnx"


def cases(path: Path) -> dict[str, str]:
    """Name of a test case -> ``passed``, ``failure`` or ``error``."""
    root = ET.parse(path).getroot()
    found = {case.get("name", ""): next((child.tag for child in case), "passed") for case in root.iter("testcase")}
    assert root.get("tests") == str(len(found))
    assert root.get("failures") == str(sum(kind == "failure" for kind in found.values()))
    assert root.get("errors") == str(sum(kind == "error" for kind in found.values()))
    return found


def test_what_is_written_is_xml_whatever_a_name_holds() -> None:
    hostile = Check('<script>alert("x")</script>\x1b[31m]]>', "a & b\nsecond\x00")
    root = ET.fromstring(junit("edgekit verify", [hostile, Check("fine")], 1.5))
    first, second = root.iter("testcase")
    assert first.get("name", "").startswith('<script>alert("x")</script>') and "\x1b" not in first.get("name", "")
    assert [child.tag for child in first] == ["failure"] and list(second) == []
    assert root.get("time") == "1.500"


def test_each_case_of_a_proof_is_a_test_case(mlp_onnx: Path, tmp_path: Path) -> None:
    place = tmp_path / "verify.xml"
    assert run(["verify", str(mlp_onnx), "--against", str(mlp_onnx), "--junit", str(place), "-q"]) == 0
    found = cases(place)
    assert len(found) > 3 and set(found.values()) == {"passed"}


def test_a_gate_that_says_no_is_a_failure(mlp_onnx: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    draw = np.random.default_rng(0)
    np.savez(data, inputs=draw.random((20, 30), np.float32), labels=draw.integers(0, 2, 20))
    place = tmp_path / "eval.xml"
    words = ["eval", str(mlp_onnx), "--data", f"npz:{data}", "--min", "1", "--junit", str(place), "-q"]
    assert run(words) == 1
    assert list(cases(place).values()) == ["failure"]


@pytest.mark.parametrize(("words", "code"), [(["inspect", "nothing.onnx"], 3), (["eval", "nothing.onnx"], 2)])
def test_a_command_that_cannot_ask_is_an_error(words: list[str], code: int, tmp_path: Path) -> None:
    place = tmp_path / "out.xml"
    assert run([*words, "--junit", str(place)]) == code
    assert cases(place) == {"ended well": "error"}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(mlp_onnx: Path, tmp_path: Path) -> None:
    for place in (str(tmp_path), str(tmp_path / "no" / "out.xml"), "-"):
        assert run(["inspect", str(mlp_onnx), "--junit", place]) == 2
    assert list(tmp_path.iterdir()) == []
