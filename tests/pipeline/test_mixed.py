"""Mixed precision: a layer that integers ruin stays in float, that one and no other."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.errors import DataError, QualityError, StorageError, UsageError
from edgekit.pipeline.quantize import calibrate, plan_mixed
from edgekit.pipeline.quantize.mixed import save_plan
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.report.quantize import render_plan, render_quantize
from edgekit.report.text import show
from edgekit.results.quantize import MixedPlan

pytestmark = pytest.mark.usefixtures("kept_workers")

HOSTILE = """
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 64), nn.Linear(64, 64)
        self.wide, self.last = nn.Linear(64, 512), nn.Linear(512, 4)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(torch.relu(self.wide(x)))

def network():
    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        # One channel of the second layer's input has weights of 3,000 and is always zero: the scale of every row is
        # that channel's, and all other weights of the row round to nothing.
        net.first.weight.mul_(6)  # so that the classes depend on the input more than on the biases
        net.first.weight[0] = 0
        net.first.bias[0] = -1
        net.second.weight[:, 0] = 3000.0
    return net, {"x": torch.zeros(1, 16)}
"""
FORMATS = ("onnx", "tflite")
MAX_DROP = 0.1


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "net.py").write_text(HOSTILE)
    made = edgekit.export(f"{folder / 'net.py'}:network", to=list(FORMATS), out=folder)
    return {str(row.artifact.format): row.artifact.path for row in made.artifacts}


@pytest.fixture(scope="module")
def data(hostile: dict[str, Path]) -> str:
    """Samples labelled by the float network itself, so that its accuracy is 1."""
    inputs = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
    with edgekit.load(hostile["onnx"]) as runner:
        (spec,) = runner.signature.outputs
        labels = np.array([runner.run({"x": row[None]})[spec.name].argmax() for row in inputs])
    path = hostile["onnx"].parent / "labelled.npz"
    np.savez(path, x=inputs, labels=labels)
    return f"npz:{path}"


@pytest.mark.parametrize("format_", FORMATS)
def test_without_it_the_gate_says_no(hostile: dict[str, Path], data: str, tmp_path: Path, format_: str) -> None:
    options = {"scheme": "int8-dynamic", "data": data, "max_drop": MAX_DROP}
    with pytest.raises(QualityError, match="Try --mixed") as caught:
        edgekit.quantize(
            hostile[format_],
            out=tmp_path / f"q.{format_}",
            **options,
            seconds=0,
        )  # type: ignore[arg-type]
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["int8", "int8-weights"])
@pytest.mark.parametrize("format_", FORMATS)
def test_it_leaves_in_float_by_itself_what_ruins_the_outputs(
    hostile: dict[str, Path], tmp_path: Path, format_: str, scheme: str
) -> None:
    made = edgekit.quantize(
        hostile[format_], scheme=scheme, data=_bare(tmp_path), out=tmp_path / f"q.{format_}", seconds=0
    )
    assert made.mixed is not None and made.mixed.by_itself
    (kept,) = made.mixed.keep
    (left,) = (row for row in made.account.left_float if row.name == kept)
    assert left.reason.startswith(f"kept in float: alone in {scheme} ")
    document = made.document()["fidelity"]
    assert document["gate"] == {"min_snr_db": 15.0, "min_channel_db": 5.0, "passed": True, "binding": True}
    show(render_quantize(made), told := io.StringIO())
    assert "1 operator stays in float, which ruined the outputs" in told.getvalue()


def test_where_the_labels_hold_nothing_stays_in_float(hostile: dict[str, Path], data: str, tmp_path: Path) -> None:
    made = edgekit.quantize(
        hostile["onnx"], scheme="int8", data=data, max_drop=0.99, out=tmp_path / "q.onnx", seconds=0
    )
    assert made.mixed is None
    gate = made.document()["fidelity"]["gate"]
    assert (gate["passed"], gate["binding"]) == (False, False)
    assert any("below the floor; the loss of quality on labelled data is what decides" in note for note in made.notes)


def _bare(folder: Path) -> str:
    """Samples without labels."""
    np.savez(folder / "bare.npz", x=np.random.default_rng(1).normal(size=(100, 16)).astype(np.float32))
    return f"npz:{folder / 'bare.npz'}"


@pytest.mark.parametrize("format_", FORMATS)
def test_the_hostile_layer_alone_stays_in_float(
    hostile: dict[str, Path], data: str, tmp_path: Path, format_: str
) -> None:
    options = {"scheme": "int8", "data": data, "max_drop": MAX_DROP}
    plan = plan_mixed(hostile[format_], out=tmp_path / "plan.json", **options, seconds=0)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    worst, *others = plan.layers
    assert plan.keep == (worst.name,)
    assert len(others) == 3
    assert worst.ruinous
    assert not any(one.ruinous for one in others)
    made = edgekit.quantize(
        hostile[format_],
        mixed=True,
        out=tmp_path / f"q.{format_}",
        **options,
        seconds=0,
    )  # type: ignore[arg-type]
    assert made.drop is not None
    assert made.drop <= MAX_DROP
    products = [left for left in made.account.left_float if left.operator in ("Gemm", "MatMul", "FULLY_CONNECTED")]
    assert [left.name for left in products] == [worst.name]
    assert "kept in float: alone in int8" in products[0].reason
    assert made.account.integer_operators >= 3
    again = edgekit.quantize(
        hostile[format_],
        keep_float=str(tmp_path / "plan.json"),
        out=tmp_path / f"p.{format_}",
        **options,
        seconds=0,  # type: ignore[arg-type]
    )
    named = edgekit.quantize(
        hostile[format_], keep_float=worst.name, out=tmp_path / f"n.{format_}", **options, seconds=0
    )  # type: ignore[arg-type]
    assert made.drop == again.drop == named.drop
    assert json.loads(json.dumps(made.document()))["mixed"]["keep"] == [worst.name]
    show(render_quantize(made), told := io.StringIO())
    show(render_plan(plan), told)
    assert "1 operator stays in float; together they lose" in told.getvalue()


@pytest.mark.parametrize("scheme", ["int8", "int8-weights"])
def test_without_labels_as_many_as_hold_the_floor(hostile: dict[str, Path], tmp_path: Path, scheme: str) -> None:
    plan = plan_mixed(hostile["onnx"], scheme=scheme, data=_bare(tmp_path), out=tmp_path / "plan.json", seconds=0)
    worst, second, *_ = plan.layers
    assert plan.keep == (worst.name,)
    assert worst.snr_db is not None and second.snr_db is not None
    assert worst.snr_db < 15 < second.snr_db
    asked = second.snr_db + 1  # more than that one leaves by itself
    higher = plan_mixed(
        hostile["onnx"], scheme=scheme, data=_bare(tmp_path), min_snr=asked, out=tmp_path / "higher.json", seconds=0
    )
    assert set(plan.keep) < set(higher.keep)


def test_the_gate_names_what_costs_most(hostile: dict[str, Path], data: str, tmp_path: Path) -> None:
    said = r"dB, the floor is 15 dB.*What costs most: \S+ \(Gemm\) alone leaves"
    with pytest.raises(QualityError, match=said) as caught:
        edgekit.quantize(
            hostile["onnx"], scheme="int8-dynamic", data=_bare(tmp_path), out=tmp_path / "q.onnx", seconds=0
        )
    assert caught.value.exit_code == 1
    assert not (tmp_path / "q.onnx").exists()
    made = edgekit.quantize(
        hostile["onnx"], scheme="int8-weights", data=data, max_drop=0.99, out=tmp_path / "q.onnx", seconds=0
    )
    assert made.document()["fidelity"]["gate"]["passed"] is False


def test_a_full_disk_is_not_a_property_of_a_layer(
    hostile: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise StorageError("no space left")

    np.savez(tmp_path / "bare.npz", x=np.zeros((20, 16), np.float32))
    monkeypatch.setattr(QuantizeOnnx, "run", full)
    with pytest.raises(StorageError):
        plan_mixed(
            hostile["onnx"],
            scheme="int8-weights",
            data=f"npz:{tmp_path / 'bare.npz'}",
            out=tmp_path / "plan.json",
            seconds=0,
        )


def test_an_operator_type_stands_for_all_of_them(hostile: dict[str, Path], tmp_path: Path) -> None:
    made = edgekit.quantize(
        hostile["onnx"], scheme="int8-weights", keep_float="Relu,node_linear_1", out=tmp_path / "q.onnx", seconds=0
    )
    assert made.mixed is not None
    assert set(made.mixed.keep) == {"node_relu", "node_relu_1", "node_relu_2", "node_linear_1"}


def test_what_does_not_go_together(hostile: dict[str, Path], data: str, tmp_path: Path) -> None:
    onnx, out = hostile["onnx"], tmp_path / "q.onnx"
    for value in (-1, 121, float("nan")):
        with pytest.raises(UsageError, match="--min-snr is"):
            edgekit.quantize(onnx, scheme="int8-weights", min_snr=value, out=out, seconds=0)
    with pytest.raises(UsageError, match="has none"):
        edgekit.quantize(onnx, scheme="fp16", data=data, mixed=True, max_drop=0.1, out=out, seconds=0)
    with pytest.raises(UsageError, match="no operator is called nothing; layers of this file: "):
        edgekit.quantize(onnx, scheme="int8-weights", keep_float="nothing", out=out, seconds=0)
    with pytest.raises(UsageError, match=r"must end in \.json"):
        plan_mixed(onnx, scheme="int8", data=data, out=out, seconds=0)
    with pytest.raises(UsageError, match="quantize has no option mixd"):
        edgekit.quantize(onnx, scheme="int8", mixd="auto", out=out, seconds=0)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(DataError, match="not a plan of mixed precision"):
        edgekit.quantize(onnx, scheme="int8-weights", keep_float=str(tmp_path / "broken.json"), out=out, seconds=0)
    save_plan(MixedPlan(scheme="int8", model_sha256="other"), tmp_path / "other.json")
    with pytest.raises(DataError, match="plan of another file or scheme"):
        edgekit.quantize(onnx, scheme="int8", data=data, keep_float=str(tmp_path / "other.json"), out=out, seconds=0)
    assert not out.exists()


def test_an_unknown_name_is_refused_before_anything_is_calibrated(
    hostile: dict[str, Path], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    real = calibrate.find_ranges
    monkeypatch.setattr(calibrate, "find_ranges", lambda *given: begun.append(given) or real(*given))
    with pytest.raises(UsageError, match="no operator is called nothing"):
        edgekit.quantize(
            hostile["onnx"], scheme="int8", data=data, keep_float="nothing", out=tmp_path / "q.onnx", seconds=0
        )
    assert begun == []
    edgekit.quantize(
        hostile["onnx"], scheme="int8", data=data, keep_float="node_linear_1", out=tmp_path / "q.onnx", seconds=0
    )
    assert len(begun) == 1
