"""torch -> ONNX: one file, names kept, the asked-for opset or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.older_opset import OPSETS
from edgekit.converters.torch_to_onnx import LIMIT_BYTES, TorchToOnnx
from edgekit.errors import UnsupportedError
from edgekit.types import Network


def convert(network: Network, target: Path, **options: object) -> tuple[Capture, onnx.ModelProto]:
    capture = Capture(network, ConversionOptions(**options))  # type: ignore[arg-type]
    TorchToOnnx().convert(capture, target)
    return capture, onnx.load(str(target))


def test_names_shapes_and_values(twelve: Network, tmp_path: Path) -> None:
    capture, model = convert(twelve, tmp_path / "m.onnx")
    assert [value.name for value in model.graph.input] == ["tokens", "unused"]
    assert [value.name for value in model.graph.output] == [f"output_{k}" for k in range(12)]
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    feed = {"tokens": np.array([[1, 9, 3, 0, 2, 5]]), "unused": np.zeros((1, 2), np.float32)}
    for got, wanted in zip(session.run(None, feed), capture.reference(feed).values(), strict=True):
        assert np.allclose(got, wanted, atol=1e-6)  # float32 sums in another order


def test_dynamic_dimensions_have_the_users_names(small: Network, tmp_path: Path) -> None:
    _, model = convert(small, tmp_path / "m.onnx", dynamic={"image": {0: "batch"}})
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 8, 8]
    assert [d.dim_param or d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == ["batch", 4]
    inner = {d.dim_param for v in model.graph.value_info for d in v.type.tensor_type.shape.dim if d.dim_param}
    assert inner <= {"batch"}


def test_the_file_is_whole_and_tells_nothing_of_this_machine(small: Network, tmp_path: Path) -> None:
    _, model = convert(small, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    data = (tmp_path / "m.onnx").read_bytes()
    assert b".py" not in data
    assert str(Path(__file__).parent).encode() not in data
    assert any(p.key == "pkg.torch.onnx.name_scopes" for node in model.graph.node for p in node.metadata_props)


def test_weights_and_scopes_have_the_users_names_behind_a_change_of_layout(small: Network, tmp_path: Path) -> None:
    _, plain = convert(small, tmp_path / "plain.onnx")
    _, turned = convert(small, tmp_path / "turned.onnx", channels_last=True)
    weights = {t.name for t in plain.graph.initializer if "." in t.name}
    assert {"stem.weight", "head.weight"} <= weights
    assert weights <= {t.name for t in turned.graph.initializer}
    scopes = [p.value for node in turned.graph.node for p in node.metadata_props]
    assert scopes
    assert not any("module" in text for text in scopes)
    onnx.checker.check_model(turned, full_check=True)


def test_a_recurrent_layer_stays_one_operator_and_knows_its_module(
    network_of: Callable[..., Network], tmp_path: Path
) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(4, 8, batch_first=True, bidirectional=True)
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x)[0][:, -1])

    capture, model = convert(network_of(Recurrent(), torch.zeros(1, 6, 4)), tmp_path / "m.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("LSTM") == 1
    assert len(kinds) <= 6  # 33 before constants are folded
    owners = {node.op_type: [p.value for p in node.metadata_props] for node in model.graph.node}
    assert "'layer'" in owners["LSTM"][0]
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    feed = {"x": np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)}
    assert np.allclose(session.run(None, feed)[0], capture.reference(feed)["output"], atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("opset", [OPSETS.start, OPSETS.stop - 1])
def test_both_ends_of_the_opsets_are_written_and_run(small: Network, tmp_path: Path, opset: int) -> None:
    _, model = convert(small, tmp_path / "m.onnx", opset=opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("opset", [OPSETS.start - 1, OPSETS.stop, 0, 99])
def test_other_opsets_are_refused_with_the_range(small: Network, opset: int) -> None:
    with pytest.raises(UnsupportedError, match=rf"opset {opset} cannot be written; there are 13 to 25"):
        TorchToOnnx().check(small, ConversionOptions(opset=opset))


def test_more_than_two_gib_is_refused_before_any_work(small: Network) -> None:
    huge = nn.Linear(2**15, 2**14 + 1, device="meta")  # 2 GiB of weights that take no memory
    assert huge.weight.numel() * 4 > LIMIT_BYTES
    with pytest.raises(UnsupportedError, match="cannot be larger than 2 GiB"):
        TorchToOnnx().check(Network(huge, small.example_inputs, small.card), ConversionOptions())


def test_an_operation_without_a_translation_is_named(network_of: Callable[..., Network], tmp_path: Path) -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(UnsupportedError, match=r"cannot write 'net'.*bessel_j0"):
        convert(network_of(Bessel(), torch.zeros(1, 3)), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_table_of_operators_is_read_once_in_a_process(small: Network, tmp_path: Path) -> None:
    """torch asks onnxscript for it at each export; here the second one gets what the first one read."""
    from torch.onnx._internal._lazy_import import onnxscript_apis

    for name in ("a", "b"):
        TorchToOnnx().convert(Capture(small, ConversionOptions()), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert onnxscript_apis.get_torchlib_ops() is onnxscript_apis.get_torchlib_ops()
