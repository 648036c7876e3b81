"""Networks of strangers through export and quantize to int8, judged by the bare runtimes on inputs nothing has seen."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

import edgekit
from edgekit.types import Array

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
    edgekit.quantize(source.path, scheme="int8", data=f"npz:{tmp_path / 'd.npz'}", out=target)
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
