"""Real files, timed and judged: the fast one that answers rightly is chosen, the others are rows with a reason."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.artifact import open_artifact, sha256_file
from edgekit.errors import DataError
from edgekit.pipeline.checkpoint_log import state_folder
from edgekit.pipeline.search import space
from edgekit.quantization.schemes import schemes
from edgekit.report.auto import render_auto
from edgekit.report.document import dumps
from edgekit.report.text import show
from edgekit.results.quantize import AutoResult

QUICK: dict[str, Any] = {"max_drop": 0.01, "seconds": 0.3}
DEADLY = """\
#!{python}
import os, signal, sys
archive, *arguments = sys.argv[1:]
sys.path.insert(0, archive)
from edgekit.devices import worker
plain = worker.Worker.time_block
def time_block(self, message):
    if b"deadly" in open(self._runner.artifact.path, "rb").read():
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, message)
worker.Worker.time_block = time_block
sys.exit(worker.main(arguments))
"""


@pytest.fixture
def device(tmp_path: Path) -> str:
    """Another interpreter, whose worker dies of every file with ``deadly`` in it when it is timed."""
    program = tmp_path / "python-that-dies"
    program.write_text(DEADLY.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"python:{program}"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``only(scheme, …)``: the schemes that are tried from now on; every one of them costs starts of workers."""
    return lambda *wanted: monkeypatch.setattr(
        space, "schemes", lambda format_: [one for one in schemes(format_) if one.name in wanted]
    )


def rows(document: dict[str, Any]) -> dict[str, Any]:
    return {row["scheme"]: row for row in document["trials"]}


def test_the_fastest_that_answers_rightly_is_chosen(
    wasteful: Path, answers: str, planted: Callable[..., None], device: str, tmp_path: Path
) -> None:
    """A fast file, a faster one with wrong weights, one made slower, and one that kills its worker."""
    planted("fp16", 1)
    planted("int8-weights", 0, sign=-1.0)
    planted("int8-dynamic", 100)
    planted("int8", 0, note="deadly")
    result = edgekit.quantize(wasteful, scheme="auto", data=answers, out=tmp_path / "best", on=device, **QUICK)
    document = json.loads(dumps(result.document()))
    found = rows(document)
    assert document["scheme"] == "auto"
    assert document["chosen"]["scheme"] == "fp16"
    assert document["chosen"]["time"]["verdict"] == "faster"
    assert found["int8-weights"]["quality"]["drop"] > 0.5
    assert "loses" in found["int8-weights"]["why"]
    assert "times that of onnx float, onnxruntime" in found["int8-dynamic"]["why"]
    assert "WorkerCrashError" in found["int8"]["why"]
    assert found["float"]["why"] == "onnx fp16, onnxruntime is faster"
    assert document["device"]["evidence"] == "measured"
    assert document["quality"] | {"before": 1.0, "after": 1.0, "drop": 0.0, "total": 81} == document["quality"]

    made = tmp_path / "best.onnx"
    assert (document["artifact"]["path"], document["artifact"]["sha256"]) == (str(made), sha256_file(made))
    card = open_artifact(made).card
    assert card is not None
    step = card.steps[-1]
    assert (step.name, step.params["scheme"], step.params["verdict"]) == ("auto", "fp16", "faster")
    assert step.params["evidence"] == "measured"
    assert step.params["ci95"][1] < 1
    assert step.params["chosen_on"]["drop"] == 0.0
    assert card.quality[0].device == device
    assert [s.name for s in card.steps] == ["quantize", "auto"]

    text = io.StringIO()
    show(render_auto(result), text)
    assert "best.onnx: onnx fp16, onnxruntime" in text.getvalue()
    kept = set((state_folder() / "auto").iterdir())
    result.delivered()
    assert len(kept - set((state_folder() / "auto").iterdir())) == 1  # what was kept for an interruption goes


def test_without_labels_what_is_unlike_the_float_file_is_out(
    wasteful: Path, answers: str, planted: Callable[..., None], only: Callable[..., None], tmp_path: Path
) -> None:
    """A fast file, and a faster one whose outputs have the other sign: nobody says what is right, the outputs do."""
    only("fp16", "int8-weights")
    planted("fp16", 1)
    planted("int8-weights", 0, sign=-1.0)
    with np.load(answers.removeprefix("npz:")) as arrays:
        np.savez(tmp_path / "unlabelled.npz", x=arrays["x"])
    asked = {**QUICK, "max_drop": None, "min_snr": 20.0}
    data = f"npz:{tmp_path / 'unlabelled.npz'}"
    result = edgekit.quantize(wasteful, scheme="auto", data=data, out=tmp_path / "best", **asked)
    found = rows(json.loads(dumps(result.document())))
    assert result.chosen.scheme == "fp16" and result.after.value > 0.99
    assert "loses 2.0000 of likeness, 0.1 is allowed" in found["int8-weights"]["why"]
    card = open_artifact(result.artifact.path).card
    assert card is not None and card.quality == (), "likeness to another file is not a figure of its own"
    with pytest.raises(DataError, match="so no candidate can be judged by --max-drop; give --min-snr DB"):
        edgekit.quantize(wasteful, scheme="auto", data=data, out=tmp_path / "no", **QUICK)


OWN_METRIC = """
def right(outputs, targets):
    return float((outputs["logits"].argmax(1) == targets).mean())
"""


def test_a_metric_of_the_user_s_own_judges(
    wasteful: Path, answers: str, planted: Callable[..., None], only: Callable[..., None], tmp_path: Path
) -> None:
    """It gives what each sample adds, which is not kept with the figures of the float file."""
    only("fp16")
    planted("fp16", 1)
    (tmp_path / "own.py").write_text(OWN_METRIC)
    asked = {**QUICK, "metric": f"{tmp_path / 'own.py'}:right", "limit": 40}
    result = edgekit.quantize(wasteful, scheme="auto", data=answers, out=tmp_path / "best", **asked)
    assert result.chosen.scheme == "fp16" and result.after.value == 1.0
    result.delivered()


def test_where_nothing_is_faster_the_float_file_is_shipped_and_that_is_said(
    wasteful: Path, answers: str, planted: Callable[..., None], only: Callable[..., None], tmp_path: Path
) -> None:
    """All candidates are slow but one, whose weights were changed after its self-test was taken."""
    only("int8-dynamic", "fp16")
    planted("int8-dynamic", 60)
    planted("fp16", 0, keep_selftest=True, sign=-1.0)
    result = edgekit.quantize(wasteful, scheme="auto", data=answers, out=tmp_path / "best.onnx", **QUICK)
    assert isinstance(result, AutoResult)
    document = result.document()
    assert document["chosen"]["scheme"] == "float"
    assert document["best_float"] == document["chosen"]["name"]
    assert "fails its own self-test" in rows(document)["fp16"]["why"]
    assert any("it is shipped as it is" in note for note in document["notes"])
    made = open_artifact(tmp_path / "best.onnx")
    assert made.card is not None
    assert made.card.steps[-1].params["scheme"] == "float"
    assert "ratio_p50" not in made.card.steps[-1].params
    text = io.StringIO()
    show(render_auto(result), text)
    assert "so the float file is shipped" in text.getvalue()
    result.delivered()


def test_where_ranges_lose_too_much_the_other_ways_to_find_them_are_tried(
    wasteful: Path, answers: str, planted: Callable[..., None], only: Callable[..., None], tmp_path: Path
) -> None:
    only("int8")
    planted("int8 minmax", 0, sign=-1.0)
    planted("int8 percentile", 0, sign=-1.0)
    planted("int8 entropy", 0)
    planted("int8 mse", 0)
    result = edgekit.quantize(wasteful, scheme="auto", data=answers, out=tmp_path / "best", **QUICK)
    tried = {trial.calibration: trial for trial in result.trials if "2 in float" in trial.name}
    assert list(tried) == ["minmax", "percentile", "entropy", "mse"]
    assert result.chosen is tried["entropy"]
    assert "loses" in tried["minmax"].why
    assert "loses" in tried["percentile"].why
    assert tried["mse"].why == "onnx int8 entropy, 2 in float loses no more and differs in its ranges only"
    result.delivered()


@pytest.mark.slow
def test_where_no_ranges_keep_the_limit_mixed_precision_is_tried(
    nets: Callable[..., Path], answers: str, planted: Callable[..., None], only: Callable[..., None], tmp_path: Path
) -> None:
    only("int8")
    planted("int8", 0, sign=-1.0)
    asked = {"data": answers, "out": tmp_path / "best", "calibration": "minmax"}
    result = edgekit.quantize(nets(tmp_path / "small.onnx", 2), scheme="auto", **asked, **QUICK)
    _, *plain, mixed = result.trials
    assert len(plain) == 2 and all("loses" in one.why for one in plain), "with and without slow operators in float"
    assert mixed.name == "onnx int8 minmax mixed 20 dB, onnxruntime"
    assert mixed.quality is not None and mixed.quality.drop is not None
    assert mixed.quality.drop <= 0.01
    assert mixed.time is not None and mixed.time.stage == "match"
    result.delivered()


def test_the_choice_is_held_to_its_limit_on_samples_that_it_was_not_made_on(
    wasteful: Path, answers: str, planted: Callable[..., None], only: Callable[..., None], tmp_path: Path
) -> None:
    """A fast file that is wrong on the test split alone: judged well, then not shipped."""
    only("fp16")
    planted("fp16", 0, marked=2.0)
    result = edgekit.quantize(wasteful, scheme="auto", data=answers, out=tmp_path, **QUICK)
    document = result.document()
    assert document["chosen"]["scheme"] == "float"
    fast = rows(document)["fp16"]
    assert fast["quality"]["drop"] == 0.0
    assert fast["time"]["verdict"] == "faster"
    assert "@test, 0.01 is allowed" in fast["why"]
    assert any("was chosen on" in note for note in document["notes"])
    assert (tmp_path / "wasteful-auto.onnx").exists()
    result.delivered()
