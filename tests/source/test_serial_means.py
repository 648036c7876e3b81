"""Means that are added up one number after the other: those of TFLite's kernel, in torch and in ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgekit.adapter import adapt
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.quality.parity import MOST
from edgekit.quality.rounding import own_rounding
from edgekit.source import resolve
from edgekit.source.serial_means import serial_mean, serial_means
from edgekit.types import Card, Network, Task

VALUES = np.full((1, 2, 56, 56), 0.1, np.float32)


def test_a_mean_of_equal_numbers_is_off_as_in_the_kernel() -> None:
    """By hand: the running sum in float32, divided once. In blocks it is exact to the last bit but one."""
    total = np.float32(0)
    for _ in range(56 * 56):
        total = np.float32(total + np.float32(0.1))
    found = serial_mean(VALUES.astype(np.float64), (2, 3), True)
    assert found.shape == (1, 2, 1, 1) and found.dtype == np.float64
    assert found[0, 0, 0, 0] == np.float32(total / np.float32(56 * 56))
    assert abs(found[0, 0, 0, 0] - 0.1) > 1e-6 > 10 * abs(float(VALUES.mean()) - float(np.float32(0.1)))
    assert serial_mean(VALUES, None, False).shape == ()
    assert np.array_equal(serial_mean(VALUES, (-1, -2), False), found[..., 0, 0])


class Amplified(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1) * 1000 - 100


def test_the_rounding_of_a_torch_module_is_that_of_the_kernel() -> None:
    module, examples, signature = adapt(Amplified(), (torch.from_numpy(VALUES),), {})
    capture = Capture(Network(module, examples, Card("a", "custom", Task(), signature)), ConversionOptions())
    (name,) = examples
    (found,) = own_rounding(capture, {name: VALUES}).values()
    wanted = 1000 * abs(serial_mean(VALUES, (2, 3), False)[0, 0] - float(np.float32(0.1)))
    assert found == pytest.approx(wanted, rel=1e-3)
    with torch.no_grad():
        plain = torch.from_numpy(VALUES).double().mean((2, 3))
        with serial_means():
            assert not torch.equal(torch.from_numpy(VALUES).double().mean((2, 3)), plain)
        assert torch.equal(torch.from_numpy(VALUES).double().mean((2, 3)), plain)


@pytest.mark.parametrize(("operator", "opset"), [("GlobalAveragePool", 17), ("ReduceMean", 13), ("ReduceMean", 18)])
def test_that_of_an_onnx_file_too(operator: str, opset: int, tmp_path: Path) -> None:
    number = TensorProto.FLOAT
    axes = {"axes": [2, 3]} if (operator, opset) == ("ReduceMean", 13) else {}
    given = ["x", "axes"] if (operator, opset) == ("ReduceMean", 18) else ["x"]
    graph = helper.make_graph(
        [helper.make_node(operator, given, ["mean"], **axes), helper.make_node("Mul", ["mean", "factor"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", number, VALUES.shape)],
        [helper.make_tensor_value_info("y", number, (1, 2, 1, 1))],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]), helper.make_tensor("factor", number, [], [1000])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    capture = Capture(resolve(tmp_path / "net.onnx"), ConversionOptions())
    (found,) = own_rounding(capture, {"x": VALUES}).values()
    wanted = 1000 * abs(serial_mean(VALUES, (2, 3), False)[0, 0] - float(np.float32(0.1)))
    assert found == pytest.approx(wanted, rel=1e-2) and found > MOST * 0.1
