"""Modules that people have and that are awkward to convert: numbers for inputs, a forward that changes its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.adapter import adapt, plain_module
from edgekit.errors import SourceError

pytestmark = pytest.mark.usefixtures("kept_workers")

SOURCE = """
import torch
from torch import nn

class Steps(nn.Module):
    "A number without axes: the time step of a denoiser."
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
    def forward(self, x, t):
        return self.linear(x) * t

class InPlace(nn.Module):
    "Normalises its input where it lies."
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)
    def forward(self, x):
        x.sub_(0.45).div_(0.225)
        return self.linear(x)

def steps():
    torch.manual_seed(0)
    return Steps().eval(), (torch.randn(1, 16), torch.tensor(0.5))

def in_place():
    torch.manual_seed(0)
    return InPlace().eval(), (torch.rand(1, 16),)

def traced():
    return torch.jit.trace(nn.Linear(16, 4).eval(), torch.randn(1, 16)), (torch.randn(1, 16),)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("awkward") / "nets.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("to", ["onnx", "tflite", "pt2"])
def test_a_number_without_axes(source: Path, tmp_path: Path, to: str) -> None:
    made = edgekit.export(f"{source}:steps", to=[to], out=tmp_path).artifacts[0]
    assert made.artifact.card is not None
    assert [spec.shape for spec in made.artifact.card.signature.inputs] == [(1, 16), ()]
    x = np.ones((1, 16), np.float32)
    with edgekit.load(made.artifact.path) as runner:
        one, two = (next(iter(runner.run({"x": x, "t": np.array(t, np.float32)}).values())) for t in (1, 2))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


@pytest.mark.parametrize("to", ["onnx", "tflite", "pt2"])
def test_a_forward_that_changes_its_input(source: Path, tmp_path: Path, to: str) -> None:
    made = edgekit.export(f"{source}:in_place", to=[to], out=tmp_path).artifacts[0]
    given = np.random.default_rng(0).random((1, 16)).astype(np.float32)
    feed = {"x": given.copy()}
    with edgekit.load(made.artifact.path) as runner:
        first, second = (next(iter(runner.run(feed).values())) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(feed["x"], given)


def test_example_inputs_are_those_that_were_given() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(3)

    x = torch.ones(1, 4)
    _, examples, _ = adapt(InPlace(), (x,), {})
    assert examples["x"].tolist() == [[1, 1, 1, 1]]
    assert x.tolist() == [[1, 1, 1, 1]]


def test_a_traced_module_is_refused_with_what_to_give(edgekit_cli: Any, source: Path, tmp_path: Path) -> None:
    done = edgekit_cli("export", f"{source}:traced", "--to", "onnx", "-o", tmp_path)
    assert done.code == 3
    assert "the network is TorchScript" in done.err
    assert "give the Python module it was made from" in done.err


@pytest.mark.parametrize("how", ["scripted", "part"])
def test_torchscript_in_whole_or_in_part(how: str) -> None:
    scripted = torch.jit.script(nn.Linear(4, 4))
    module: nn.Module = scripted if how == "scripted" else nn.Sequential(nn.ReLU(), scripted)
    with pytest.raises(SourceError, match="the network is TorchScript" if how == "scripted" else "its part '1' is"):
        adapt(module, (torch.ones(1, 4),), {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_module_is_refused_with_what_to_do() -> None:
    module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(SourceError, match=r"its part '0' is quantized already .*quantize the file"):
        adapt(module, (torch.ones(1, 4),), {})


def test_compiled_and_parallel_modules_are_taken_out() -> None:
    inner = nn.Sequential(nn.Linear(4, 4))
    assert plain_module(torch.compile(inner)) is inner  # type: ignore[arg-type]
    assert plain_module(nn.DataParallel(inner)) is inner
    module, _, _ = adapt(torch.compile(inner), (torch.ones(1, 4),), {})  # type: ignore[arg-type]
    assert list(module.state_dict()) == ["0.weight", "0.bias"]
