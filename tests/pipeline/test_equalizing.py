"""``quantize`` equalizes channels where the int8 file gains by it, and says so; nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.artifact import open_artifact, sha256_file, write_card
from edgekit.pipeline.quantize import calibrate, plan_mixed
from edgekit.quantization import equalize
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.equalize import scale_channels
from edgekit.quantization.prepared import prepare

pytestmark = pytest.mark.usefixtures("kept_workers")

DATA = "breast-cancer"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped multilayer network, the channels between its layers from e^-5 to e^5 of what they were."""
    folder = tmp_path_factory.mktemp("hostile")
    made = edgekit.export("mlp", to=["onnx"], out=folder).artifacts[0].artifact
    graph, generator = prepare(made).linear_graph(), np.random.default_rng(0)
    for group in graph.scaling_groups():
        scale_channels(graph, group, np.exp(generator.uniform(-5, 5, group.channels)))
    graph.save(folder / "hostile.onnx")
    assert made.card is not None
    return write_card(folder / "hostile.onnx", made.card).path


def test_what_the_result_says(hostile: Path, tmp_path: Path) -> None:
    before, saved = sha256_file(hostile), tmp_path / "ranges.json"
    made = edgekit.quantize(
        hostile, scheme="int8", data=DATA, out=tmp_path / "q.onnx", save_calibration=saved, seconds=0
    )
    (note,) = [note for note in made.notes if note.startswith("channels equalized behind ")]
    assert "calibration samples" in note
    assert len(made.step.params["equalized"]) == 2
    card = open_artifact(tmp_path / "q.onnx").card
    assert card is not None
    assert card.steps[-1].params["equalized"] == made.step.params["equalized"]
    assert note in card.notes
    assert sha256_file(hostile) == before == made.against.sha256
    assert abs(made.drop or 0) <= 2 / 113  # two of the 113 test samples
    assert Calibration.load(saved).model_sha256 == before  # the ranges of the user's file, not of the equalized one
    again = edgekit.quantize(
        hostile, scheme="int8", data=DATA, calibration=str(saved), out=tmp_path / "saved.onnx", min_snr=0, seconds=0
    )
    assert not any("equal" in note for note in again.notes)  # saved ranges hold for the file as it is
    assert "equalized" not in again.step.params


def test_mixed_precision_ranks_the_layers_of_the_equalized_file(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_mixed(hostile, scheme="int8", data=DATA, out=tmp_path / "plan.json", seconds=0)
    assert plan.model_sha256 == sha256_file(hostile)
    with monkeypatch.context() as without:
        without.setattr(calibrate, "BETTER", 0.0)
        plain = plan_mixed(hostile, scheme="int8", data=DATA, out=tmp_path / "plain.json", seconds=0)
    worst, spoilt = (min(layer.snr_db or 0 for layer in one.layers) for one in (plan, plain))
    assert worst > spoilt + 6  # decibels: half the error


def test_where_it_does_not_pay_it_is_left_out(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "BETTER", 0.0)
    made = edgekit.quantize(hostile, scheme="int8", data=DATA, out=tmp_path / "q.onnx", min_snr=0, seconds=0)
    assert any(note.startswith("equalizing channels was tried and left out: error of") for note in made.notes)
    assert "equalized" not in made.step.params


def test_where_it_cannot_be_proved_it_is_left_out(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equalize, "TOLERANCE", 0.0)
    made = edgekit.quantize(hostile, scheme="int8", data=DATA, out=tmp_path / "q.onnx", min_snr=0, seconds=0)
    assert any(note.startswith("not equalized: ") and "differs from its parent's" in note for note in made.notes)
    assert "equalized" not in made.step.params
