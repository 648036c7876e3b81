"""``eval``: in a worker, to the contract, with and without a card."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.pipeline.evaluate import evaluate
from edgekit.report.eval import render_eval
from edgekit.report.text import show

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = edgekit.export("mlp", to=["onnx"], out=tmp_path_factory.mktemp("mlp"), dynamic=["table:0=batch"])
    return made.artifacts[0].artifact.path


def test_document(mlp: Path) -> None:
    result = evaluate(mlp, data="breast-cancer")
    document = result.document()
    assert document["metric"] == "accuracy"
    assert document["value"] == document["correct"] / document["total"] >= 0.95
    assert document["total"] == 113
    assert set(document["per_class"]) == {"malignant", "benign"}
    assert (document["runtime"], document["device"]) == ("onnxruntime", "cpu")
    assert document["data"] == "breast-cancer@test"


def test_limit_and_split(mlp: Path) -> None:
    assert evaluate(mlp, data="breast-cancer@train", limit=40).document()["total"] == 40
    with pytest.raises(UsageError, match="limit is 0"):
        evaluate(mlp, data="breast-cancer", limit=0)


def test_without_a_card_the_figure_is_that_of_raw_columns(mlp: Path, tmp_path: Path) -> None:
    model = onnx.load(str(mlp))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "m.onnx"))
    document = evaluate(tmp_path / "m.onnx", data="breast-cancer").document()
    assert set(document["per_class"]) <= {"malignant", "benign"}
    assert document["value"] < 0.95  # nothing says how the columns were normalised


def test_bad_input(mlp: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        evaluate(tmp_path / "no.onnx", data="breast-cancer")
    with pytest.raises(DataError, match="digits@test has labels 0 to 9"):
        evaluate(mlp, data="digits")
    np.savez(tmp_path / "d.npz", table=np.zeros((4, 30), np.float32), labels=np.array([0, 1, 2, 0]))
    with pytest.raises(DataError, match=r"labels 0 to 2, the model has 2 outputs"):
        evaluate(mlp, data=f"npz:{tmp_path / 'd.npz'}")
    np.savez(tmp_path / "e.npz", table=np.zeros((4, 30), np.float32))
    with pytest.raises(DataError, match="no labels"):
        evaluate(mlp, data=f"npz:{tmp_path / 'e.npz'}")


def test_command_line(mlp: Path, edgekit_here: Callable[..., Any]) -> None:
    ended = edgekit_here("eval", mlp, "--data", "breast-cancer", "--json", "-")
    assert ended.code == 0, ended.err
    assert ended.document["schema"] == "edgekit.eval/1"
    assert ended.document["total"] == 113


def test_on_the_screen(mlp: Path) -> None:
    stream = io.StringIO()
    show(render_eval(evaluate(mlp, data="breast-cancer")), stream)
    assert "on breast-cancer@test, onnxruntime on cpu" in stream.getvalue()
    assert "malignant" in stream.getvalue()
