"""``--shape`` of a source: examples of other sizes, with the input spec behind them, or none at all before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import SourceError, UsageError
from edgekit.source import resolve
from edgekit.source.sizes import of_axes, resized

BARE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, a, b, gain=2.0):
        return self.layer(a).sum(1) * gain + b

def make():
    return Net()
"""


@pytest.fixture
def bare(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(BARE)
    return f"{tmp_path / 'net.py'}:make"


def test_a_factory_without_examples(bare: str) -> None:
    with pytest.raises(SourceError, match="--shape"):
        resolve(bare)
    network = resolve(bare, shapes={"a": (1, 7, 4), "b": (1, 3)})
    assert {name: v.shape for name, v in network.example_inputs.items()} == {"a": (1, 7, 4), "b": (1, 3)}
    assert [spec.shape for spec in network.signature.outputs] == [(1, 3)]
    again = resolve(bare, shapes={"a": (1, 7, 4), "b": (1, 3)})
    assert all((network.example_inputs[name] == again.example_inputs[name]).all() for name in "ab")


@pytest.mark.parametrize(
    ("shapes", "error", "said"),
    [
        ({"a": (1, 7, 4)}, SourceError, "--shape b=1x…"),
        ({"a": (1, 7, 4), "c": (1,)}, UsageError, "no such argument; it has: a, b, gain"),
        ({"a": (1, 7, 5), "b": (1, 3)}, SourceError, "raises on its own example inputs"),
    ],
)
def test_shapes_that_do_not_do(
    bare: str, shapes: dict[str, tuple[int, ...]], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        resolve(bare, shapes=shapes)


@pytest.mark.parametrize(
    ("name", "shapes", "where", "found"),
    [
        ("cnn", {"image": (1, 3, 48, 64)}, lambda rule: rule.size, (48, 64)),
        ("lstm", {"audio": (1, 100, 40)}, lambda rule: rule.params["frames"], 100),
        ("transformer", {"text": (1, 20)}, lambda rule: rule.params["length"], 20),
    ],
)
def test_the_contract_follows(name: str, shapes: dict[str, tuple[int, ...]], where: object, found: object) -> None:
    (key, shape), before = next(iter(shapes.items())), resolve(name)
    network = resolve(name, shapes=shapes)
    assert where(network.card.contract[key]) == found  # type: ignore[operator]
    assert network.signature.inputs[0].shape == network.example_inputs[key].shape == shape
    assert [spec.name for spec in network.signature.outputs] == [spec.name for spec in before.signature.outputs]
    assert set(np.unique(network.example_inputs[key])) <= set(np.unique(before.example_inputs[key]))


@pytest.mark.parametrize(
    ("name", "shapes", "said"),
    [
        ("cnn", {"image": (1, 3, 48)}, "got 3 axes"),
        ("cnn", {"picture": (1, 3, 48, 48)}, "no such input; it has: image"),
        ("mlp", {"table": (1, 12)}, "raises on its own example inputs"),
        ("transformer", {"text": (1, 100)}, "raises on its own example inputs"),
    ],
)
def test_sizes_that_the_network_does_not_take(name: str, shapes: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises((UsageError, SourceError), match=said):
        resolve(name, shapes=shapes)


def test_a_named_axis() -> None:
    lstm = resolve("lstm")
    dynamic = {"audio": {0: "batch", 1: "time"}}
    assert of_axes(lstm, {"time": (30,)}, dynamic) == {"audio": (1, 30, 40)}
    assert of_axes(lstm, {}, dynamic) == {}
    assert resized(lstm, {}) is lstm
    with pytest.raises(UsageError, match="a dimension has one size"):
        of_axes(lstm, {"time": (30, 40)}, dynamic)
