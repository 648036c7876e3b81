"""``ceil_mode`` pooling over free sizes: the captured program is the module at every size, and so is its ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.adapter import adapt
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_onnx import TorchToOnnx
from edgekit.errors import ConversionError
from edgekit.types import Card, Network, Task


class Functional(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return F.max_pool2d(F.avg_pool2d(input, 3, 2, 1, True), kernel_size=2, ceil_mode=True)


POOLS = [
    nn.MaxPool2d(2, 2, ceil_mode=True),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.MaxPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True),
    nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d(2, 2, ceil_mode=True, divisor_override=3),
    Functional(),
    nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(2, 2, 3), nn.AvgPool2d(2, ceil_mode=True)),
]


def captured(module: nn.Module, free: bool = True) -> Capture:
    module, inputs, signature = adapt(module, (torch.randn(1, 2, 20, 23),), {})
    network = Network(module, inputs, Card("n", "custom", Task(), signature))
    return Capture(network, ConversionOptions({"input": {2: "h", 3: "w"}} if free else {}))


@pytest.mark.parametrize("module", POOLS, ids=str)
def test_it_is_the_module_at_every_size(module: nn.Module) -> None:
    program = captured(module).program.module()
    for height in range(16, 22):
        x = torch.randn(1, 2, height, 37 - height)
        torch.testing.assert_close(program(x), module(x), rtol=0, atol=1e-6)  # sums in another order


def test_with_fixed_sizes_the_pooling_stays() -> None:
    program = captured(nn.MaxPool2d(3, 2, 1, ceil_mode=True), free=False).program
    pools = [node for node in program.graph.nodes if "max_pool2d" in str(node.target)]
    assert [node.args[-1] for node in pools] == [True]
    assert not [node for node in program.graph.nodes if "pad" in str(node.target).rpartition(".")[0]]


def test_a_window_that_may_begin_behind_the_input_is_not_guessed() -> None:
    """A stride of 3 over a kernel of 2: how many windows there are is decided by the size."""
    with pytest.raises(ConversionError, match="leave that axis out"):
        _ = captured(nn.MaxPool2d(2, 3, ceil_mode=True)).program


def test_in_an_onnx_file(tmp_path: Path) -> None:
    module = POOLS[-1]
    TorchToOnnx().convert(captured(module), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    for height in (16, 19):
        x = torch.randn(1, 2, height, 40 - height)
        with torch.no_grad():
            wanted = module(x)
        (found,) = session.run(None, {"input": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=1e-5)  # float32 sums
