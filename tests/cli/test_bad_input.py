"""Bad input on the command line: the documented exit code, one clear message, no traceback, nothing published."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.pipeline.doctor import TINY_ONNX, TINY_TFLITE

Refused = Callable[..., str]


# ---------------------------------------------------------------- model files

MODEL_COMMANDS = {
    "inspect": ["inspect", "{}"],
    "run": ["run", "{}", "good.npy", "-o", "out.npz"],
    "eval": ["eval", "{}", "--data", "digits"],
    "bench": ["bench", "{}", "--seconds", "0.1", "--json", "out.json"],
    "quantize": ["quantize", "{}", "--scheme", "fp16", "-o", "out.onnx"],
    "verify": ["verify", "{}", "--against", "good.onnx"],
}
NOISE = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8).tobytes()
BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing.onnx": (None, "does not exist"),
    "missing.tflite": (None, "does not exist"),
    "empty.onnx": (b"", "empty"),
    "empty.tflite": (b"", "empty"),
    "short.onnx": (TINY_ONNX[:-20], ""),
    "short.tflite": (TINY_TFLITE[:200], ""),
    "noise.onnx": (NOISE, ""),
    "noise.tflite": (NOISE, ""),
    "text.onnx": (b"this is not a model\n" * 20, ""),
    "really-tflite.onnx": (TINY_TFLITE, "TFLite"),
    "really-onnx.tflite": (TINY_ONNX, "ONNX"),
    "pickle.pt": (pickle.dumps({"a": 1}), "pickle"),
    "pickle.onnx": (pickle.dumps({"a": 1}), "pickle"),
    "half.pt2": (b"PK\x03\x04" + NOISE, ""),
    "model.h5": (NOISE, ".onnx"),
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with a model and an input that are good."""
    (tmp_path / "good.onnx").write_bytes(TINY_ONNX)
    np.save(tmp_path / "good.npy", np.array([[-1, 2, -3, 4]], np.float32))
    return tmp_path


@pytest.mark.parametrize("command", MODEL_COMMANDS)
@pytest.mark.parametrize("name", BAD_FILES)
def test_model_file(name: str, command: str, good: Path, refused: Refused) -> None:
    content, words = BAD_FILES[name]
    if content is not None:
        (good / name).write_bytes(content)
    message = refused(*(part.format(name) for part in MODEL_COMMANDS[command]))
    assert name in message
    assert words in message


def test_the_good_ones_pass(good: Path, edgekit_cli: Callable[..., Any]) -> None:
    """The commands of the table refuse because of the file, not for another reason."""
    for command in ("inspect", "run", "bench"):
        ended = edgekit_cli(*(part.format("good.onnx") for part in MODEL_COMMANDS[command]))
        assert ended.code == 0, ended.err


# ---------------------------------------------------------------- ONNX files that are whole and still cannot be run


def _onnx(path: Path, *, operator: str = "Relu", opset: int = 17, external: str = "") -> None:
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 4], [1.0] * 4)
    if external:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
        weight.external_data.add(key="length", value="16")
    nodes = [helper.make_node(operator, ["x"], ["r"]), helper.make_node("Add", ["r", "w"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, [1, 4])], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"operator": "NoSuchOperator"}, "NoSuchOperator"),
        ({"opset": 9999}, "opset"),
        ({"external": "../outside.bin"}, "outside"),
        ({"external": "/etc/hostname"}, "/etc/hostname"),
    ],
)
@pytest.mark.parametrize("command", ["run", "bench"])
def test_onnx_that_cannot_be_run(
    change: dict[str, Any], words: str, command: str, good: Path, refused: Refused
) -> None:
    _onnx(good / "bad.onnx", **change)
    message = refused(*(part.format("bad.onnx") for part in MODEL_COMMANDS[command]))
    assert words in message


# ---------------------------------------------------------------- inputs of one inference


@pytest.mark.parametrize(
    ("name", "arrays", "words"),
    [
        ("name.npz", {"nonsense": np.zeros((1, 4), np.float32), "more": np.zeros(1, np.float32)}, "'x'"),
        ("shape.npz", {"x": np.zeros((1, 5), np.float32)}, "5"),
        ("rank.npz", {"x": np.zeros((1, 1, 1, 4), np.float32)}, "4"),
        ("dtype.npz", {"x": np.array([["a", "b", "c", "d"]])}, "x"),
        ("nan.npz", {"x": np.array([[np.nan, 1, 2, 3]], np.float32)}, "NaN"),
        ("inf.npz", {"x": np.array([[np.inf, 1, 2, 3]], np.float32)}, "inf"),
        ("object.npz", {"x": np.array([None, 1], dtype=object)}, ""),
    ],
)
def test_feed(name: str, arrays: dict[str, Any], words: str, good: Path, refused: Refused) -> None:
    np.savez(good / name, **arrays)
    assert words in refused("run", "good.onnx", name, "-o", "out.npz")


@pytest.mark.parametrize(
    ("name", "content"),
    [("none.png", None), ("empty.png", b""), ("noise.jpg", NOISE), ("words.csv", b"a,b\nc,d\n"), ("x.docx", b"x")],
)
def test_input_file(name: str, content: bytes | None, good: Path, refused: Refused) -> None:
    if content is not None:
        (good / name).write_bytes(content)
    assert name in refused("run", "good.onnx", name)


# ---------------------------------------------------------------- sources

FACTORIES = """
import torch
def raises(): raise ValueError("the factory's own words")
def nothing(): return None
def number(): return 7
def module(): return torch.nn.Linear(2, 2)
value = 3
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("net.py:raises", "the factory's own words"),
        ("net.py:nothing", "NoneType"),
        ("net.py:number", "int"),
        ("net.py:absent", "absent"),
        ("net.py:value", "value"),
        ("nowhere.py:factory", "nowhere.py"),
        ("broken.py:factory", "broken.py"),
        ("no.such.package:factory", "no.such.package"),
        ("resnet9000", "resnet9000"),
        ("weights.pt", "pickle"),
        ("missing.safetensors", "missing.safetensors"),
        ("empty.safetensors", "empty.safetensors"),
        ("noise.safetensors", "noise.safetensors"),
        ("short.safetensors", "short.safetensors"),
    ],
)
def test_source(source: str, words: str, tmp_path: Path, refused: Refused) -> None:
    import torch
    from safetensors.torch import save

    (tmp_path / "net.py").write_text(FACTORIES, encoding="utf-8")
    (tmp_path / "broken.py").write_text("def factory(:\n", encoding="utf-8")
    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "noise.safetensors").write_bytes(NOISE)
    (tmp_path / "short.safetensors").write_bytes(save({"a": torch.zeros(100)})[:-50])
    assert words in refused("export", source, "--to", "onnx", "-o", "out")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


# ---------------------------------------------------------------- data sets


def _image(path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Image folders that are each wrong in one way."""
    for k in range(6):
        _image(tmp_path / f"one/cat/{k}.png")
    for kind in ("cat", "dog"):
        for k in range(6):
            _image(tmp_path / f"damaged/{kind}/{k}.png")
            (tmp_path / f"damaged/{kind}/{k}.png").write_bytes(NOISE)
    (tmp_path / "hollow/cat").mkdir(parents=True)
    (tmp_path / "hollow/dog").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("images:one", "class"),
        ("images:damaged", "damaged"),
        ("images:hollow", "hollow"),
        ("images:nowhere", "nowhere"),
        ("npz:nowhere.npz", "nowhere.npz"),
        ("breast-cancer", "image"),
    ],
)
def test_data_to_train_on(data: str, words: str, folders: Path, refused: Refused) -> None:
    assert words in refused("train", "cnn", "--data", data, "--epochs", "1", "-o", "out.safetensors")


@pytest.mark.parametrize("data", ["nonsense", "nonsense:x", "digits@sideways"])
def test_data_that_has_no_such_name(data: str, tmp_path: Path, refused: Refused) -> None:
    refused("train", "mlp", "--data", data, "--epochs", "1", "-o", "out.safetensors", code=2)


@pytest.mark.parametrize(("labels", "words"), [([0, 99], "99"), ([0, -1], "-1"), ([0], "")])
def test_labels_that_do_not_fit(labels: list[int], words: str, good: Path, refused: Refused) -> None:
    from edgekit.artifact import write_card
    from edgekit.types import Card, Signature, Task, TensorSpec

    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
    write_card(good / "good.onnx", Card("c", "custom", Task("classification", tuple("abcd"), "accuracy"), signature))
    np.savez(good / "d.npz", x=np.zeros((2, 4), np.float32), labels=np.array(labels))
    assert words in refused("eval", "good.onnx", "--data", "npz:d.npz@all")


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune", "cnn", "--method", "channels", "--amount", "1.5", "-o", "out.safetensors"],
        ["prune", "cnn", "--method", "channels", "--amount", "0", "-o", "out.safetensors"],
        ["prune", "cnn", "--method", "channels", "--amount", "nan", "-o", "out.safetensors"],
        ["prune", "cnn", "--method", "channels", "-o", "out.safetensors"],
        ["prune", "cnn", "--method", "nonsense", "--amount", "0.5", "-o", "out.safetensors"],
        ["quantize", "good.onnx", "--scheme", "nonsense", "-o", "out.onnx"],
        ["export", "mlp", "--to", "nonsense", "-o", "out"],
        ["bench", "good.onnx", "--on", "nonsense"],
        ["bench", "good.onnx", "--seconds", "-1"],
        ["run", "good.onnx", "good.npy", "--runtime", "nonsense"],
        ["run", "good.onnx", "good.npy", "-o", "out.txt"],
        ["run", "good.onnx", "good.npy", "--on", "python:/no/such/python"],
        ["train", "nonsense", "--data", "digits", "-o", "out.safetensors"],
        ["train", "mlp", "--data", "breast-cancer", "--epochs", "1", "-o", "out.pt"],
        ["train", "mlp", "--data", "breast-cancer", "--epochs", "1", "-o", "a-file/out.safetensors"],
        ["run", "good.onnx", "good.npy", "-o", "a-file/out.npz"],
        ["quantize", "good.onnx", "--scheme", "fp16", "-o", "a-file/out.onnx"],
        ["export", "mlp", "--to", "onnx", "-o", "a-file"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_usage(arguments: list[str], good: Path, refused: Refused) -> None:
    (good / "a-file").write_text("a file, no folder", encoding="utf-8")
    refused(*arguments, code=2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(good: Path, refused: Refused) -> None:
    (good / "locked").mkdir(mode=0o555)
    refused("run", "good.onnx", "good.npy", "-o", "locked/out.npz", code=2)


# ---------------------------------------------------------------- full disk


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few kilobytes with no block left."""
    place = tmp_path / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        with open(place / "filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError as error:
                assert error.strerror == "No space left on device"
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "good.onnx", "good.npy", "-o", "full/out.npz"],
        ["train", "mlp", "--data", "breast-cancer", "--epochs", "1", "-o", "full/out.safetensors"],
        ["export", "mlp", "--to", "onnx", "-o", "full/out"],
        ["prune", "mlp", "--amount", "0.3", "--data", "breast-cancer", "--epochs", "1", "-o", "full/out.safetensors"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_full_disk(arguments: list[str], good: Path, full_disk: Path, refused: Refused) -> None:
    assert "No space left" in refused(*arguments)
    assert [path.name for path in full_disk.rglob("*") if path.is_file()] == ["filler"]


def test_a_full_disk_takes_the_document_and_not_the_table(
    good: Path, full_disk: Path, edgekit_cli: Callable[..., Any]
) -> None:
    ended = edgekit_cli("inspect", "good.onnx", "--json", "full/out.json")
    assert ended.code == 3 and "No space left" in ended.err
    assert "Relu" in ended.out
    assert [path.name for path in full_disk.rglob("*") if path.is_file()] == ["filler"]


# ---------------------------------------------------------------- texts and tables


@pytest.mark.parametrize(
    ("data", "text", "words"),
    [
        ("table:t.csv", "a,b,label\n1,,x\n2,3,y\n", "line 2: the cell of column 'b' is missing"),
        ("table:t.csv", "a,b,label\n" + "".join(f"{k},7,{k % 2}\n" for k in range(20)), "'b' is 7 in every row"),
        ("table:t.csv", "a,b,label\n1,red,x\n2,blue,y\n", "column 'b' holds 'red'"),
        ("table:t.csv", "a,b,label\n" + "".join(f"{k},{k * k},x\n" for k in range(20)), "1 class"),
        ("table:none.csv", "", "does not exist"),
        ("text:t.tsv", "a fine film\tgood\nbad\n", "line 2: 1 column"),
        ("text:t.tsv", "a fine film\tgood\n\tbad\nx\tbad\n", "line 2: the sentence is empty"),
        ("text:none.tsv", "", "does not exist"),
    ],
)
def test_texts_and_tables(data: str, text: str, words: str, tmp_path: Path, refused: Refused) -> None:
    kind, _, name = data.partition(":")
    if not name.startswith("none"):
        (tmp_path / name).write_text(text, encoding="utf-8")
    family = {"table": "mlp", "text": "transformer"}[kind]
    assert words in refused("train", family, "--data", data, "-o", "out.safetensors")
