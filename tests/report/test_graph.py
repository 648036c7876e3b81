"""The drawing of a model's operators: a well-formed SVG with a box for each and an edge for each tensor read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A branch that is joined again, with names that HTML would read as tags."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="<first>"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Transpose", ["a"], ["c"], name="turn", perm=[0, 1]),
        helper.make_node("Add", ["b", "c"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], [weight],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_every_operator_and_every_edge(model: Path, tmp_path: Path) -> None:
    edgekit.inspect(model, graph=tmp_path / "m.svg")
    drawn = ET.parse(tmp_path / "m.svg").getroot()
    heads = Counter(group.findall(f"{SVG}text")[0].text for group in drawn.iter(f"{SVG}g"))
    assert heads == Counter({"x": 1, "MatMul": 1, "Relu": 1, "Transpose": 1, "Add": 1, "y": 1})
    assert len(list(drawn.iter(f"{SVG}path"))) == 6  # x-MatMul, MatMul to two, two to Add, Add-y
    tops = {group.find(f"{SVG}title").text: float(group.find(f"{SVG}rect").get("y")) for group in drawn.iter(f"{SVG}g")}  # type: ignore[union-attr, arg-type]
    assert tops["MatMul <first>"] < tops["Relu relu"] == tops["Transpose turn"] < tops["Add sum"]
    assert "1×4 float32" in (tmp_path / "m.svg").read_text(encoding="utf-8")


def test_a_page_needs_nothing_else(model: Path, tmp_path: Path) -> None:
    edgekit.inspect(model, graph=tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and "<first>" not in page


def test_a_tflite_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3)), torch.zeros(1, 6)\n"
    )
    edgekit.export(f"{tmp_path / 'net.py'}:build", to=["tflite"], out=tmp_path)
    edgekit.inspect(tmp_path / "build.tflite", graph=tmp_path / "t.svg")
    drawn = ET.parse(tmp_path / "t.svg").getroot()
    kinds = [group.findall(f"{SVG}text")[0].text for group in drawn.iter(f"{SVG}g")]
    assert kinds.count("FULLY_CONNECTED") == 2 and len(list(drawn.iter(f"{SVG}path"))) == len(kinds) - 1


def test_another_suffix_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.svg or \.html"):
        edgekit.inspect(tmp_path / "nothing.onnx", graph=tmp_path / "m.png")
    assert not list(tmp_path.iterdir())
