"""A user's own network with all that forward may have: nested and keyword arguments, integers, booleans, open axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.errors import InputError, SourceError
from edgekit.source import resolve

pytestmark = pytest.mark.usefixtures("kept_workers")

NETWORK = """
import torch
from torch import nn


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.mix = nn.Linear(4, 4)

    def forward(self, tokens, pair, *, mask, options, power=2.0):
        left, right = pair
        h = self.mix(self.embed(tokens) + left * right) ** power
        h = torch.where(mask.unsqueeze(-1), h, torch.zeros_like(h)) * options["scale"].unsqueeze(1)
        return {"states": h, "sums": (h.sum(1), tokens.sum(1)), "any": mask & (tokens > 3)}


def make():
    tokens = torch.arange(10).reshape(2, 5) % 11
    tokens[0, 0] = 10
    pair = (torch.randn(2, 5, 4), torch.randn(2, 5, 4))
    mask = tokens % 2 == 0
    inputs = {"tokens": tokens, "pair": pair, "mask": mask, "options": {"scale": torch.ones(2, 1)}, "power": 2.0}
    return Everything(), inputs


class Branching(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x * 2


def branching():
    return Branching(), torch.ones(1, 4)


def two_means():
    return nn.Flatten(), torch.ones(1, 3, 8, 8), {"mean": [0.5, 0.5]}
"""
OPEN = ["tokens:0=batch", "tokens:1=time", "pair_0:0=batch", "pair_0:1=time", "pair_1:0=batch", "pair_1:1=time",
        "mask:0=batch", "mask:1=time", "options_scale:0=batch"]  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(NETWORK)
    return path


def feed(batch: int, time: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(batch * 100 + time)
    return {
        "tokens": draw.integers(0, 11, (batch, time)),
        "pair_0": draw.normal(size=(batch, time, 4)).astype(np.float32),
        "pair_1": draw.normal(size=(batch, time, 4)).astype(np.float32),
        "mask": draw.integers(0, 2, (batch, time)).astype(bool),
        "options_scale": draw.normal(size=(batch, 1)).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("format_", "opened", "sizes"),
    [("onnx", OPEN, [(1, 1), (3, 7), (2, 5)]), ("tflite", [], [(2, 5)])],
)
def test_both_formats_take_it(
    file: Path, tmp_path: Path, format_: str, opened: list[str], sizes: list[tuple[int, int]]
) -> None:
    import torch

    spelled = f"{file}:make"
    (made,) = edgekit.export(spelled, to=format_, out=tmp_path, dynamic=opened).artifacts
    kinds = {case.kind for case in made.parity.cases}
    assert not opened or {"batch=1", "batch=5", "time=1", "time=10"} <= kinds
    card = made.artifact.card
    assert card is not None
    assert [spec.name for spec in card.signature.inputs] == ["tokens", "pair_0", "pair_1", "mask", "options_scale"]
    assert [spec.name for spec in card.signature.outputs] == ["states", "sums_0", "sums_1", "any"]
    assert {spec.dtype for spec in card.signature.inputs if spec.name == "mask"} == {"bool"}
    module = resolve(spelled).module
    types = {spec.name: spec.dtype for spec in card.signature.inputs}
    with edgekit.load(made.artifact.path) as runner:
        for batch, time in sizes:
            given = feed(batch, time)
            with torch.no_grad():
                wanted = module(*(torch.from_numpy(array) for array in given.values()))
            got = runner.run({name: array.astype(types[name]) for name, array in given.items()})
            for name, value in zip(got, wanted, strict=True):
                assert np.allclose(got[name], value.numpy(), atol=1e-5)  # squares of sums of 4 terms, about 10 large
                assert (got[name].dtype.kind, got[name].shape) == (value.numpy().dtype.kind, tuple(value.shape))


def test_open_axes_that_litert_torch_cannot_broadcast_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with fixed sizes: leave batch, time out for TFLite"):
        edgekit.export(f"{file}:make", to="tflite", out=tmp_path, dynamic=OPEN)
    assert not list(tmp_path.glob("*.tflite"))


def test_a_wrong_type_or_size_is_refused_by_name(file: Path, tmp_path: Path) -> None:
    (made,) = edgekit.export(f"{file}:make", to="onnx", out=tmp_path, dynamic=OPEN).artifacts
    with edgekit.load(made.artifact.path) as runner:
        for name, wrong in (("mask", np.zeros((2, 5), np.float32)), ("pair_1", np.zeros((2, 6, 4), np.float32))):
            with pytest.raises(InputError, match=name):
                runner.run({**feed(2, 5), name: wrong})


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_a_path_that_depends_on_values_is_refused_with_its_line(file: Path, tmp_path: Path, format_: str) -> None:
    with pytest.raises(InputError, match=r"(?s)torch\.export cannot capture 'branching'.*own\.py:\d+"):
        edgekit.export(f"{file}:branching", to=format_, out=tmp_path)
    assert not list(tmp_path.glob("*.onnx")) + list(tmp_path.glob("*.tflite"))


def test_what_a_factory_says_wrongly_is_a_source_that_is_not_valid(file: Path) -> None:
    with pytest.raises(SourceError, match=r"own\.py:two_means gives: mean has 2 values, .* has 3 channels"):
        resolve(f"{file}:two_means")
