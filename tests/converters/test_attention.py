"""Attention with masks: a row that sees nothing is zero in every format, and masks that are constants cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention

import edgekit
from edgekit import registry
from edgekit.converters.attention import guard_masks
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.types import Network

pytestmark = pytest.mark.usefixtures("kept_workers")


class Padded(nn.Module):
    """Keys that a padding mask leaves out, as a boolean mask or as numbers that are added."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.added = added

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, 8), (B, L) integers -> (B, L, 8)"""
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.project(x).chunk(3, -1))
        keep: Tensor = (mask > 0)[:, None, None, :]
        if self.added:
            keep = torch.zeros_like(keep, dtype=x.dtype).masked_fill(~keep, float("-inf"))
        return attention(q, k, v, attn_mask=keep).transpose(1, 2).flatten(2)


class Causal(nn.Module):
    """A mask that is a constant of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.register_buffer("mask", torch.ones(5, 5, dtype=torch.bool).tril())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).chunk(3, -1)
        return attention(q, k, v, attn_mask=self.mask)


def written(network: Network, to: str, folder: Path, **options: Any) -> tuple[Capture, Path]:
    capture, path = Capture(network, ConversionOptions(**options)), folder / f"m.{to}"
    registry.lookup("converters", to)().convert(capture, path)
    return capture, path


@pytest.mark.parametrize("to", ["onnx", "tflite", "pt2"])
@pytest.mark.parametrize("added", [False, True])
def test_a_row_that_sees_nothing_is_zero(
    network_of: Callable[..., Network], tmp_path: Path, to: str, added: bool
) -> None:
    torch.manual_seed(0)
    network = network_of(Padded(added), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.int64))
    capture, path = written(network, to, tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    mask = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], np.int64)
    wanted = capture.reference({"x": x, "mask": mask})["output"]
    assert not wanted[1].any() and wanted[0].any()
    with edgekit.load(path) as runner:
        types = {spec.name: spec.dtype for spec in runner.signature.inputs}  # TFLite narrows integers
        got = next(iter(runner.run({"x": x, "mask": mask.astype(types["mask"])}).values()))
    assert np.abs(got - wanted).max() < 1e-6  # one attention of 5 keys, values near 1: float32 rounding


def test_with_a_dynamic_batch(network_of: Callable[..., Network], tmp_path: Path) -> None:
    network = network_of(Padded(False), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.int64))
    capture, path = written(network, "onnx", tmp_path, dynamic={"x": {0: "batch"}, "mask": {0: "batch"}})
    feed = {"x": np.ones((7, 5, 8), np.float32), "mask": np.zeros((7, 5), np.int64)}
    with edgekit.load(path) as runner:
        assert np.array_equal(runner.run(feed)["output"], capture.reference(feed)["output"])


def test_a_constant_mask_stays_as_it_is() -> None:
    program = torch.export.export(Causal().eval(), (torch.randn(1, 5, 8),))
    before = str(program.graph)
    assert str(guard_masks(program).graph) == before


class Encoder(nn.Module):
    """What ``TransformerEncoder`` gives for its padding is part of the mean, and of a norm behind it."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8) if norm else None)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=padding)  # type: ignore[no-any-return]


@pytest.mark.parametrize("to", ["onnx", "tflite", "pt2"])
@pytest.mark.parametrize("norm", [False, True])
def test_padding_that_torch_leaves_out(network_of: Callable[..., Network], tmp_path: Path, to: str, norm: bool) -> None:
    """At inference it runs nested tensors where padding stands at the ends, and all tokens where it does not."""
    torch.manual_seed(0)
    example = torch.zeros(2, 6, dtype=torch.bool)
    network = network_of(Encoder(norm), torch.randn(2, 6, 8), example)
    capture, path = written(network, to, tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
    masks = {
        "at the ends": [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]],
        "a whole row": [[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]],
        "between": [[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]],
        "none": [[0] * 6, [0] * 6],
    }
    with edgekit.load(path) as runner:
        for how, rows in masks.items():
            feed = {"x": x, "padding": np.array(rows, bool)}
            wanted = capture.reference(feed)["output"]
            if how == "at the ends" and not norm:
                assert not wanted[0, 4:].any()  # torch's own zeros
            np.testing.assert_allclose(next(iter(runner.run(feed).values())), wanted, atol=2e-5, err_msg=how)
    assert "forward" not in vars(network.module.get_submodule("encoder"))  # the network is as it was
