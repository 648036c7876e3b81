"""GELU in parts becomes one operator of int8 files, whatever its spelling; what only looks like it does not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgekit.converters.newer_opset import opset_of
from edgekit.quantization.onnx import gelu
from edgekit.quantization.onnx.prepare import prepared

from ..onnx_files import FLOAT, decibels, normal, onnx_file, quantized_onnx, run_onnx

pytestmark = pytest.mark.usefixtures("kept_workers")

node = helper.make_node
NUMBERS = {"root2": 2**0.5, "over2": 0.5**0.5, "one": 1, "half": 0.5, "cube": 3, "c": 0.044715, "d": (2 / np.pi) ** 0.5}
_ERF = [node("Erf", ["b"], ["e"]), node("Add", ["e", "one"], ["f"])]
_TANH = [
    node("Mul", ["c", "p"], ["q"]),
    node("Add", ["a", "q"], ["r"]),
    node("Mul", ["r", "d"], ["s"]),
    node("Tanh", ["s"], ["t"]),
    node("Add", ["one", "t"], ["f"]),
]
_HALF_INSIDE = [node("Mul", ["half", "f"], ["h"]), node("Mul", ["a", "h"], ["g"], "last")]
_HALF_FIRST = [node("Mul", ["a", "half"], ["h"]), node("Mul", ["h", "f"], ["g"], "last")]
_HALF_LAST = [node("Mul", ["a", "f"], ["h"]), node("Mul", ["h", "half"], ["g"], "last")]
SPELLINGS = {
    "torch": [node("Div", ["a", "root2"], ["b"]), *_ERF, *_HALF_INSIDE],
    "half first": [node("Div", ["a", "root2"], ["b"]), *_ERF, *_HALF_FIRST],
    "half last": [node("Mul", ["over2", "a"], ["b"]), *_ERF, *_HALF_LAST],
    "tanh, power": [node("Pow", ["a", "cube"], ["p"]), *_TANH, *_HALF_FIRST],
    "tanh, products": [node("Mul", ["a", "a"], ["o"]), node("Mul", ["o", "a"], ["p"]), *_TANH, *_HALF_INSIDE],
}
OTHERS = {
    "another slope": ([node("Mul", ["a", "half"], ["b"]), *_ERF, *_HALF_INSIDE], ["y"]),
    "twice of it": ([node("Div", ["a", "root2"], ["b"]), *_ERF, node("Mul", ["a", "f"], ["g"])], ["y"]),
    "read inside": (SPELLINGS["torch"], ["y", "e"]),
}


def network(path: Path, parts: list[Any], outputs: tuple[str, ...] = ("y",), opset: int = 17) -> Path:
    """Convolution -> ``parts`` from a to g -> convolution."""
    constants = {name: np.float32(value) for name, value in NUMBERS.items()}
    constants |= {"w": normal(0, 16, 3, 3, 3, by=0.3), "v": normal(1, 16, 16, 3, 3, by=0.1)}
    nodes = [node("Conv", ["x", "w"], ["a"]), *parts, node("Conv", ["g", "v"], ["y"])]
    return onnx_file(path, nodes, {"x": (FLOAT, ["n", 3, 8, 8])}, outputs, constants, opset)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(one.op_type for one in model.graph.node)


def feeds(count: int, seed: int = 1) -> list[dict[str, Any]]:
    return [{"x": normal(seed + k, 1, 3, 8, 8)} for k in range(count)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_any_spelling_becomes_the_operator(tmp_path: Path, spelling: str) -> None:
    path = network(tmp_path / "m.onnx", SPELLINGS[spelling])
    whole = prepared(path, between_integers=True)
    assert kinds(whole) == {"Conv": 2, "Gelu": 1} and opset_of(whole) == gelu.OPSET
    assert "last" in [one.name for one in whole.graph.node]
    feed = {"x": normal(7, 3, 3, 8, 8, by=3)}
    assert decibels(run_onnx(path, feed), run_onnx(whole, feed)) > 110


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_gelu_stays(tmp_path: Path, other: str) -> None:
    parts, outputs = OTHERS[other]
    path = network(tmp_path / "m.onnx", parts, tuple(outputs))
    found = prepared(path, between_integers=True)
    assert kinds(found) == kinds(onnx.load(path)) and opset_of(found) == 17


def test_onnxruntime_runs_the_int8_file_with_the_function_whole(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", SPELLINGS["torch"])
    made = quantized_onnx(path, "int8", feeds(32))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    loaded = kinds(onnx.load(options.optimized_model_filepath))
    assert (
        loaded["Gelu"] == 1 and loaded["QLinearConv"] == 2 and not loaded.keys() & {"Erf", "Div", "Mul", "QLinearMul"}
    )
    assert min(decibels(run_onnx(path, feed), run_onnx(made, feed)) for feed in feeds(4, 900)) > 25


@pytest.mark.parametrize("scheme", ["int8-dynamic", "int8-weights", "fp16"])
def test_files_without_integers_between_keep_parts_and_opset(tmp_path: Path, scheme: str) -> None:
    path = network(tmp_path / "m.onnx", SPELLINGS["torch"])
    made = onnx.load(quantized_onnx(path, scheme, feeds(2)))
    assert kinds(made)["Erf"] == 1 and opset_of(made) == 17


def test_a_file_that_onnx_cannot_raise_stays_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a conversion that computes something else is refused."""
    monkeypatch.setattr("edgekit.quantization.onnx.opset.TOLERANCE", -1.0)
    path = network(tmp_path / "m.onnx", SPELLINGS["torch"])
    assert kinds(prepared(path, between_integers=True))["Erf"] == 1


def test_operators_keep_the_module_they_came_from(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", SPELLINGS["torch"])
    model = onnx.load(path)
    for one in model.graph.node:
        one.metadata_props.add(key="from", value=one.op_type)
    onnx.save(model, path)
    origins = [one.metadata_props[0].value for one in prepared(path, between_integers=True).graph.node]
    assert origins == ["Conv", "Mul", "Conv"]
