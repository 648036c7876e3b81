"""What a compressed file has to show before it is published, and what is said of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.artifact import open_artifact
from edgekit.errors import ParityError
from edgekit.pipeline.inspect import inspect
from edgekit.pipeline.quantize.samples import HELD_MOST, INVENTED, calibration_feeds, samples_of
from edgekit.pipeline.schemes import quantize
from edgekit.quantization.onnx import prepare as onnx_prepare
from edgekit.quantization.onnx import quantize as quantize_onnx
from edgekit.report.quantize import render_quantize
from edgekit.report.text import show
from edgekit.report.verbs import render_inspect

pytestmark = pytest.mark.usefixtures("kept_workers")


def network(path: Path, *, width: int = 64, outputs: int = 8, seed: int = 0) -> Path:
    """``x`` (N, 16) -> ``y`` (N, outputs): two products with a ReLU between, free batch."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (16, width), "b1": (width,), "w2": (width, outputs), "b2": (outputs,)}
    held = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], "last"),
    ]
    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 16), ("y", outputs))]
    graph = helper.make_graph(nodes, "g", sides[:1], sides[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return network(tmp_path / "net.onnx")


def samples(path: Path, count: int) -> str:
    """``count`` unlabelled samples, as ``--data`` takes them."""
    np.savez(path, x=np.random.default_rng(1).normal(size=(count, 16)).astype(np.float32))
    return f"npz:{path}"


def test_without_labels_the_outputs_are_compared(net: Path, tmp_path: Path) -> None:
    made = quantize(
        net, scheme="int8", data=samples(tmp_path / "d.npz", 100), out=tmp_path / "q.onnx", allow_slower=True, seconds=0
    )
    document = json.loads(json.dumps(made.document()))
    fidelity = document["fidelity"]
    assert document["quality"] is None
    assert fidelity["samples"] == 20  # a quarter of the 80 of the train split
    (row,) = fidelity["outputs"]
    assert row["name"] == "y"
    assert 25 < row["snr_db"] < 60
    assert row["worst_channel_db"] > 15
    assert (row["channels"], row["dead_channels"]) == (8, 0)
    assert row["cosine"] > 0.99

    card = open_artifact(tmp_path / "q.onnx").card
    assert card is not None and card.parent is not None
    assert card.parent["fidelity"]["outputs"][0]["snr_db"] == row["snr_db"]
    for parts in (render_quantize(made), render_inspect(inspect(tmp_path / "q.onnx"))):
        show(parts, told := io.StringIO())
        assert f"{row['snr_db']:.1f} dB" in told.getvalue()
        assert "20 samples of npz:" in told.getvalue()


def test_the_ratio_is_that_of_the_published_file(net: Path, tmp_path: Path) -> None:
    """Measured again here, on the same samples, from the files alone."""
    data = samples(tmp_path / "d.npz", 100)
    made = quantize(net, scheme="int8", data=data, out=tmp_path / "q.onnx", allow_slower=True, seconds=0)
    held = samples_of(data, None).held
    assert held is not None
    inputs = np.asarray(held.arrays["x"])
    with edgekit.load(net) as parent, edgekit.load(tmp_path / "q.onnx") as file:
        wanted, found = (np.concatenate([r.run({"x": x[None]})["y"] for x in inputs]) for r in (parent, file))
    ratio = 10 * np.log10((wanted.astype(float) ** 2).sum() / ((wanted - found.astype(float)) ** 2).sum())
    assert made.document()["fidelity"]["outputs"][0]["snr_db"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("scheme", ["int8-weights", "fp16"])
def test_without_data_seeded_inputs_are_run(net: Path, tmp_path: Path, scheme: str) -> None:
    fidelity = quantize(net, scheme=scheme, out=tmp_path / "q.onnx", allow_slower=True, seconds=0).document()[
        "fidelity"
    ]
    assert (fidelity["samples"], fidelity["data"]) == (INVENTED, f"{INVENTED} seeded inputs")
    assert fidelity["outputs"][0]["snr_db"] > (30 if scheme == "int8-weights" else 60)


def test_a_single_sample_serves_both_and_that_is_said(net: Path, tmp_path: Path) -> None:
    made = quantize(
        net, scheme="int8", data=samples(tmp_path / "d.npz", 1), out=tmp_path / "q.onnx", allow_slower=True, seconds=0
    )
    assert made.document()["fidelity"]["samples"] == 1
    assert any("there is one sample: it calibrated, and" in note for note in made.notes)


@pytest.mark.parametrize(
    ("there", "asked", "held"), [(8, None, 2), (40, 8, 2), (5, 3, 1), (500, None, 64), (900, 2, 1)]
)
def test_a_quarter_is_held_back(tmp_path: Path, there: int, asked: int | None, held: int) -> None:
    x = np.arange(there, dtype=np.float32)[:, None] * np.ones((1, 16), np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    found = samples_of(f"npz:{tmp_path / 'd.npz'}@all", asked)
    assert found.fit is not None and found.held is not None
    one, other = ({float(row[0]) for row in np.asarray(side.arrays["x"])} for side in (found.fit, found.held))
    assert len(other) == held <= HELD_MOST
    assert one | other == set(range(there)) and not one & other


def test_a_free_batch_is_calibrated_one_sample_at_a_time(net: Path, tmp_path: Path) -> None:
    """All activations of a feed are held at once: 64 of a network with large ones took 17 GB."""
    artifact, chosen = open_artifact(net), samples_of(samples(tmp_path / "d.npz", 100), None).fit
    assert chosen is not None
    with edgekit.load(net) as runner:
        shapes = [feed["x"].shape for feed in calibration_feeds(artifact, chosen, runner.signature)]
    assert shapes == [(1, 16)] * len(chosen)


def test_a_wire_that_was_moved_is_not_published(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = quantize_onnx.real_outputs

    def rewired(model: Any, bounded: Any) -> None:
        """The last product reads what stands before the ReLU."""
        real(model, bounded)
        quantize = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "r")
        last = next(n for n in model.graph.node if n.name == "last")
        last.input[0] = quantize.input[0]

    monkeypatch.setattr(quantize_onnx, "real_outputs", rewired)
    data, before = samples(tmp_path / "d.npz", 50), sorted(tmp_path.iterdir())
    with pytest.raises(ParityError, match=r"the tensor 'relu' as last \(Gemm\) reads it is off by"):
        quantize(net, scheme="int8", data=data, out=tmp_path / "q.onnx", allow_slower=True, seconds=0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_rewrite_of_the_float_file_that_changes_it_is_not_published(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnx_prepare._mean_to_pooling

    def wrong(model: Any) -> None:
        real(model)
        tensor = next(t for t in model.graph.initializer if t.name == "b1")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.1), "b1"))

    monkeypatch.setattr(onnx_prepare, "_mean_to_pooling", wrong)
    with pytest.raises(ParityError, match="as it is rewritten before it is quantized gives another output 'y'"):
        quantize(net, scheme="int8-weights", out=tmp_path / "q.onnx", allow_slower=True, seconds=0)
    assert not (tmp_path / "q.onnx").exists()


def test_made_up_integers_stay_within_the_tables(tmp_path: Path) -> None:
    """Rows of two tables, in a file that says nothing of them: an index beyond the smaller one ends the runtime."""
    rng = np.random.default_rng(0)
    shapes = {"words": (1000, 16), "types": (2, 16), "w": (16, 64)}
    held = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["a"]),
        helper.make_node("Gather", ["types", "kinds"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, 12]) for n in ("ids", "kinds")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 12, 64])
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [output], held),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "m.onnx")
    made = quantize(tmp_path / "m.onnx", scheme="int8-dynamic", out=tmp_path / "q.onnx", seconds=0)
    assert made.fidelity.samples == INVENTED
