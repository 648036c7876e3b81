"""``--opset`` below 18: onnx converts the graph down, and the file computes what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import edgekit
from edgekit.converters import older_opset
from edgekit.errors import UnsupportedError

pytestmark = pytest.mark.usefixtures("kept_workers")

NET = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.conv, self.norm, self.head, self.last = nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.Linear(16, 4), last

    def forward(self, x):
        u, v = self.norm(self.conv(x)).split(8, 1)
        x = F.interpolate(torch.cat([v, u], 1), scale_factor=2.0, mode="bilinear")
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return self.last(self.head(x.amax((2, 3)) + x.mean((2, 3)))), x.sum(1).topk(3, 1)[0]

def net():
    torch.manual_seed(0)
    return Net(nn.Softmax(1)), torch.randn(1, 3, 12, 12)

def norm():
    torch.manual_seed(0)
    return Net(nn.LayerNorm(4)), torch.randn(1, 3, 12, 12)
"""


@pytest.mark.parametrize("opset", [17, 13])
def test_an_older_set_is_proved_like_any_other(opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    made = edgekit.export("net.py:net", to="onnx", out=".", name="m", opset=opset).artifacts[0]
    assert made.parity.passed
    model = onnx.load("m.onnx")
    onnx.checker.check_model(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version <= 8  # what runtimes of that time read
    scopes = [entry.value for node in model.graph.node for entry in node.metadata_props]
    assert any("conv" in text for text in scopes)  # a failed proof can still name the layer
    whole = edgekit.export("net.py:net", to="onnx", out="whole", name="m").artifacts[0]
    feed = {"x": np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)}
    sessions = (onnxruntime.InferenceSession(str(item.artifact.path)) for item in (made, whole))
    for old, new in zip(*(session.run(None, feed) for session in sessions), strict=True):
        np.testing.assert_allclose(old, new, rtol=0, atol=1e-5)  # fused in another way


def test_an_operator_that_the_older_set_has_not_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    with pytest.raises(UnsupportedError, match=r"opset 16: No Previous Version of LayerNormalization.*--opset 18"):
        edgekit.export("net.py:norm", to="onnx", out=".", opset=16)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".onnx"] == []
    assert older_opset.OPSETS.start == 13 and older_opset.__doc__
