"""Operators and signatures as the files themselves have them, against what was put in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgekit.artifact import open_artifact
from edgekit.errors import ModelError
from edgekit.quality.contents import file_signature, may_write_buffers, operators
from edgekit.types import Artifact, Format, Signature, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")


def _onnx(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    then = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["e"])],
        "else",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Gelu", ["r"], ["z"], domain="com.microsoft"),
        helper.make_node("Add", ["z", "w"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", None])],
        [helper.make_tensor("w", TensorProto.FLOAT, [4], [0.0] * 4)],
    )
    onnx.save(helper.make_model(graph), str(path))
    return path


def test_onnx(tmp_path: Path) -> None:
    artifact = open_artifact(_onnx(tmp_path / "m.onnx"))
    found = operators(artifact)
    assert found == {"Abs": 1, "Add": 1, "If": 1, "Neg": 1, "Relu": 1, "com.microsoft::Gelu": 1}
    # w is a constant although old exporters list it as an input; an unnamed dynamic dimension gets a name
    assert file_signature(artifact) == Signature(
        (TensorSpec("x", "float32", ("n", 4)), TensorSpec("c", "bool", ())),
        (TensorSpec("out", "float32", ("n", "out_1")),),
    )


def test_tflite(tmp_path: Path) -> None:
    from edgekit.pipeline.doctor import TINY_TFLITE

    path = tmp_path / "m.tflite"
    path.write_bytes(TINY_TFLITE)
    artifact = open_artifact(path)
    assert operators(artifact) == {"RELU": 1}
    assert file_signature(artifact) == Signature(
        (TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),)
    )


def test_pt2_is_read_without_unpickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    import torch

    class Two(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.relu(image) + torch.relu(-image)

    path = tmp_path / "m.pt2"
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(Two(), (torch.zeros(2, 3),), dynamic_shapes={"image": {0: batch}})
    torch.export.save(program, str(path))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(pickle, "Unpickler", refuse)
    artifact = open_artifact(path)
    assert operators(artifact) == {"aten.relu.default": 2, "aten.add.Tensor": 1, "aten.neg.default": 1}
    signature = file_signature(artifact)
    assert [spec.name for spec in signature.inputs] == ["image"]
    assert signature.inputs[0].dtype == "float32"
    assert isinstance(signature.inputs[0].shape[0], str) and signature.inputs[0].shape[1] == 3


def test_damaged_onnx(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x07garbage")
    with pytest.raises(ModelError, match=r"m\.onnx"):
        operators(Artifact(path, Format.ONNX))


@pytest.mark.parametrize(
    "program",
    [
        b"{}",
        b"[]",
        b'{"graph_module": 7}',
        b'{"graph_module": {}}',
        b'{"graph_module": {"graph": {"nodes": [7], "tensor_values": {}}, "signature": {"input_specs": [7]}}}',
        b'{"graph_module": {"graph": {"nodes": 7, "tensor_values": 7}, "signature": []}}',
        b"[" * 100_000,
        b"not JSON",
    ],
)
def test_a_program_that_torch_did_not_write(program: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/models/model.json", program)
    artifact = open_artifact(path)
    for question in (operators, file_signature, lambda artifact: may_write_buffers(artifact.path)):
        with pytest.raises(ModelError):
            question(artifact)
