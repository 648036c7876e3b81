"""The layout of TFLite files: images channels-last by contract, everything else as the network has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from torch import nn

import edgekit
from edgekit.artifact import open_artifact
from edgekit.errors import UsageError
from edgekit.pipeline.export import export
from edgekit.pipeline.verify import verify

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    layers = nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def files(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    options = {"mean": [0.5], "std": [0.25], "name": "net", "dynamic": ["input:2=h", "input:3=w"]}
    edgekit.export(network, torch.zeros(1, 3, 10, 12), to=["tflite", "onnx"], out=folder, **options)
    return folder


def test_one_command_gives_each_format_its_layout(files: Path, network: nn.Module) -> None:
    tflite, onnx = (open_artifact(files / f"net.{to}").card for to in ("tflite", "onnx"))
    assert tflite is not None
    assert onnx is not None
    assert tflite.signature.inputs[0].shape == (1, "h", "w", 3)
    assert onnx.signature.inputs[0].shape == (1, 3, "h", "w")
    assert [c.contract["input"].layout for c in (tflite, onnx)] == ["NHWC", "NCHW"]
    x = np.random.default_rng(0).normal(size=(1, 3, 14, 16)).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    bare = Interpreter(model_path=str(files / "net.tflite"))
    place = bare.get_input_details()[0]["index"]
    bare.resize_tensor_input(place, [1, 14, 16, 3], strict=True)
    bare.allocate_tensors()
    bare.set_tensor(place, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    bare.invoke()
    found = bare.get_tensor(bare.get_output_details()[0]["index"])
    session = onnxruntime.InferenceSession(str(files / "net.onnx"), providers=["CPUExecutionProvider"])
    assert np.allclose(found, wanted, atol=1e-5)  # float32 sums in another order
    assert np.allclose(session.run(None, {"input": x})[0], wanted, atol=1e-5)


def test_the_files_of_two_layouts_are_compared_and_read_the_same_picture(files: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (10, 12, 3), np.uint8)).save(picture)
    assert verify(files / "net.tflite", against=files / "net.onnx", shape=["h=10", "w=12"]).passed
    for to in ("tflite", "onnx"):
        edgekit.run(files / f"net.{to}", picture, out=tmp_path / f"{to}.npz")
    first, second = (np.load(tmp_path / f"{to}.npz")["output"] for to in ("tflite", "onnx"))
    assert np.allclose(first, second, atol=1e-5)  # float32 sums in another order


def test_arrays_of_the_networks_layout_are_turned_for_the_file(
    files: Path, network: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = np.random.default_rng(2).normal(size=(6, 3, 10, 12)).astype(np.float32)
    with torch.no_grad():
        labels = network(torch.from_numpy(x)).numpy().argmax(axis=1)
    np.savez(tmp_path / "d.npz", input=x, labels=labels)
    with caplog.at_level("INFO", "edgekit"):
        for to in ("tflite", "onnx"):
            assert edgekit.evaluate(files / f"net.{to}", data=f"npz:{tmp_path / 'd.npz'}").evaluation.value == 1
    assert caplog.text.count("turned") == 1  # for the .tflite file, once


@pytest.mark.parametrize("how", ["asked", "nothing said"])
def test_the_networks_layout_stays(network: nn.Module, tmp_path: Path, how: str) -> None:
    options = {"channels_first": True, "mean": [0.5], "std": [0.25]} if how == "asked" else {}
    made = export(network, torch.zeros(1, 3, 10, 12), to="tflite", out=tmp_path, **options).artifacts[0]
    assert made.card is not None
    assert made.card.signature.inputs[0].shape == (1, 3, 10, 12)


def test_both_layouts_at_once_are_refused(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="contradict each other"):
        export(network, torch.zeros(1, 3, 10, 12), to="tflite", out=tmp_path, channels_first=True, channels_last=True)
    assert not list(tmp_path.iterdir())


def test_it_is_said_once(network: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "edgekit"):
        export(network, torch.zeros(1, 3, 10, 12), to="tflite", out=tmp_path, mean=[0.5], std=[0.25])
    assert caplog.text.count("input is channels-last") == 1
