"""``--raw-pixels`` and ``--io``: what the inputs and outputs of a file are held as, seen by the bare runtimes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

import edgekit
from edgekit.artifact import read_card, write_card
from edgekit.errors import UsageError
from edgekit.pipeline.schemes import quantize
from edgekit.pipeline.verify import verify
from edgekit.quality.alignment import align
from edgekit.types import Array

pytestmark = pytest.mark.usefixtures("kept_workers")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
DATA = """
import numpy as np

def data(split):
    rng = np.random.default_rng(0 if split == "train" else 1)
    for k in range(48):
        yield rng.integers(0, 256, (12, 16, 3), np.uint8), k % 2
"""


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 64, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(384, 2)
    return nn.Sequential(*layers).eval()


def pixels(count: int = 4) -> Array:
    return np.random.default_rng(7).integers(0, 256, (count, 12, 16, 3), np.uint8)


def wanted(images: Array) -> Array:
    x = torch.from_numpy(((images / 255 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return network()(x).numpy()


def on_tflite(path: Path, images: Array) -> Array:
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = answer["quantization"]
    found = []
    for image in images:
        interpreter.set_tensor(given["index"], image[None].astype(given["dtype"]))
        interpreter.invoke()
        value = interpreter.get_tensor(answer["index"])[0]
        found.append((value.astype(np.float64) - zero) * scale if scale else value)
    return np.array(found)


def on_onnx(path: Path, images: Array) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    dtype = np.uint8 if "uint8" in session.get_inputs()[0].type else np.float32
    rows = images.transpose(0, 3, 1, 2).astype(dtype)
    return np.concatenate([session.run(None, {"input": row[None]})[0] for row in rows])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "mine.py").write_text(DATA)
    example, options = torch.zeros(1, 3, 12, 16), {"mean": MEAN, "std": STD, "task": "classification", "out": folder}
    edgekit.export(network(), example, to=["tflite", "onnx"], **options, name="raw", raw_pixels=True)
    edgekit.export(network(), example, to="onnx", **options, name="plain")
    return folder


def test_raw_pixels_in_both_formats(files: Path) -> None:
    images = pixels()
    assert np.allclose(on_tflite(files / "raw.tflite", images), wanted(images), atol=1e-4)  # sums in another order
    assert np.allclose(on_onnx(files / "raw.onnx", images), wanted(images), atol=1e-4)
    for name in ("raw.tflite", "raw.onnx"):
        card = read_card(files / name)
        assert card is not None
        rule = card.contract["input"]
        assert (rule.scale, rule.mean, rule.std) == (1, (), ())
        assert card.steps[-1].params["raw_pixels"] is True
    operators = [row["op_name"] for row in Interpreter(model_path=str(files / "raw.tflite"))._get_ops_details()]
    assert operators[0] == "DEPTHWISE_CONV_2D"  # one operator in front, and no transpose


def test_a_normalised_file_and_one_of_raw_pixels_are_compared(files: Path) -> None:
    found = verify(files / "raw.tflite", against=files / "plain.onnx")
    assert found.passed
    assert any("other colours or normalisation" in note for note in found.notes)


@pytest.mark.parametrize("format_", ["tflite", "onnx"])
def test_uint8_is_the_pixel_itself(files: Path, tmp_path: Path, format_: str) -> None:
    made = quantize(
        files / f"raw.{format_}", scheme="int8", data=f"{files / 'mine.py'}:data", io="uint8", seconds=0,
        out=tmp_path / f"q.{format_}",
    )  # fmt: skip
    card = made.artifact.card
    assert card is not None
    how = card.quantized_io["input"]
    assert (how.dtype, how.scale, how.zero_point) == ("uint8", pytest.approx(1, rel=1e-6), 0)
    images = pixels(16)
    found = (on_tflite if format_ == "tflite" else on_onnx)(made.artifact.path, images)
    error = ((found - wanted(images)) ** 2).mean() / wanted(images).var()
    assert error < 0.01  # 20 dB: eight bits of a network this small
    if format_ == "tflite":
        assert card.quantized_io["output"].dtype == "uint8"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_onnx_takes_int8_in_both_layouts(files: Path, tmp_path: Path, layout: str) -> None:
    parent = files / "plain.onnx"
    if layout == "NHWC":
        parent = _channels_last(parent, tmp_path / "last.onnx")
    made = quantize(
        parent, scheme="int8", data=f"{files / 'mine.py'}:data", io="int8", seconds=0, out=tmp_path / "q.onnx"
    )
    card = made.artifact.card
    assert card is not None and card.contract["input"].layout == layout
    how = card.quantized_io["input"]
    session = onnxruntime.InferenceSession(str(made.artifact.path), providers=["CPUExecutionProvider"])
    assert (how.dtype, session.get_inputs()[0].type) == ("int8", "tensor(int8)")
    images = pixels(16)
    real = ((images / 255 - MEAN) / STD).transpose((0, 1, 2, 3) if layout == "NHWC" else (0, 3, 1, 2))
    integers = np.clip(np.rint(real / how.scale) + how.zero_point, -128, 127).astype(np.int8)
    found = np.concatenate([session.run(None, {"input": row[None]})[0] for row in integers])
    error = ((found - wanted(images)) ** 2).mean() / wanted(images).var()
    assert error < 0.01  # 20 dB: eight bits of a network this small


def _channels_last(source: Path, target: Path) -> Path:
    """An ONNX file of somebody whose exporter has images channels-last, as those of TensorFlow do."""
    model = onnx.load(source)
    for node in model.graph.node:
        node.input[:] = ["first" if name == "input" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", ["input"], ["first"], perm=[0, 3, 1, 2]))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 12, 16, 3]))
    card = read_card(source)
    assert card is not None
    rule, spec = card.contract["input"], card.signature.inputs[0]
    signature = replace(card.signature, inputs=(replace(spec, shape=(1, 12, 16, 3)),))
    del model.metadata_props[:]
    onnx.save(model, target)
    write_card(target, replace(card, signature=signature, contract={"input": replace(rule, layout="NHWC")}))
    return target


def test_pixels_that_no_scale_holds_are_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--raw-pixels, or give --io int8"):
        quantize(
            files / "plain.onnx", scheme="int8", data=f"{files / 'mine.py'}:data", io="uint8", out=tmp_path / "q.onnx"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"io": "float", "integer_io": True}, UsageError, "--io float and --integer-io contradict"),
        ({"io": "float", "for_": "mcu"}, UsageError, "--io float and --for mcu contradict"),
        ({"io": "uint8", "scheme": "int16x8"}, UsageError, "activations of 16 bits"),
        ({"io": "uint8", "scheme": "fp16"}, UsageError, "need --scheme int8"),
    ],
)
def test_types_that_cannot_be(
    files: Path, tmp_path: Path, options: dict[str, object], error: type[Exception], said: str
) -> None:
    given = {"scheme": "int8", "data": f"{files / 'mine.py'}:data", "out": tmp_path / "q.tflite", **options}
    model = str(given.pop("model", "raw.tflite"))
    given["out"] = tmp_path / f"q{Path(model).suffix}"
    with pytest.raises(error, match=said):
        quantize(files / model, **given)
    assert not list(tmp_path.iterdir())


def test_pixels_of_other_colours_are_turned(files: Path) -> None:
    one, other = (read_card(files / name) for name in ("raw.tflite", "plain.onnx"))
    assert one is not None
    assert other is not None
    rule = other.contract["input"]
    bgr = {"input": replace(rule, params={"color": "BGR"})}
    (pair,) = align(one.signature, other.signature, one.contract, bgr).inputs
    assert pair.pixels is not None and pair.back is not None and pair.pixels.mixes
    (plain,) = align(one.signature, other.signature, one.contract, other.contract).inputs
    assert plain.pixels is not None and not plain.pixels.mixes
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 5)).astype(np.float32)
    mean, std = (np.asarray(values).reshape(1, -1, 1, 1) for values in (rule.mean, rule.std))
    np.testing.assert_allclose(pair.pixels(image), (image[:, ::-1] * rule.scale - mean) / std, atol=1e-5)
    np.testing.assert_allclose(pair.back(pair.pixels(image)), image, atol=1e-4)  # mean and std as float32
