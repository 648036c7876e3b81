"""Networks of strangers through export and quantize to int8, judged by the bare runtimes on inputs nothing has seen."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.types import Array

pytestmark = pytest.mark.usefixtures("kept_workers")

SAMPLES, CALLS = 48, 4
LEAST_DB = 25.0
"""8 bits of a network of one or two layers leave 35 to 50."""


FILE = """
import torch
from torch import nn

class PaddedStem(nn.Module):
    # a maximum that is padded: with minus infinity, which no integer holds
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 24, 3), nn.ReLU()
        )
        self.last = nn.Linear(24, 8)

    def forward(self, x):
        return self.last(self.body(x).mean((2, 3)))

class GivenTwice(nn.Module):
    # one result under two names, and an input handed on
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 64)

    def forward(self, x):
        y = self.linear(x)
        return {"y": y, "again": y, "handed": x}

def padded_stem():
    torch.manual_seed(0)
    return PaddedStem().eval(), (torch.randn(1, 3, 20, 20),)

def given_twice():
    torch.manual_seed(0)
    return GivenTwice().eval(), (torch.randn(1, 32),)
"""


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
@pytest.mark.parametrize("name", ["padded_stem", "given_twice"])
def test_int8_is_near_the_network(name: str, format_: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(FILE)
    made: dict[str, Any] = runpy.run_path(str(tmp_path / "nets.py"))
    network, (example,) = made[name]()
    shape, rng = tuple(example.shape), np.random.default_rng(1)
    source = edgekit.export(f"{tmp_path / 'nets.py'}:{name}", to=[format_], out=tmp_path).artifacts[0].artifact
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(SAMPLES, *shape[1:])).astype(np.float32))
    target = tmp_path / f"q.{format_}"
    edgekit.quantize(source.path, scheme="int8", data=f"npz:{tmp_path / 'd.npz'}", out=target, seconds=0)
    bare = _onnx(target) if format_ == "onnx" else _tflite(target)
    wanted, found = [], []
    for _ in range(CALLS):
        x = rng.normal(size=shape).astype(np.float32)
        with torch.no_grad():
            given = network(torch.from_numpy(x))
        wanted.append([t.numpy() for t in (given.values() if isinstance(given, dict) else [given])])
        found.append(bare(x))
    for one, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        a, b = np.stack(one), np.stack(other)
        assert 10 * np.log10(np.square(a).sum() / max(np.square(a - b).sum(), 1e-12)) > LEAST_DB


def _onnx(path: Path) -> Callable[[Array], list[Array]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})


def _tflite(path: Path) -> Callable[[Array], list[Array]]:
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()

    def call(x: Array) -> list[Array]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(one["index"]).copy() for one in interpreter.get_output_details()]

    return call


@pytest.mark.parametrize("scheme", ["int8", "int8-weights"])
def test_what_chooses_the_branch_is_a_samples_own(scheme: str, tmp_path: Path) -> None:
    """A rate that the network asks for: for any other it takes a branch that its inputs do not fit, as silero-vad's."""
    random = np.random.default_rng(0)
    held = {"w": random.normal(0, 0.2, (64, 64)), "v": random.normal(0, 0.2, (32, 64))}
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in held.items()]
    branches = {}
    for branch, name in (("then_branch", "w"), ("else_branch", "v")):
        sides = [], [helper.make_tensor_value_info(f"y_{branch}", TensorProto.FLOAT, None)]
        branches[branch] = helper.make_graph([helper.make_node("MatMul", ["x", name], [f"y_{branch}"])], branch, *sides)
    nodes = [
        helper.make_node("Equal", ["rate", "known"], ["right"]),
        helper.make_node("If", ["right"], ["a"], **branches),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    weights.append(numpy_helper.from_array(np.array(16_000), "known"))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    samples = random.normal(size=(SAMPLES, 1, 64)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=samples, rate=np.full(SAMPLES, 16_000))
    target = tmp_path / "q.onnx"
    result = edgekit.quantize(
        tmp_path / "m.onnx", scheme=scheme, data=f"npz:{tmp_path / 'd.npz'}", out=target, seconds=0.1, allow_slower=True
    )
    assert result.document()["time"]["ratio_p50"] > 0
    fresh = {"x": random.normal(size=(1, 64)).astype(np.float32), "rate": np.array(16_000)}
    one, other = (onnxruntime.InferenceSession(str(path)).run(None, fresh)[0] for path in (tmp_path / "m.onnx", target))
    assert 10 * np.log10((one**2).mean() / ((one - other) ** 2).mean()) > LEAST_DB
