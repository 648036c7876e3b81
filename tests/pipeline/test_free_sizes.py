"""Quantizing files with a free height and width: at the size that the samples have, which need not be 1 or above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import edgekit
from edgekit.artifact import read_card

pytestmark = pytest.mark.usefixtures("kept_workers")

NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 1)
    return nn.Sequential(*layers), torch.randn(1, 3, 24, 24)
"""


def test_sequences_of_several_lengths_are_measured_one_by_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    edgekit.export(Mean(), torch.zeros(1, 6, 4), to="onnx", dynamic=["x:1=time"], task="classification", name="mean",
                   out=tmp_path)  # fmt: skip
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\n\ndef data(split):\n    rng = np.random.default_rng(0 if split == 'train' else 1)\n"
        "    for k in range(24):\n"
        "        yield rng.normal(size=(3 + k % 5, 4)).astype(np.float32) + 9 * (k % 2), k % 2\n"
    )
    data = f"{tmp_path / 'mine.py'}:data"
    found = edgekit.evaluate(tmp_path / "mean.onnx", data=data)
    assert found.evaluation.value == 1
    edgekit.quantize(
        tmp_path / "mean.onnx", scheme="int8", data=data, max_drop=0.0, allow_slower=True, seconds=0,
        out=tmp_path / "q.onnx",
    )  # fmt: skip
    verified = edgekit.verify(tmp_path / "mean.onnx", against=tmp_path / "mean.onnx", data=data)
    assert verified.passed and sum(case.kind == "sample" for case in verified.ledger.cases) > 1


class Mean(torch.nn.Module):
    """Says whether the mean of a sequence of any length is large."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.wide, self.last = torch.nn.Linear(4, 64), torch.nn.Linear(64, 64), torch.nn.Linear(64, 2)
        with torch.no_grad():
            self.hidden.weight.fill_(1.0)
            self.wide.weight.copy_(torch.eye(64))
            self.last.weight[0].fill_(-0.1)
            self.last.weight[1].fill_(0.1)
            self.last.bias[0], self.last.bias[1] = 100.0, -100.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.wide(self.hidden(x))).mean(1))


def test_a_network_that_takes_no_size_of_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a self-test is 1; no self-test runs here, and everything else is done at the size of the samples."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    edgekit.export("net.py:net", to="onnx", out=".", name="m", dynamic=["input:2=h", "input:3=w"])
    samples = np.random.default_rng(0).standard_normal((12, 3, 28, 32)).astype(np.float32)
    np.savez("d.npz", input=samples)
    edgekit.quantize("m.onnx", scheme="int8", data="npz:d.npz", out="q.onnx", seconds=None, allow_slower=True)
    card = read_card(Path("q.onnx"))
    assert card is not None and card.selftest is None
    with edgekit.load("m.onnx") as whole, edgekit.load("q.onnx") as made:
        for size in (28, 40):
            feed = {"input": np.random.default_rng(1).standard_normal((1, 3, size, 32)).astype(np.float32)}
            wanted, found = whole.run(feed)["output"], made.run(feed)["output"]
            assert np.square(wanted - found).sum() < 0.03 * np.square(wanted).sum()  # 15 dB


@pytest.mark.parametrize("integer_io", [False, True])
def test_it_is_timed_at_the_size_of_the_samples(
    integer_io: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At sizes of 1 this network does not run."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    edgekit.export("net.py:net", to="onnx", out=".", name="m", dynamic=["input:2=h", "input:3=w"])
    np.savez("d.npz", input=np.random.default_rng(0).standard_normal((12, 3, 28, 32)).astype(np.float32))
    given = {"data": "npz:d.npz", "integer_io": integer_io, "seconds": 0.1, "allow_slower": True}
    result = edgekit.quantize("m.onnx", scheme="int8", out="q.onnx", **given)
    assert result.document()["time"]["ratio_p50"] > 0
