"""What a file says of itself, of files that onnx and litert made without a card."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.artifact import open_artifact
from edgekit.quality.file_facts import file_facts
from edgekit.report.text import show
from edgekit.report.verbs import render_inspect
from edgekit.types import QuantizedTensor


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """A product between a DequantizeLinear that reads the input and a QuantizeLinear that writes the output."""
    constants = {
        "xs": np.float32(0.5), "xz": np.int8(3), "w": np.ones((4, 2), np.int8), "ws": np.float32(0.1),
        "wz": np.int8(0), "b": np.ones(2, np.int32), "bs": np.float32(0.05), "bz": np.int32(0),
        "ys": np.float32(0.25), "yz": np.uint8(7), "shape": np.array([1, 2], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"]),
        helper.make_node("Gemm", ["xf", "wf", "bf"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "ys", "yz"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 2])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="by hand")
    onnx.save(model, tmp_path / "q.onnx")
    return tmp_path / "q.onnx"


def test_a_foreign_onnx_file(quantized: Path) -> None:
    facts = file_facts(open_artifact(quantized))
    assert facts.parameters == 4 * 2 + 2  # neither scales and zero points nor the shape
    assert (facts.opset, facts.ir_version, facts.producer) == ({"ai.onnx": 17}, 9, "by hand")
    assert facts.quantized_io == {"x": QuantizedTensor("int8", 0.5, 3), "y": QuantizedTensor("uint8", 0.25, 7)}
    result = edgekit.inspect(quantized)
    assert result.facts.macs == 8
    stream = StringIO()
    show(render_inspect(result), stream)
    text = stream.getvalue()
    assert "10 parameters, 8 multiply-accumulates a run" in text
    assert "opset 17 of ai.onnx, IR 9, written by by hand" in text
    assert "int8, scale 0.5, zero point 3" in text and "1×4" in text


def test_parameters_are_those_of_torch(tmp_path: Path) -> None:
    """Of a network whose converter folds nothing, in both formats; int8 holds as many."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3)), torch.zeros(1, 6)\n"
    )
    edgekit.export(f"{tmp_path / 'net.py'}:build", to=["onnx", "tflite"], out=tmp_path)
    for suffix in ("onnx", "tflite"):
        facts = edgekit.inspect(tmp_path / f"build.{suffix}").facts
        assert (facts.parameters, facts.macs) == (6 * 10 + 10 + 10 * 3 + 3, 6 * 10 + 10 * 3)
    assert edgekit.inspect(tmp_path / "build.tflite").facts.schema_version == 3
