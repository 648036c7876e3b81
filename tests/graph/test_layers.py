from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ModelError
from edgekit.graph.layers import onnx_layers, tflite_layer


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("net.Net/torch.nn.Sequential_stem/torch.nn.Conv2d_0;", "stem.0"),
        ("n.Net/nn.Sequential_stem/nn.ReLU_2;;n.Net/nn.Sequential_stem/nn.Conv2d_0;1", "stem.0"),
        ("n.Net/n.Block_a;;n.Net/n.Block_a/nn.BatchNorm2d_norm;;n.Net/n.Block_a/nn.Conv2d_conv;", "a.conv"),
        ("net.Net/net.Block_my_block/torch.nn.Conv2d_conv_1;", "my_block.conv_1"),
        ("net.Net;", ""),
        ("layers/l0/h", "layers"),
        ("arith.constant2", None),
        ("serving_default_x:0", None),
        ("StatefulPartitionedCall/model/dense/MatMul", None),
        ("", None),
    ],
)  # fmt: skip
def test_names_of_litert_torch(tensor: str, layer: str | None) -> None:
    assert tflite_layer(tensor) == layer


def test_scopes_of_onnx_nodes(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Relu", ["x"], ["relu"], name="node_relu"),
        helper.make_node("Neg", ["relu"], ["neg"], name="node_neg"),
        helper.make_node("Abs", ["neg"], ["y"], name="node_abs"),
    ]
    for node, scopes in zip(nodes, (["", "stem", "stem.2", "relu"], ["", "neg"], None), strict=True):
        if scopes is not None:
            entry = node.metadata_props.add()
            entry.key, entry.value = "pkg.torch.onnx.name_scopes", repr(scopes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]))
    layer_of = onnx_layers(model.SerializeToString())
    assert layer_of("node_relu") == "stem.2"
    assert layer_of("relu_nchwc") == "stem.2"  # onnxruntime renames a node to its output
    assert layer_of("fused node_relu") == "stem.2"
    assert layer_of("node_relu/MatMulAddFusion") == "stem.2"
    assert layer_of("node_neg") == ""
    assert layer_of("node_abs") is None
    assert layer_of("gemm_input_reshape") is None
    assert onnx is not None


def test_not_an_onnx_file() -> None:
    with pytest.raises(ModelError, match=r"not an ONNX file|cut short"):
        onnx_layers(b"\x00\x01nothing")
