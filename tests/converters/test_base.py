"""The capture: layout, dynamic dimensions, names, and the card that files get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.converters.base import Capture, ConversionOptions, artifact_card, cause, own_prefix, quiet
from edgekit.errors import UnsupportedError, UsageError
from edgekit.types import Format, InputSpec, Network, Task


def test_channels_last_turns_inputs_signature_and_contract(small: Network) -> None:
    capture = Capture(small, ConversionOptions(channels_last=True))
    assert capture.signature.inputs[0].shape == (1, 8, 8, 3)
    assert capture.contract["image"].layout == "NHWC"
    assert small.card.contract["image"].layout == "NCHW"
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = small.module(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    assert np.allclose(capture.reference({"image": image})["output"], wanted, atol=1e-6)  # float32 rounding
    assert capture.prefix == "module."


@pytest.mark.parametrize(("task", "back"), [("segmentation", True), ("anomaly", True), ("none", False)])
def test_channels_last_gives_maps_and_images_back_as_it_takes_them(
    network_of: Callable[..., Network], task: str, back: bool
) -> None:
    contract = {"image": InputSpec("image", "NCHW", (6, 8), 3)}

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(image)
            return y, y.mean((2, 3))

    network = network_of(Maps(), torch.zeros(1, 3, 6, 8), contract=contract)
    network = replace(network, card=replace(network.card, task=Task(task)))
    capture = Capture(network, ConversionOptions(channels_last=True))
    image = np.random.default_rng(0).normal(size=(1, 6, 8, 3)).astype(np.float32)
    maps, means = capture.reference({"image": image}).values()
    with torch.no_grad():
        wanted = network.module(torch.from_numpy(image).permute(0, 3, 1, 2))[0].numpy()
    assert np.allclose(maps, wanted.transpose(0, 2, 3, 1) if back else wanted, atol=1e-6)  # float32 rounding
    assert [spec.shape for spec in capture.signature.outputs] == [maps.shape, means.shape]


def test_channels_last_leaves_alone_what_is_not_an_image(network_of: Callable[..., Network]) -> None:
    class Two(nn.Module):
        def forward(self, image: Tensor, grid: Tensor) -> Tensor:
            return image.mean((2, 3)) + grid.mean((2, 3))

    contract = {"image": InputSpec("image", "NCHW", (6, 8), 3)}
    given = network_of(Two(), torch.zeros(1, 3, 6, 8), torch.zeros(1, 3, 2, 2), contract=contract)
    capture = Capture(given, ConversionOptions(channels_last=True))
    assert [spec.shape for spec in capture.signature.inputs] == [(1, 6, 8, 3), (1, 3, 2, 2)]


def test_channels_last_of_an_image_that_is_so_already_is_refused(network_of: Callable[..., Network]) -> None:
    given = network_of(nn.Flatten(), torch.zeros(1, 6, 8, 3), contract={"input": InputSpec("image", "NHWC", (6, 8), 3)})
    with pytest.raises(UsageError, match="channels-last already"):
        Capture(given, ConversionOptions(channels_last=True))


def test_channels_last_without_an_image_is_refused(twelve: Network) -> None:
    with pytest.raises(UsageError, match="no input has rank 4"):
        Capture(twelve, ConversionOptions(channels_last=True))


def test_dynamic_dimensions_are_named_in_inputs_and_outputs(small: Network) -> None:
    capture = Capture(small, ConversionOptions(dynamic={"image": {0: "batch", 2: "h", 3: "w"}}))
    assert capture.signature.inputs[0].shape == ("batch", 3, "h", "w")
    assert capture.signature.outputs[0].shape == ("batch", 4)
    assert capture.examples[0].shape == (2, 3, 8, 8)  # torch.export takes a size of 1 for a constant


def test_a_dimension_that_does_not_go_down_to_one_says_so(small: Network) -> None:
    capture = Capture(small, ConversionOptions(dynamic={"image": {0: "batch", 2: "h", 3: "w"}}))
    assert capture.program is not None
    assert capture.minimum == {"h": 3, "w": 3}  # a stride of 2 on 1 or 2 pixels leaves one, which torch specialises
    assert [note.split(" is ")[0] for note in capture.notes] == ["dimension 'h'", "dimension 'w'"]


def test_a_dimension_that_ends_with_a_table_says_so(network_of: Callable[..., Network]) -> None:
    class Places(nn.Module):
        """A table of 12 positions, as a text encoder has."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(12, 4))

        def forward(self, x: Tensor) -> Tensor:
            """(B, T, 4) -> (B, T, 4), T up to 12"""
            return x + self.table[: x.shape[1]]

    capture = Capture(network_of(Places(), torch.randn(1, 3, 4)), ConversionOptions(dynamic={"x": {1: "time"}}))
    assert capture.program is not None
    assert capture.maximum == {"time": 12}
    assert capture.notes == ("dimension 'time' goes up to 12 in the network",)


def test_an_output_size_that_follows_from_a_dimension_is_an_expression(network_of: Callable[..., Network]) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((x, x), 0)

    capture = Capture(network_of(Twice(), torch.zeros(1, 3)), ConversionOptions(dynamic={"x": {0: "n"}}))
    assert capture.signature.outputs[0].shape == ("2*n", 3)


@pytest.mark.parametrize(
    ("dynamic", "said"),
    [
        ({"picture": {0: "n"}}, "names the input 'picture'; the network has: image"),
        ({"image": {4: "n"}}, "axis 4 of 'image', which has 4 axes"),
        ({"image": {0: "a b"}}, "calls an axis 'a b'"),
    ],
)
def test_wrong_dynamic_axes_are_refused(small: Network, dynamic: dict[str, dict[int, str]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Capture(small, ConversionOptions(dynamic=dynamic))


def test_what_torch_cannot_capture_is_said_with_the_line(network_of: Callable[..., Network]) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match=r"cannot capture 'net'.*test_base\.py:\d+"):
        _ = Capture(network_of(Branch(), torch.zeros(1, 3)), ConversionOptions()).program


def test_an_axis_that_the_network_fixes_is_said(network_of: Callable[..., Network]) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(4, 3)

    capture = Capture(network_of(Fixed(), torch.zeros(4, 3)), ConversionOptions(dynamic={"x": {0: "n"}}))
    with pytest.raises(UnsupportedError, match=r"n = 4|constant \(4\)|marked n as dynamic"):
        _ = capture.program


def test_the_card_of_a_tflite_file_has_32_bit_integers(twelve: Network) -> None:
    capture = Capture(twelve, ConversionOptions())
    assert artifact_card(capture, Format.TFLITE).signature.inputs[0].dtype == "int32"
    assert artifact_card(capture, Format.TFLITE).signature.outputs[-1].dtype == "int32"
    assert artifact_card(capture, Format.ONNX).signature.inputs[0].dtype == "int64"


def test_prefixes_of_adapters_add_up(small: Network) -> None:
    assert own_prefix(small.module) == ""
    assert own_prefix(Capture(small, ConversionOptions(channels_last=True)).module) == "module."


def test_quiet_keeps_what_python_prints(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("noise")
    print("heard")
    assert capsys.readouterr().out == "heard\n"


def test_the_innermost_cause_is_named() -> None:
    try:
        try:
            raise ValueError("the real reason\nand more")
        except ValueError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        assert cause(error) == "ValueError: the real reason"
