"""``run`` of a segmenter: which classes, how many pixels, and the picture with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import edgekit
from edgekit.artifact import write_card
from edgekit.errors import DataError, UsageError
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    """Class 1 where a pixel is red, as scores (1, 2, 8, 12)."""
    weights = np.array([[0, 0, 0], [1, 0, 0]], np.float32).reshape(2, 3, 1, 1)
    bias = np.array([0, -0.5], np.float32)
    node = helper.make_node("Conv", ["image", "w", "b"], ["scores"])
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 12))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 2, 8, 12))],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    signature = Signature(
        (TensorSpec("image", "float32", (1, 3, 8, 12)),), (TensorSpec("scores", "float32", (1, 2, 8, 12)),)
    )
    contract = {"image": InputSpec("image", "NCHW", (8, 12), 3, 1 / 255)}
    write_card(path, Card("m", "custom", Task("segmentation", ("background", "red"), "miou"), signature, contract))
    return path


def test_classes_shares_and_the_picture(segmenter: Path, tmp_path: Path) -> None:
    pixels = np.full((16, 24, 3), 40, np.uint8)
    pixels[4:8, 6:18] = (250, 10, 10)
    picture = tmp_path / "p.png"
    Image.fromarray(pixels).resize((48, 32), Image.Resampling.NEAREST).save(picture)
    drawn = tmp_path / "o.png"
    found = edgekit.run(segmenter, picture, out=drawn)
    (answer,) = found.answers
    assert answer.pixels is not None
    assert [(one.label, one.share) for one in answer.pixels] == [("background", 0.875), ("red", 0.125)]
    assert found.document()["results"][0]["pixels"][1] == {"label": "red", "share": 0.125}
    result = np.asarray(Image.open(drawn)).astype(int)
    changed = (result != np.asarray(Image.open(picture))).any(-1)
    assert result.shape == (32, 48, 3) and changed[8:16, 12:36].all() and changed.sum() == 8 * 24


def test_wrong_use(segmenter: Path, tmp_path: Path) -> None:
    array = tmp_path / "x.npz"
    np.savez(array, image=np.zeros((1, 3, 8, 12), np.float32))
    picture = tmp_path / "p.png"
    Image.new("RGB", (4, 4)).save(picture)
    with pytest.raises(DataError, match="not an image file"):
        edgekit.run(segmenter, array, out=tmp_path / "o.png")
    with pytest.raises(UsageError, match="run them one by one"):
        edgekit.run(segmenter, [picture, picture], out=tmp_path / "o.png")
    with pytest.raises(UsageError, match=r"a mask is drawn into a \.png"):
        edgekit.run(segmenter, picture, out=tmp_path / "o.jpg")
    assert not list(tmp_path.glob("o.*"))
