"""Transposed convolutions in TFLite: a dense layer on one pixel, and biases in the shape that XNNPACK takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_tflite import TorchToTflite
from edgekit.converters.transposed import flat_biases
from edgekit.types import Network

Layers = Callable[[], list[nn.Module]]


def trained(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """With statistics and scales that are not those of a new layer."""
    for values in (norm.running_mean, norm.weight, norm.bias):
        assert values is not None
        nn.init.normal_(values, 0.3)
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm


def convert(network_of: Callable[..., Network], layers: Layers, path: Path, **options: Any) -> tuple[Any, Interpreter]:
    torch.manual_seed(0)
    network = network_of(nn.Sequential(*layers()), torch.randn(1, 6, 1, 1))
    capture = Capture(network, ConversionOptions(**options))
    TorchToTflite().convert(capture, path)
    return capture, Interpreter(model_path=str(path))


def operators(interpreter: Interpreter) -> Counter[str]:
    """Of the file itself, without what a delegate makes of it."""
    return Counter(row["op_name"] for row in interpreter._get_ops_details() if row["op_name"] != "DELEGATE")


def outputs(interpreter: Interpreter, x: Any) -> Any:
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def agree(capture: Any, interpreter: Interpreter, batch: int = 1) -> bool:
    x = np.random.default_rng(1).standard_normal((batch, 6, 1, 1)).astype(np.float32)
    (name,) = (spec.name for spec in capture.signature.inputs)
    (wanted,) = capture.reference({name: x}).values()
    return np.allclose(outputs(interpreter, x), wanted, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.ConvTranspose2d(6, 5, 4)],
        lambda: [nn.ConvTranspose2d(6, 5, 4, bias=False)],
        lambda: [nn.ConvTranspose2d(6, 5, (3, 2), stride=2), nn.ReLU()],
        lambda: [nn.ConvTranspose2d(6, 5, 4, bias=False), trained(nn.BatchNorm2d(5)), nn.ReLU()],
        lambda: [nn.ConvTranspose2d(6, 5, 4), trained(nn.BatchNorm2d(5)), nn.ConvTranspose2d(5, 3, 4, 2, 1)],
    ],
)
def test_one_pixel_is_a_dense_layer(layers: Layers, network_of: Callable[..., Network], tmp_path: Path) -> None:
    capture, interpreter = convert(network_of, layers, tmp_path / "m.tflite")
    found = operators(interpreter)
    assert found["FULLY_CONNECTED"] == 1
    assert not {"CONV_2D", "PAD", "MUL", "SUB"} & found.keys()
    assert agree(capture, interpreter)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.ConvTranspose2d(6, 4, 4, groups=2)],
        lambda: [nn.ConvTranspose2d(6, 4, 4, padding=1)],
        lambda: [nn.ConvTranspose2d(6, 4, 3, dilation=2)],
    ],
)
def test_what_is_not_a_dense_layer_stays(layers: Layers, network_of: Callable[..., Network], tmp_path: Path) -> None:
    capture, interpreter = convert(network_of, layers, tmp_path / "m.tflite")
    assert "FULLY_CONNECTED" not in operators(interpreter)
    assert agree(capture, interpreter)


def test_two_readers_of_the_layer_keep_its_own_values(network_of: Callable[..., Network], tmp_path: Path) -> None:
    """The normalisation must not go into weights that another reader takes as they were."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.norm = nn.ConvTranspose2d(6, 5, 4), trained(nn.BatchNorm2d(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(B, 6, 1, 1) -> (B, 5, 4, 4)"""
            y = self.up(x)
            return y + self.norm(y)

    capture, interpreter = convert(network_of, lambda: [Two()], tmp_path / "m.tflite")
    assert agree(capture, interpreter)


def test_a_free_batch_stays(network_of: Callable[..., Network], tmp_path: Path) -> None:
    layers = lambda: [nn.ConvTranspose2d(6, 5, 4), nn.ReLU()]  # noqa: E731
    capture, interpreter = convert(network_of, layers, tmp_path / "m.tflite", dynamic={"input": {0: "batch"}})
    assert "FULLY_CONNECTED" not in operators(interpreter)
    assert agree(capture, interpreter, batch=3)


def test_biases_have_one_axis(network_of: Callable[..., Network], tmp_path: Path) -> None:
    layers = lambda: [nn.Upsample(scale_factor=2), nn.ConvTranspose2d(6, 5, 4, 2, 1)]  # noqa: E731
    capture, interpreter = convert(network_of, layers, tmp_path / "m.tflite")
    (row,) = (row for row in interpreter._get_ops_details() if row["op_name"] == "TRANSPOSE_CONV")
    (bias,) = (t for t in interpreter.get_tensor_details() if t["index"] == row["inputs"][3])
    assert list(bias["shape"]) == [5]
    assert agree(capture, interpreter)
    content = (tmp_path / "m.tflite").read_bytes()
    assert flat_biases(content) == content  # nothing is left to do


class Paddings(nn.Module):
    """Paddings, output paddings and dilations that TFLite's operator does not have, side by side."""

    LAYERS = (
        ((8, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}),  # of a U-Net
        ((8, 4, 5), {"stride": 2, "padding": 2, "output_padding": 1}),  # of a DCGAN
        ((8, 4, 3), {"stride": 2, "padding": 1}),
        ((8, 4, 3), {"stride": 3, "padding": 1, "output_padding": 2}),  # more places than the kernel reaches
        ((8, 4, (3, 5)), {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0), "bias": False}),
        ((8, 4, 3), {"stride": 2, "dilation": 2, "padding": 1}),
        ((8, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
        ((8, 4, 4), {"stride": 2, "padding": 1}),  # as it is
    )

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ConvTranspose2d(*shape, **given) for shape, given in self.LAYERS)
        self.line = nn.ConvTranspose1d(8, 4, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*(layer(x) for layer in self.layers), self.line(x.flatten(2)))


def test_every_padding_is_written(network_of: Callable[..., Network], tmp_path: Path) -> None:
    torch.manual_seed(0)
    capture = Capture(network_of(Paddings(), torch.randn(1, 8, 6, 5)), ConversionOptions())
    TorchToTflite().convert(capture, tmp_path / "m.tflite")
    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    runner = interpreter.get_signature_runner()
    x = np.random.default_rng(1).standard_normal((1, 8, 6, 5)).astype(np.float32)
    (name,) = (spec.name for spec in capture.signature.inputs)
    wanted, found = capture.reference({name: x}), runner(**{name: x})
    for output, value in wanted.items():
        np.testing.assert_allclose(found[output], value, atol=1e-5)  # float32 sums in another order


def test_a_cut_convolution_takes_free_sizes(network_of: Callable[..., Network], tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
    network = network_of(nn.Sequential(layer), torch.randn(1, 8, 6, 6))
    (spec,) = network.signature.inputs
    capture = Capture(network, ConversionOptions(dynamic={spec.name: {0: "batch"}}))
    TorchToTflite().convert(capture, tmp_path / "m.tflite")
    x = np.random.default_rng(1).standard_normal((3, 8, 6, 6)).astype(np.float32)
    (wanted,) = capture.reference({spec.name: x}).values()
    np.testing.assert_allclose(outputs(Interpreter(model_path=str(tmp_path / "m.tflite")), x), wanted, atol=1e-5)
