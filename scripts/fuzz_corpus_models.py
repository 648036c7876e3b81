"""The models, cards and checkpoints of the corpus of scripts/fuzz; see scripts/fuzz_corpus.py."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_archives import read_zip, two_directories, write_zip
from fuzz_formats import fields_of, message

Files = Mapping[str, bytes]
Seeds = Iterator[tuple[str, str, Files]]
"""(reader, seed, files by name)"""
OUTSIDE = """import pathlib
pathlib.Path(__file__).with_name("outside").write_text("code ran")
def build():
    import torch
    return torch.nn.Linear(4, 2), torch.zeros(1, 4)
"""
"""Code beside a file that names it; reading the file must not run it."""


class Touch:
    """A pickle of it starts a program when it is opened."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch outside",)


@functools.lru_cache(maxsize=1)
def made_models(work: Path) -> Path:
    """A folder with small networks in every format, float and int8, and what the verbs write about them."""
    import edgekit
    from edgekit.cli.program import run as program
    from edgekit.pipeline.quantize import plan_mixed

    edgekit.export("mlp", to=["onnx", "tflite", "pt2"], out=work, name="mlp")
    edgekit.export("gru", to=["onnx", "tflite"], out=work, name="gru")
    edgekit.export("mlp", to=["pt2"], out=work, name="open", dynamic=["table:0=batch"])
    for format_ in ("onnx", "tflite"):
        keywords: dict[str, Any] = {
            "save_calibration": work / f"ranges-{format_}.json",
            "out": work / f"int8.{format_}",
        }
        edgekit.quantize(
            work / f"mlp.{format_}", scheme="int8", data="breast-cancer", samples=50, **keywords, seconds=0
        )
    plan_mixed(work / "mlp.onnx", scheme="int8", data="breast-cancer", samples=50, out=work / "plan.json", seconds=0)
    models = [str(work / name) for name in ("mlp.onnx", "int8.onnx", "mlp.tflite")]
    if program(["bench", *models, "--seconds", "0.3", "-q", "--json", str(work / "bench.json")]):
        raise SystemExit("fuzz: the bench that makes a seed failed")
    return work


def graphs(work: Path) -> Seeds:
    """ONNX and TFLite files: of edgekit, from elsewhere, with weights in other files, with odd references."""

    models = made_models(work)
    for format_ in ("onnx", "tflite"):
        for name in ("mlp", "int8", "gru"):
            yield format_, name, {f"model.{format_}": (models / f"{name}.{format_}").read_bytes()}
    bare = _bare_onnx(external=False)
    yield "onnx", "bare", {"model.onnx": bare}
    yield "onnx", "external", {"model.onnx": _bare_onnx(external=True), "weights.bin": bytes(48)}
    yield "onnx", "hostile-external", {"model.onnx": _bare_onnx(external=True).replace(b"weights.bin", b"../outside1")}
    plain = (models / "mlp.tflite").read_bytes()
    yield "tflite", "hostile-references", {"model.tflite": _many_references(plain, 300_000)}
    yield "onnx", "hostile-deep", {"model.onnx": _deep(bare, 400)}


def _deep(data: bytes, levels: int) -> bytes:
    """The ONNX file with its graph in a branch of a branch of a branch."""
    fields = fields_of(data) or []
    graph = next(value for number, _, value in fields if number == 7)
    for _ in range(levels):
        attribute = message([(1, 2, b"then_branch"), (6, 2, graph), (20, 0, 5)])
        graph = message([(1, 2, message([(4, 2, b"If"), (5, 2, attribute)])), (2, 2, b"g")])
    return message([(7, 2, graph) if field[0] == 7 else field for field in fields])


def _bare_onnx(*, external: bool) -> bytes:
    """A file without a card: a product with weights, which lie in ``weights.bin`` if ``external``."""
    from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    if external:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "weights.bin", "offset": "0", "length": "48"}.items():
            weights.external_data.append(StringStringEntryProto(key=key, value=value))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 4), ("y", 3))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(model.SerializeToString())


def _many_references(data: bytes, count: int) -> bytes:
    """A TFLite file whose list of graphs names the same graph ``count`` times: a new root in front of the old file."""

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(data[at : at + size], "little")

    root = number(0)
    vtable = root - int.from_bytes(data[root : root + 4], "little", signed=True)
    slots = [number(vtable + at, 2) if at < number(vtable, 2) else 0 for at in range(4, 20, 2)]
    head = 8 + 20 + 4 + 4 * 8  # offset and identifier, vtable, table
    shift = -(-(head + 4 + 4 * count) // 64) * 64
    out = bytearray(shift)
    out[:8] = struct.pack("<I4s", 28, b"TFL3")
    struct.pack_into("<10H", out, 8, 20, 36, *(4 + 4 * k if slot else 0 for k, slot in enumerate(slots)))
    struct.pack_into("<i", out, 28, 20)
    for k, slot in enumerate(slots):
        here, place = 32 + 4 * k, root + slot
        if slot:
            value = number(place) if k == 0 else head - here if k == 2 else place + number(place) + shift - here
            struct.pack_into("<I", out, here, value)
    first = root + slots[2] + number(root + slots[2]) + 4
    graph = first + number(first) + shift
    places = range(head + 4, head + 4 + 4 * count, 4)
    struct.pack_into(f"<{count + 1}I", out, head, count, *(graph - here for here in places))
    return bytes(out) + data


# ---------------------------------------------------------------- captured programs


def programs(work: Path) -> Seeds:
    """``.pt2`` files: of edgekit, and with pickles, code, files and endless numbers in them."""
    models = made_models(work)
    for name in ("mlp", "open"):
        yield "pt2", name, {"model.pt2": (models / f"{name}.pt2").read_bytes()}
    members = read_zip((models / "mlp.pt2").read_bytes())
    evil = [replace(m, data=_pickled_inputs()) if b"/sample_inputs/" in m.name else m for m in members]
    yield "pt2", "hostile-inputs", {"model.pt2": write_zip(evil)}
    yield "pt2", "hostile-two-directories", {"model.pt2": two_directories(evil, members)}
    yield "pt2", "hostile-from-file", {"model.pt2": _writes_a_file(work)}
    open_ = read_zip((models / "open.pt2").read_bytes())
    for name, text in {
        "hostile-power": "9**9**9**9",
        "hostile-import": "__import__('os').system('touch outside')",
    }.items():
        changed = [
            replace(m, data=_with_expression(m.data, text)) if m.name.endswith(b"model.json") else m for m in open_
        ]
        yield "pt2", name, {"model.pt2": write_zip(changed)}


def lowered(work: Path) -> Seeds:
    """``.pte`` files: for XNNPACK, with a card and without."""
    from edgekit.pipeline.doctor import TINY_PTE
    from edgekit.pte_reader import with_metadata

    yield "pte", "relu", {"model.pte": TINY_PTE}
    yield "pte", "named", {"model.pte": with_metadata(TINY_PTE, "weights", bytes(64))}


def _pickled_inputs() -> bytes:
    """What torch.save would write of an object that starts a program."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Touch(), 2))
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def _writes_a_file(work: Path) -> bytes:
    """A program that copies its input into a tensor which is a file: ``zeros`` of a real one, given another name."""
    import torch

    class Writes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.zeros(4).copy_(x)
            return x + 1

    torch.export.save(torch.export.export(Writes(), (torch.ones(4),)), work / "writes.pt2")
    given = {"filename": {"as_string": "outside"}, "shared": {"as_bool": True}, "size": {"as_int": 4}}
    members = []
    for member in read_zip((work / "writes.pt2").read_bytes()):
        if member.name.endswith(b"/models/model.json"):
            program = json.loads(member.data)
            for node in program["graph_module"]["graph"]["nodes"]:
                if ".zeros." in node["target"]:
                    node["target"] = "torch.ops.aten.from_file.default"
                    node["inputs"] = [{"name": name, "arg": value, "kind": 1} for name, value in given.items()]
            member = replace(member, data=json.dumps(program).encode())
        members.append(member)
    return write_zip(members)


def _with_expression(program: bytes, text: str) -> bytes:
    """The program with ``text`` in place of every size that is an expression."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: text if key == "expr_str" else changed(item) for key, item in value.items()}
        return [changed(item) for item in value] if isinstance(value, list) else value

    return json.dumps(changed(json.loads(program))).encode()


# ---------------------------------------------------------------- cards and checkpoints


def cards(work: Path) -> Seeds:
    """A card of every kind of input in a small file, with an input that it describes; and cards in each format."""
    from fuzz_corpus import media

    from edgekit.artifact import write_card
    from edgekit.models.checkpoint import read_checkpoint
    from edgekit.models.family import WEIGHTS

    models = made_models(work)
    (work / "bare.onnx").write_bytes(_bare_onnx(external=False))
    found = {(reader, seed): files for reader, seed, files in media(work)}
    inputs = {
        "image": found["image", "png"],
        "audio": found["wav", "mono"],
        "noise": {"noise.npy": _npy(np.zeros((1, 64)))},
    }
    inputs["text"] = {"text.txt": b"A film that is worth seeing."}
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        card = read_checkpoint(path)[1]
        assert card is not None
        write_card(work / "bare.onnx", card, work / "card.onnx")
        rule = next(iter(card.contract.values()))
        rows = [",".join(rule.columns), *[",".join("0.5" for _ in rule.columns)] * 100]
        ((name, content),) = inputs.get(rule.kind, {"values.csv": "\n".join(rows).encode()}).items()
        yield "card", path.stem, {"model.onnx": (work / "card.onnx").read_bytes(), f"input/{name}": content}
        if path.stem == "mlp":
            for kind in ("tflite", "pt2"):
                model = (models / f"mlp.{kind}").read_bytes()
                yield "card", f"mlp-{kind}", {f"model.{kind}": model, f"input/{name}": content}


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array.astype(np.float32))
    return out.getvalue()


def checkpoints(work: Path) -> Seeds:
    """Checkpoints of the zoo, of a user's factory, and some that name code which is not theirs to run."""
    from edgekit.models.checkpoint import read_checkpoint, save_checkpoint
    from edgekit.models.family import WEIGHTS
    from edgekit.source import resolve

    for name in ("mlp", "cnn-pruned", "gru", "rnn"):
        yield "checkpoint", name, {"net.safetensors": (WEIGHTS / f"{name}.safetensors").read_bytes()}
    network = resolve("mlp")
    for name, factory in {"code": "outside.py:build", "abort": "os:abort", "itself": "net.safetensors"}.items():
        named = replace(network, card=replace(network.card, family="custom", config={"factory": factory}))
        save_checkpoint(named, work / "net.safetensors")
        files = {"net.safetensors": (work / "net.safetensors").read_bytes(), "outside.py": OUTSIDE.encode()}
        yield "checkpoint", f"hostile-{name}", files
    state, _ = read_checkpoint(WEIGHTS / "mlp.safetensors")
    from safetensors.torch import save

    yield "checkpoint", "hostile-no-card", {"net.safetensors": save(state)}


def foreign(work: Path) -> Seeds:
    """A SavedModel folder, a .keras file and a folder of Hugging Face, where the packages are installed."""
    if importlib.util.find_spec("transformers") is not None:
        tiny = {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 8,
            "vocab_size": 30,
        }
        config = {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 16, **tiny}
        yield "hf", "bert", {"config.json": json.dumps(config).encode()}
    if importlib.util.find_spec("keras") is not None:
        os.environ["KERAS_BACKEND"] = "torch"
        import keras

        layers = [keras.layers.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)]
        keras.Sequential(layers).save(work / "net.keras")
        yield "keras", "dense", {"net.keras": (work / "net.keras").read_bytes()}
    if importlib.util.find_spec("tensorflow") is not None:
        import tensorflow as tf

        module = tf.Module()
        module.weight = tf.Variable(np.ones((4, 3), np.float32))
        spec = tf.TensorSpec([None, 4], tf.float32, name="x")
        module.run = tf.function(lambda x: {"y": tf.matmul(x, module.weight)}, input_signature=[spec])
        tf.saved_model.save(module, str(work / "saved"), signatures=module.run)
        files = {
            p.relative_to(work / "saved").as_posix(): p.read_bytes() for p in (work / "saved").rglob("*") if p.is_file()
        }
        yield "savedmodel", "product", files
