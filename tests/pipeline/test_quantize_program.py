"""``export --to pte`` and ``quantize X.pt2 -o X.pte``: proved, judged and described as other formats are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit import pte_reader
from edgekit.artifact import open_artifact, read_card
from edgekit.errors import DeviceError, QualityError, UnsupportedError, UsageError
from edgekit.quality.contents import operators
from edgekit.types import Format

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("executorch_python")]

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.BatchNorm2d(16)
        self.more, self.head = torch.nn.Conv2d(16, 32, 3), torch.nn.Linear(32, 8)

    def forward(self, image):
        x = torch.relu(self.more(torch.relu(self.norm(self.conv(image)))))
        return torch.cumsum(self.head(x.mean((2, 3))), 1)

def build():
    torch.manual_seed(0)
    return Net().eval(), torch.randn(1, 3, 32, 32)
"""


@pytest.fixture(scope="session")
def made(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """``net.pte`` and ``net.pt2`` of :data:`NETWORK`, and ``data.npz`` with the classes that the float network says."""

    def make(folder: Path) -> None:
        (folder / "net.py").write_text(NETWORK)
        edgekit.export(f"{folder / 'net.py'}:build", to=["pte", "pt2"], out=folder, name="net")
        images = np.random.default_rng(0).standard_normal((60, 3, 32, 32)).astype(np.float32)
        with edgekit.load(folder / "net.pt2") as runner:
            labels = [int(runner.run({"image": image[None]})["output"].argmax()) for image in images]
        np.savez(folder / "data.npz", image=images, labels=np.array(labels))

    return once("executorch_network", make)


def test_a_mean_over_height_and_width_runs_in_xnnpack(made: Path) -> None:
    """It drops both axes, which XNNPACK's does not; what sums along an axis stays with ExecuTorch's kernels."""
    with edgekit.load(made / "net.pte") as runner:
        told = runner.delegation()
    assert told is not None and {one.type for one in told.left} == {"aten::cumsum.out"}


@pytest.fixture(scope="session")
def int8(once: Callable[[str, Callable[[Path], object]], Path], made: Path) -> Path:
    def make(folder: Path) -> None:
        edgekit.quantize(
            made / "net.pt2", scheme="int8", data=f"npz:{made / 'data.npz'}", out=folder / "q.pte", seconds=0
        )

    return once("executorch_int8", make) / "q.pte"


def test_exported_and_proved(made: Path) -> None:
    card = read_card(made / "net.pte")
    assert card is not None and card.steps[-1].name == "export"
    assert card.steps[-1].params["format"] == "pte" and card.steps[-1].params["cases"] >= 10
    assert card.steps[-1].versions["executorch"] == "1.5.1"
    assert card.selftest is not None
    kinds = operators(open_artifact(made / "net.pte"))
    assert kinds["XNNPACK::Conv2d"] == 2 and kinds["aten::cumsum.out"] == 1
    result = edgekit.verify(made / "net.pte", against=made / "net.pt2")
    assert result.passed


def test_another_network_is_refused(made: Path, tmp_path: Path) -> None:
    """The gate of the proof: with one weight changed the outputs differ."""
    data = (made / "net.pte").read_bytes()
    weights = max((blob for name, blob in pte_reader.metadata(data).items() if name != "edgekit"), key=len)
    changed = np.frombuffer(weights, np.float32).copy()
    changed[7] += 1
    (tmp_path / "net.pte").write_bytes(data.replace(weights, changed.tobytes()))
    assert not edgekit.verify(tmp_path / "net.pte", against=made / "net.pt2").passed


def test_a_free_axis(made: Path, tmp_path: Path) -> None:
    edgekit.export(f"{made / 'net.py'}:build", to=["pte"], out=tmp_path, name="free", dynamic=["image:0=batch"])
    with edgekit.load(tmp_path / "free.pte") as runner, edgekit.load(made / "net.pt2") as reference:
        assert runner.signature.inputs[0].shape == ("batch", 3, 32, 32)
        images = np.random.default_rng(3).standard_normal((40, 3, 32, 32)).astype(np.float32)
        with pytest.raises(DeviceError, match=r"up to image \[64, 3, 32, 32\]"):
            runner.run({"image": np.repeat(images, 2, 0)})
        found = runner.run({"image": images})["output"]
        wanted = [reference.run({"image": image[None]})["output"][0] for image in images]
    np.testing.assert_allclose(found, wanted, atol=1e-4)  # float32 sums in another order


def test_int8(made: Path, int8: Path) -> None:
    card = read_card(int8)
    assert card is not None and card.steps[-1].params["scheme"] == "int8"
    weights = 432 + 4608 + 256  # three bytes of each are saved; scales and conversions take part of that
    assert (made / "net.pte").stat().st_size - int8.stat().st_size > 2 * weights
    assert card.parent is not None and card.parent["fidelity"]["gate"]["passed"]
    assert card.account is not None and card.account["integer_operators"] >= 3
    images = np.random.default_rng(5).standard_normal((8, 1, 3, 32, 32)).astype(np.float32)
    with edgekit.load(int8) as runner, edgekit.load(made / "net.pt2") as reference:
        found = np.array([runner.run({"image": image})["output"] for image in images])
        again = np.array([runner.run({"image": image})["output"] for image in images])
        wanted = np.array([reference.run({"image": image})["output"] for image in images])
    assert np.array_equal(found, again)
    noise = float(((found - wanted) ** 2).sum())
    assert 10 * np.log10(float((wanted**2).sum()) / noise) > 15  # the scheme's own floor, on fresh inputs
    told = edgekit.inspect(int8)
    assert told.account is not None and told.account.weight_bytes_integer_share > 0.9
    assert {one.operator for one in told.account.left_float} == {"aten::cumsum.out", "aten::mean.out"}


def test_gates_of_int8(made: Path, tmp_path: Path) -> None:
    data = f"npz:{made / 'data.npz'}"
    with pytest.raises(QualityError, match="too far from its parent"):
        edgekit.quantize(
            made / "net.pt2", scheme="int8", data=data, out=tmp_path / "q.pte", min_snr=90, seconds=0, samples=8
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"scheme": "fp16"}, UnsupportedError, "ExecuTorch's quantizer has int8"),
        ({"data": None}, UsageError, "give --data"),
        ({"mixed": True}, UnsupportedError, "--mixed cannot be honoured"),
        ({"calibration": "entropy"}, UnsupportedError, "--calibration cannot be honoured"),
        ({"for_": "mcu"}, UnsupportedError, "cannot be honoured"),
        ({"out": "q.onnx"}, UsageError, "must end in .pte"),
    ],
)
def test_refused_before_any_work(
    made: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    given = {"scheme": "int8", "data": f"npz:{made / 'data.npz'}", "out": "q.pte", **options}
    given["out"] = tmp_path / given["out"]
    with pytest.raises(error, match=said):
        edgekit.quantize(made / "net.pt2", **given)


def test_a_float_pte_is_too_late(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="before it is lowered, so export it with --to pt2"):
        edgekit.quantize(made / "net.pte", scheme="int8", data="digits", out=tmp_path / "q.pte")
    assert Format("pte") is Format.PTE
