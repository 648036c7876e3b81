"""A detector by commands: someone else's ONNX file with an io.toml, data of the user's own, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

pytestmark = pytest.mark.usefixtures("kept_workers")
IO = 'task = "detection"\nboxes = "xyxy"\nlabels = ["cat", "dog"]\nscale = 1\n'
Refused = Callable[..., str]


def finder(path: Path) -> None:
    """Always finds a cat at 4, 8, 20, 28 of 32 x 32, and a dog that lies over it, with a lower score."""
    boxes = np.array([[[4, 8, 20, 28], [4, 8, 20, 27]]], np.float32)
    scores = np.array([[[0.9, 0.2], [0.1, 0.6]]], np.float32)
    zero = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "0"], ["none"]),
    ]
    adds = [helper.make_node("Add", [f"{name}_0", "none"], [name]) for name in ("boxes", "scores")]
    values = {"boxes_0": boxes, "scores_0": scores, "0": np.zeros((), np.float32)}
    graph = helper.make_graph(
        [*zero, *adds],
        "finder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 32, 32))],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, boxes.shape),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores.shape),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the model, its io.toml and a data set of two pictures of 64 x 96 (height x width)."""
    finder(tmp_path / "m.onnx")
    (tmp_path / "io.toml").write_text(IO)
    for part in ("images", "labels"):
        (tmp_path / "own" / part).mkdir(parents=True)
    (tmp_path / "own" / "labels.txt").write_text("cat\ndog\n")
    for k in range(2):
        Image.fromarray(np.full((64, 96, 3), 90 + k, np.uint8)).save(tmp_path / "own" / "images" / f"{k}.png")
        (tmp_path / "own" / "labels" / f"{k}.txt").write_text(f"0 0.375 0.5625 0.5 {0.625 if k == 0 else 0.4}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_eval_and_its_gate(place: Path, json_of: Any, refused: Refused) -> None:
    found = json_of("eval", "m.onnx", "--data", "yolo:own", "--io-file", "io.toml")
    # the second box overlaps by .64: right at .5, .55 and .6; the cat's score is the same in both pictures
    assert (found["metric"], found["total"], list(found["per_class"])) == ("map", 2, ["cat"])
    assert found["details"]["map50"] == pytest.approx(1) and 0.6 < found["value"] < 0.7
    half = json_of("eval", "m.onnx", "--data", "yolo:own", "--io-file", "io.toml", "--metric", "map50", "--min", "0.9")
    assert (half["metric"], half["value"]) == ("map50", pytest.approx(1))


def test_run_names_and_draws(place: Path, json_of: Any, refused: Refused) -> None:
    picture = "own/images/0.png"
    found = json_of("run", "m.onnx", picture, "--io-file", "io.toml", "-o", "out.png")
    cat, dog = found["results"][0]["objects"]
    assert (cat["label"], cat["score"], cat["box"]) == ("cat", pytest.approx(0.9), pytest.approx([12, 16, 60, 56]))
    assert dog["label"] == "dog" and found["image"] == "out.png"
    drawn = np.asarray(Image.open("out.png"))
    assert drawn.shape == (256, 384, 3)  # four times as large, so that labels can be read
    assert (drawn != 90).any(axis=2).sum() > 500 and (drawn[-8:] == 90).all()
    assert "one picture" in refused("run", "m.onnx", picture, picture, "--io-file", "io.toml", "-o", "b.png", code=2)
    np.savez("x.npz", image=np.zeros((1, 3, 32, 32), np.float32))
    assert "is not an image file" in refused("run", "m.onnx", "x.npz", "--io-file", "io.toml", "-o", "b.png")
    in_input = json_of("run", "m.onnx", "x.npz", "--io-file", "io.toml")["results"][0]["objects"]
    assert in_input[0]["box"] == pytest.approx([4, 8, 20, 28])


@pytest.mark.parametrize(
    ("io", "code", "message"),
    [
        (None, 3, "has masks, boxes or other answers .* give --io-file io.toml"),
        (IO.replace('boxes = "xyxy"\n', ""), 2, "how boxes are laid out is not said; give boxes = one of 'xyxy'"),
        (IO.replace("xyxy", "cxcyw"), 2, "boxes is 'cxcyw'; did you mean 'cxcywh'"),
        (IO + "threshhold = 0.5\n", 3, "no field 'threshhold'; did you mean 'threshold'"),
        (IO + "iou_threshold = 5\n", 2, "iou_threshold is 5; it is a number from 0 to 1"),
        (IO + "normalized = 1\n", 2, "normalized is 1; it is true or false"),
        (IO + "letterbox = 300\n", 2, "letterbox of image is 300"),
        (IO + 'scores_output = "other"\n', 3, "scores_output is 'other', and the model has the outputs boxes"),
        (IO.replace('"cat", "dog"', '"cat"'), 3, "the classes dog, which the model does not know"),
        (IO.replace('labels = ["cat", "dog"]\n', ""), 3, "the classes of a detector have to be named"),
    ],
)
def test_what_is_said_wrongly_is_refused(
    place: Path, refused: Refused, io: str | None, code: int, message: str
) -> None:
    given: tuple[str, ...] = ()
    if io is not None:
        (place / "io.toml").write_text(io)
        given = ("--io-file", "io.toml")
    said = refused("eval", "m.onnx", "--data", "yolo:own", *given, code=code)
    assert re.search(message, said), said


def test_data_that_is_wrong_is_refused(place: Path, refused: Refused) -> None:
    rest = ("--io-file", "io.toml", "--data")
    (place / "own" / "labels" / "1.txt").write_text("5 0.5 0.5 0.1 0.1\n")
    assert "1.txt:1 has the class 5, and 2 are named" in refused("eval", "m.onnx", *rest, "yolo:own")
    (place / "c.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}))
    assert "has no list 'categories'" in refused("eval", "m.onnx", *rest, "coco:c.json")
    np.savez("x.npz", image=np.zeros((2, 3, 32, 32), np.float32), labels=np.arange(2))
    assert "has no boxes; give coco:FILE.json, yolo:DIR" in refused("eval", "m.onnx", *rest, "npz:x.npz")
