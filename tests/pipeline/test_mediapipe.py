"""MediaPipe Tasks load what edgekit exports, and answer as the files do on the bare runtime."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

import edgekit
from edgekit.artifact import read_card
from edgekit.data import open_data
from edgekit.errors import UnsupportedError, UsageError
from edgekit.pipeline.export import export
from edgekit.pipeline.schemes import quantize
from edgekit.types import Array

pytestmark = pytest.mark.usefixtures("kept_workers")
Runs = Callable[..., Any]


@pytest.fixture(scope="module")
def mediapipe(mediapipe_python: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """``mediapipe(task, model, **arrays)``: the answers, or the text of what MediaPipe raised."""
    folder = tmp_path_factory.mktemp("mediapipe")

    def run(task: str, model: Path, **arrays: Any) -> Any:
        np.savez(folder / "in.npz", **arrays)
        script = root / "tests" / "mediapipe_tasks.py"
        command = [mediapipe_python, script, task, model, folder / "in.npz", folder / "out.json"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        return json.loads((folder / "out.json").read_text())

    return run


def bare(path: Path, images: Array) -> list[list[Array]]:
    """The outputs of the file for each picture, by the interpreter alone."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (given,), results = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None].astype(given["dtype"]))
        interpreter.invoke()
        answers.append([interpreter.get_tensor(row["index"])[0] for row in results])
    return answers


def pictures(count: int, height: int, width: int) -> Array:
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8)


def labels(path: Path, *names: str) -> Path:
    path.write_text("\n".join(names))
    return path


@pytest.mark.slow
@pytest.mark.needs_data
def test_the_shipped_cnn_gives_the_labels_that_eval_counts(mediapipe: Runs, tmp_path: Path) -> None:
    export("cnn", to="tflite", out=tmp_path, mediapipe=True)
    quantize(tmp_path / "cnn.tflite", scheme="int8", data="cifar10", limit=100, seconds=0, out=tmp_path / "int8.tflite")
    data = open_data("cifar10@test")
    assert data.labels is not None
    images = np.stack([data.arrays["image"][k] for k in range(100)])
    for name in ("cnn.tflite", "int8.tflite"):
        path = tmp_path / name
        answers = mediapipe("classifier", path, images=images)
        found = [answer["name"] for answer in answers]
        logits = np.array([outputs[0] for outputs in bare(path, images)])
        assert found == [data.classes[k] for k in logits.argmax(axis=1)]
        theirs = np.array([[answer["scores"][label] for label in data.classes] for answer in answers])
        assert np.allclose(theirs, logits, atol=1e-4)  # its XNNPACK is another release
        right = sum(data.classes[label] == one for label, one in zip(data.labels, found, strict=False))
        assert right == edgekit.evaluate(path, data="cifar10", limit=100).evaluation.correct
        card = read_card(path)
        assert card is not None
        assert card.task.labels == data.classes  # the card is there beside the standard metadata


@pytest.mark.parametrize("colour", ["BGR", "grey"])
def test_other_colours_become_rgb(mediapipe: Runs, tmp_path: Path, colour: str) -> None:
    torch.manual_seed(4)
    channels = 1 if colour == "grey" else 3
    network = nn.Sequential(nn.Conv2d(channels, 8, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval()
    said = 'labels = ["' + '", "'.join(f"class {k}" for k in range(32)) + '"]\nmean = [0.4]\nstd = [0.2]\n'
    (tmp_path / "io.toml").write_text(said + ('color = "BGR"\nlayout = "NCHW"\n' if colour == "BGR" else ""))
    options = {"io_file": tmp_path / "io.toml", "name": "net", "mediapipe": True, "out": tmp_path}
    export(network, torch.zeros(1, channels, 24, 32), to="tflite", **options)
    images = pictures(3, 24, 32).astype(np.float64)
    pixels = images[..., ::-1] if colour == "BGR" else images @ np.array([[0.299], [0.587], [0.114]])
    x = torch.from_numpy(((pixels / 255 - 0.4) / 0.2).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = network(x).numpy()
    answers = mediapipe("classifier", tmp_path / "net.tflite", images=images.astype(np.uint8))
    theirs = np.array([[answer["scores"][f"class {k}"] for k in range(32)] for answer in answers])
    assert np.allclose(theirs, wanted, atol=1e-4)  # float32 sums in another order


COLOURED = """
import torch
from torch import nn


def build(channels, color, first=0.4):
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(channels, 8, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    said = {"mean": [first, 0.5, 0.3][:channels], "std": [0.2], "layout": "NCHW", "task": "embedding"}
    return net, torch.rand(1, channels, 24, 32), said if channels == 1 else {**said, "color": color}


def bgr(): return build(3, "BGR")
def grey(): return build(1, "")
def wrong(): return build(3, "RGB")
"""


@pytest.mark.parametrize("colour", ["bgr", "grey"])
def test_verify_compares_with_the_network_of_other_colours(tmp_path: Path, colour: str) -> None:
    source = tmp_path / "net.py"
    source.write_text(COLOURED)
    export(f"{source}:{colour}", to="tflite", name="net", mediapipe=True, out=tmp_path)
    found = edgekit.verify(tmp_path / "net.tflite", against=f"{source}:{colour}")
    assert found.ledger.passed and any("other colours" in note for note in found.notes)
    export(f"{source}:{colour}", to="onnx", name="plain", out=tmp_path)
    assert edgekit.verify(tmp_path / "net.tflite", against=tmp_path / "plain.onnx").ledger.passed
    if colour == "bgr":  # the same weights with red and blue the other way round
        assert not edgekit.verify(tmp_path / "net.tflite", against=f"{source}:wrong").ledger.passed


class UNet(nn.Module):
    """Down once and up again, with a skip connection: scores of three classes a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up, self.head = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)"""
        x = self.first(image).relu()
        return self.head(torch.cat([x, self.up(self.down(x).relu()).relu()], 1))


def test_a_segmenter_gives_the_mask_of_the_file(mediapipe: Runs, tmp_path: Path) -> None:
    torch.manual_seed(1)
    names = labels(tmp_path / "labels.txt", "ground", "road", "sky")
    said = {"mean": [0.5, 0.4, 0.3], "std": [0.25], "labels": names, "task": "segmentation", "name": "net"}
    export(UNet(), torch.zeros(1, 3, 24, 32), to="tflite", out=tmp_path, mediapipe=True, **said)
    images = pictures(3, 24, 32)
    answers = mediapipe("segmenter", tmp_path / "net.tflite", images=images)
    for answer, (scores,) in zip(answers, bare(tmp_path / "net.tflite", images), strict=True):
        assert answer["labels"] == ["ground", "road", "sky"]
        exponent = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share = exponent / exponent.sum(axis=-1, keepdims=True)
        assert np.allclose(np.moveaxis(answer["confidence"], 0, -1), share, atol=1e-3)  # softmax, by its own code
        clear = np.sort(share, axis=-1)[..., -1] - np.sort(share, axis=-1)[..., -2] > 2e-3
        assert np.array_equal(np.array(answer["mask"])[clear], share.argmax(axis=-1)[clear])
        assert clear.mean() > 0.9


class Boxes(nn.Module):
    """One box a cell of 8 x 8 pixels: corners in pixels, and two scores of 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.sizes = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 4, 1)
        self.scores = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 32, 48) -> boxes (B, 24, 4), scores (B, 24, 2)"""
        x = self.body(image).relu()
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
        centres = torch.stack([columns, rows], -1).reshape(1, -1, 2) * 8.0 + 4
        sides = self.sizes(x).sigmoid().flatten(2).transpose(1, 2) * 4  # (B, 24, 4), at most 4 pixels to each side
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
        return boxes, self.scores(x).flatten(2).transpose(1, 2).sigmoid()


FACTORY = """
import torch
from boxes import Boxes

def build():
    torch.manual_seed(2)
    means = {"task": "detection", "boxes": "xyxy", "activation": "none", "labels": ["cat", "dog"]}
    return Boxes(), torch.zeros(1, 3, 32, 48), {**means, "mean": [0.5], "std": [0.5]}
"""


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A factory of :class:`Boxes`, which says what its outputs mean."""
    head = "import torch\nfrom torch import Tensor, nn\n\n\n"
    source = Path(__file__).read_text()
    (tmp_path / "boxes.py").write_text(head + source[source.index("class Boxes") : source.index("FACTORY = ")])
    (tmp_path / "net.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{tmp_path / 'net.py'}:build"


def test_a_detector_gives_the_boxes_of_the_file(mediapipe: Runs, detector: str, tmp_path: Path) -> None:
    (made,) = export(detector, to="tflite", out=tmp_path, mediapipe=True, name="net").artifacts
    assert made.card is not None
    assert made.card.task.params["boxes"] == "yxhw"
    images, threshold = pictures(2, 32, 48), 0.5
    torch.manual_seed(2)
    module = Boxes()
    answers = mediapipe("detector", made.path, images=images, threshold=threshold)
    for image, answer in zip(images, answers, strict=True):
        x = (torch.from_numpy(image).float() / 255 - 0.5) / 0.5
        with torch.no_grad():
            boxes, scores = (part[0].numpy() for part in module(x.permute(2, 0, 1)[None]))
        best, kind = scores.max(axis=1), scores.argmax(axis=1)
        order = [k for k in np.argsort(-best) if best[k] > threshold]  # boxes of a cell each: none lies over another
        assert order
        assert answer["names"] == [("cat", "dog")[kind[k]] for k in order]
        assert np.allclose(answer["scores"], best[order], atol=1e-4)  # float32 sums in another order
        # it gives whole pixels: of the corner, and of width and height, so that the other corner is off by two at most
        assert np.allclose(answer["boxes"], boxes[order], atol=[1.01, 1.01, 2.01, 2.01])


@pytest.mark.slow
def test_the_shipped_detector_finds_what_the_file_gives(mediapipe: Runs, tmp_path: Path) -> None:
    (made,) = export("detector", to="tflite", out=tmp_path, mediapipe=True).artifacts
    data = open_data("digit-scenes@test")
    assert data.answers is not None
    images = np.stack([data.arrays["image"][k] for k in range(12)])
    answers = mediapipe("detector", made.path, images=images, threshold=0.4)
    there = found = 0
    for k, (answer, (one, other)) in enumerate(zip(answers, bare(made.path, images), strict=True)):
        boxes, scores = (one, other) if one.shape[1] == 4 else (other, one)
        y, x, height, width = boxes.T
        corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
        for box, name, score in zip(answer["boxes"], answer["names"], answer["scores"], strict=True):
            row, column = np.unravel_index(np.abs(scores - score).argmin(), scores.shape)
            assert data.classes[column] == name
            assert scores[row, column] == pytest.approx(score, abs=1e-4)  # its XNNPACK is another release
            assert np.allclose(corners[row], box, atol=2.01)  # origin and size are whole pixels, each rounded down
        there += len(data.answers[k].labels)
        names = [data.classes[label] for label in data.answers[k].labels]
        found += sum(name in answer["names"] for name in names)
    assert found > 0.8 * there


def test_what_mediapipe_refuses(mediapipe: Runs, tmp_path: Path) -> None:
    """Normalisation by channel in the metadata, and features of a recording, where it computes none."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    export(network, torch.zeros(1, 3, 24, 32), to="tflite", out=tmp_path, mean=[0.5, 0.4, 0.3], std=[0.25], name="net")
    assert "Per-channel" in mediapipe("classifier", tmp_path / "net.tflite", images=pictures(1, 24, 32))
    export("gru", to="tflite", out=tmp_path)
    samples = np.zeros((1, 16000), np.float32)
    assert isinstance(mediapipe("sound", tmp_path / "gru.tflite", samples=samples, rate=16000.0), str)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"mediapipe": True, "to": ["onnx"]}, UsageError, "--mediapipe is for TFLite"),
        ({"mediapipe": True, "channels_first": True, "mean": [0.5]}, UsageError, "channels-last files"),
        ({"mediapipe": True}, UsageError, "no input is said to be one"),
        ({"raw_pixels": True}, UsageError, "no input is said to be an image"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(error, match=said):
        export(network, torch.zeros(1, 3, 8, 8), out=tmp_path / "out", **{"to": ["tflite"], **options})
    assert not (tmp_path / "out").exists()


def test_a_detector_of_another_form_is_refused(detector: str, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "import torch\nfrom net import build as two\n\n\nclass One(torch.nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.inner = two()[0]\n\n    def forward(self, image):\n"
        "        return torch.cat(self.inner(image), -1)\n\n\ndef build():\n    _, inputs, means = two()\n"
        '    return One(), inputs, {**means, "rows": "scores"}\n'
    )
    with pytest.raises(UnsupportedError, match=r"two outputs, boxes \(1, N, 4\) and scores"):
        export(f"{tmp_path / 'one.py'}:build", to="tflite", out=tmp_path / "out", mediapipe=True)
