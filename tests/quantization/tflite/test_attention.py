"""Around attention int8 files stay in float, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.artifact import open_artifact
from edgekit.passes import PassContext
from edgekit.pipeline.export import export
from edgekit.quality.coverage import coverage
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.prepared import prepare
from edgekit.quantization.tflite.exclusions import around_attention
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.runtime import load
from edgekit.types import Artifact, PassResult

from ..tflite_files import dense_file

pytestmark = pytest.mark.usefixtures("kept_workers")

SOURCE = """
import torch
from torch import Tensor, nn


class SmallVit(nn.Module):
    "Two convolutions with a sum, one attention over the 16 places, a linear head."

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.patch = nn.Conv2d(8, 16, 2, 2)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        "(B, 3, 8, 8) -> (B, 4)"
        x = torch.relu(self.first(image))  # (B, 8, 8, 8)
        x = torch.relu(self.second(x) + x)  # (B, 8, 8, 8)
        x = self.patch(x).flatten(2).transpose(1, 2)  # (B, 16, 16)
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)  # (B, 16, 16) each
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 4, -1) @ v)  # (B, 16, 16)
        logits: Tensor = self.head(x.mean(1))
        return logits


def net():
    torch.manual_seed(0)
    return SmallVit().eval(), (torch.randn(1, 3, 8, 8),)
"""


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("vit")
    (out / "own.py").write_text(SOURCE, encoding="utf-8")
    export(f"{out / 'own.py'}:net", to="tflite", out=out, name="vit")
    return open_artifact(out / "vit.tflite")


def _quantized(vit: Artifact, target: Path, integer_io: bool) -> PassResult:
    generator = np.random.default_rng(0)
    with load(vit.path) as runner:
        signature = runner.signature
    name = signature.inputs[0].name
    feeds = [{name: generator.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
    found = calibrate(vit.path, feeds, signature, format=vit.format)
    made = QuantizeTflite(calibration=found, integer_io=integer_io).run(vit, PassContext(target))
    assert any("around attention" in note for note in made.notes) is not integer_io
    return made


def test_convolutions_are_integers_and_attention_is_not(vit: Artifact, tmp_path: Path) -> None:
    result = _quantized(vit, tmp_path / "q.tflite", False)
    made, reasons = open_artifact(tmp_path / "q.tflite"), result.left_in_float
    left = coverage(made, reasons).left_float
    kinds = {one.operator for one in left}
    assert {"BATCH_MATMUL", "SOFTMAX"} <= kinds
    assert not kinds & {"CONV_2D", "FULLY_CONNECTED"}
    assert all("around attention" in one.reason for one in left)
    before, after = coverage(vit), coverage(made, reasons)
    assert after.integer_operators == before.operators - len(left)


def test_a_file_of_integers_only_is_one(vit: Artifact, tmp_path: Path) -> None:
    assert _quantized(vit, tmp_path / "q.tflite", True).left_in_float == {}
    made = open_artifact(tmp_path / "q.tflite")
    assert not {one.operator for one in coverage(made).left_float} & {"BATCH_MATMUL", "SOFTMAX"}


def test_the_sum_before_the_patches_is_not_around_attention(vit: Artifact) -> None:
    """It is joined to the attention through a convolution only."""
    sums = {one.name for one in prepare(vit).operators() if one.kind == "ADD"}
    assert len(sums - around_attention(vit.path.read_bytes())) == 1
    assert len(sums & around_attention(vit.path.read_bytes())) >= 1


def test_files_without_attention_keep_nothing(tmp_path: Path) -> None:
    path = dense_file(tmp_path / "dense.tflite", np.eye(4, dtype=np.float32))
    assert around_attention(path.read_bytes()) == frozenset()
