"""What is refused before any work, and who is judged on what."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.artifact import open_artifact, write_card
from edgekit.data.dataset import open_data
from edgekit.environments import TFLITE
from edgekit.errors import DataError, EdgekitError, ModelError, SourceError, UsageError
from edgekit.models.samples import kept_and_held
from edgekit.options.optimize import OptimizeOptions
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline.search.auto.checks import of_auto, place_of, target_of
from edgekit.pipeline.search.candidate import LEARNT, Candidate
from edgekit.pipeline.search.samples import real_samples, take_samples
from edgekit.pipeline.search.sources import float_files
from edgekit.pipeline.search.space import MIXED, Fixed, Space
from edgekit.pipeline.search.subject import Subject
from edgekit.pipeline.search.ways import find_ways
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.results.base import to_json
from edgekit.results.optimize import Evidence, TrialRow
from edgekit.types import Artifact, Card, DeviceSpec, Format, Signature, Task, TensorSpec

ASKED: dict[str, Any] = {"data": "digits", "max_drop": 0.01}


def asked_options(given: dict[str, Any]) -> QuantizeOptions:
    return of_auto(QuantizeOptions("m.onnx", scheme="auto", out="q", **given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": None}, "needs --data"),
        ({"max_drop": None}, "needs --max-drop .*, or, where nobody says what is right about the data, --min-snr"),
        ({"max_drop": None, "min_snr": 20.0, "metric": "accuracy"}, "needs --max-drop"),
        ({"max_drop": 1.5}, "--max-drop is 1.5; give 0 or more and less than 1"),
        ({"seconds": 0.0}, "more than 0"),
        ({"seconds": float("nan")}, "--seconds is nan; give 0 or more"),
        ({"limit": 0}, "--limit is 0"),
        ({"threads": (0,)}, "1 or more"),
        ({"calibration": "guess"}, "guess"),
        ({"colour": "red"}, "no option colour"),
        ({"on": "emulator:cortex-a72"}, "emulated and has no time"),
        ({"on": "mars"}, "no device is called"),
        ({"save_calibration": "r.json"}, "--save-calibration: of one scheme"),
        ({"integer_io": True}, "--integer-io: of one scheme"),
        ({"mixed": True}, "--mixed: of one scheme"),
        ({"keep_float": "Relu"}, "--keep-float: of one scheme"),
    ],
)
def test_options(wasteful: Path, tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        edgekit.quantize(wasteful, scheme="auto", out=tmp_path / "q", **{**ASKED, **given})
    assert list(tmp_path.iterdir()) == []


def test_saved_ranges_that_are_not_there(wasteful: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        edgekit.quantize(
            wasteful, scheme="auto", out=tmp_path / "q", calibration=str(tmp_path / "ranges.json"), **ASKED
        )


def test_options_of_auto_alone_and_several_models_are_refused_elsewhere(wasteful: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong to --scheme auto"):
        edgekit.quantize(wasteful, scheme="fp16", out=tmp_path / "q.onnx", threads=(2,), seconds=0)
    with pytest.raises(UsageError, match="2 models were given"):
        edgekit.quantize([wasteful, wasteful], scheme="fp16", out=tmp_path / "q.onnx", seconds=0)


def test_models(wasteful: Path, tmp_path: Path) -> None:
    edgekit.quantize(wasteful, scheme="fp16", out=tmp_path / "half.onnx", seconds=0)
    (tmp_path / "broken.onnx").write_bytes(b"no")
    cases: list[tuple[list[object], type[EdgekitError], str]] = [
        ([], UsageError, "no model was given"),
        ([wasteful, wasteful], UsageError, "both .onnx"),
        ([wasteful, "mlp"], UsageError, "give a network by itself"),
        ([tmp_path / "half.onnx"], ModelError, "quantized already"),
        ([tmp_path / "broken.onnx"], ModelError, "broken.onnx"),
    ]
    for given, kind, said in cases:
        with pytest.raises(kind, match=said):
            float_files(given)  # type: ignore[arg-type]


def test_files_of_different_networks_are_refused(wasteful: Path, conv_tflite: Path, tmp_path: Path) -> None:
    specs = (TensorSpec("x", "float32", (1, 64)),), (TensorSpec("logits", "float32", (1, 4)),)
    for number, file in enumerate((wasteful, conv_tflite)):
        card = Card("net", "custom", Task(), Signature(*specs), source_sha256=str(number))
        write_card(file, card, tmp_path / f"net{file.suffix}")
    with pytest.raises(UsageError, match="different weights"):
        float_files([tmp_path / "net.onnx", tmp_path / "net.tflite"])


def test_where_it_goes(tmp_path: Path, wasteful: Path, answers: str) -> None:
    with pytest.raises(UsageError, match="leave the suffix out"):
        target_of("best.onnx", ("onnx", "tflite"))
    with pytest.raises(UsageError, match="leave the suffix out"):
        target_of("best.tflite", ("onnx",))
    assert place_of(target_of("best", ("onnx", "tflite")), "net", "tflite") == Path("best.tflite")
    assert place_of(target_of("v1.2", ("onnx",)), "net", "onnx") == Path("v1.2.onnx")
    assert place_of(target_of("best.onnx", ("onnx",)), "net", "onnx") == Path("best.onnx")
    assert place_of(target_of(tmp_path, ("onnx",)), "net", "onnx") == tmp_path / "net-auto.onnx"
    with pytest.raises(UsageError, match="choose another place"):
        edgekit.quantize(wasteful, scheme="auto", out="/proc/none/best", data=answers, max_drop=0.01)
    with pytest.raises(UsageError, match="the model itself"):
        edgekit.quantize(wasteful, scheme="auto", out=wasteful.with_suffix(""), data=answers, max_drop=0.01)
    (tmp_path / "apart").mkdir()
    apart = tmp_path / "apart" / "m.onnx"
    onnx.save(onnx.load(str(wasteful)), str(apart), save_as_external_data=True, location="m.bin", size_threshold=0)
    with pytest.raises(UsageError, match=r"keeps its weights in m\.bin beside it"):
        edgekit.quantize(apart, scheme="auto", out=tmp_path / "best", data=answers, max_drop=0.01)


def test_choice_and_figures_are_of_different_samples() -> None:
    found = take_samples("digits", None, None)
    choose, report = (np.asarray(part.arrays["image"]).reshape(len(part), -1) for part in (found.choose, found.report))
    assert len(choose) == len(open_data("digits@train")) // 2
    assert not {row.tobytes() for row in choose} & {row.tobytes() for row in report}
    assert found.report.label == "digits@test"
    assert found.notes == ()
    assert len(take_samples("digits", None, 40).choose) == 40


@pytest.mark.parametrize("seed", [0, 3])
def test_what_training_holds_out_chooses(seed: int) -> None:
    """Nothing is judged on what it was trained on, which depends on the seed of the training."""
    data = open_data("digits@train")
    kept, _ = kept_and_held(data, 0.1, seed)
    trained = {row.tobytes() for row in np.asarray(data.arrays["image"])[kept]}
    found = take_samples("digits", None, None, held=0.1, seed=seed)
    assert not trained & {np.asarray(row).tobytes() for row in found.choose.arrays["image"]}


def test_an_anomaly_detector_is_judged_on_both_kinds() -> None:
    """Its metric needs them; one sample is of one kind, and a class that is not there is no kind at all."""
    specs = (TensorSpec("image", "float32", (1, 64)),)
    card = Card("detector", "custom", Task("anomaly", params={"held_out": "7"}), Signature(specs, specs))
    assert len(take_samples("digits", card, 100, labelled=True).choose) == 100
    with pytest.raises(DataError, match="larger --limit"):
        take_samples("digits", card, 1, labelled=True)
    other = replace(card, task=Task("anomaly", params={"held_out": "no such class"}))
    with pytest.raises(DataError, match="does not say what is right"):
        take_samples("digits", other, None, labelled=True)


def test_data_of_other_classes_are_refused_before_any_candidate_is_made(wasteful: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((40, 64), np.float32), labels=np.arange(40) % 9)
    with pytest.raises(DataError, match="the model has 4 outputs"):
        edgekit.quantize(wasteful, scheme="auto", data=f"npz:{tmp_path / 'x.npz'}", max_drop=0.01, out=tmp_path / "q")


def test_data_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", inputs=np.zeros((40, 3), np.float32))
    with pytest.raises(DataError, match="does not say what is right"):
        take_samples(f"npz:{tmp_path / 'x.npz'}", None, None, labelled=True)


def test_a_name_that_is_no_network_s_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="did you mean 'mlp'"):
        edgekit.quantize("mpl", scheme="auto", out=tmp_path / "q", **ASKED)


def test_a_file_with_a_free_length_is_timed_on_a_real_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", inputs=np.zeros((20, 7, 3), np.float32), labels=np.arange(20) % 2)
    choose = take_samples(f"npz:{tmp_path / 'x.npz'}", None, None).choose
    shapes: list[tuple[int | str, ...]] = [("batch", "time", 3), ("batch", 7, 3)]
    found = []
    for shape in shapes:
        card = Card("net", "custom", Task(), Signature((TensorSpec("x", "float32", shape),), ()))
        found.append(real_samples([Artifact(Path("net.onnx"), Format.ONNX, card)], choose, tmp_path))
    assert found[1] == {}
    with np.load(found[0][Format.ONNX]) as sample:
        assert sample["x"].shape == (1, 7, 3)


def test_so_few_samples_that_all_are_judged_on_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", inputs=np.zeros((6, 3), np.float32), labels=np.arange(6) % 2)
    found = take_samples(f"npz:{tmp_path / 'x.npz'}", None, None)
    assert found.choose is found.report
    assert any("flatter them" in note for note in found.notes)


def row_of(made: Candidate, drop: float) -> TrialRow:
    shown = Evidence(device="cpu", runtime="onnxruntime", threads=1, shortest_ms=1.0, ratio=0.5, drop=drop)
    return TrialRow(number=0, name="", parameters=to_json(made), state="complete", evidence=(shown,))


def proposals(space: Space, drop: float) -> list[Candidate]:
    """What the rules of ``space`` propose where every file loses ``drop``, and 0.01 is allowed."""
    tried: list[Candidate] = []
    while (found := space.by_rule(tried, [row_of(one, drop) for one in tried], 0.01)) is not None:
        tried.append(space.propose(Fixed(found)))
    return tried


def test_what_is_tried_where_ranges_lose_too_much() -> None:
    space = Space({"onnx": ("int8", "fp16")}, only_rules=True)
    assert [one.name for one in proposals(space, 0.0)] == ["onnx int8 minmax", "onnx fp16"]
    ranges = [Candidate("onnx", "int8", one) for one in METHODS]
    mixed = [Candidate("onnx", "int8", "minmax", mixed=level) for level in MIXED]
    assert proposals(space, 0.5) == [ranges[0], Candidate("onnx", "fp16"), *ranges[1:], *mixed]
    saved = replace(space, calibrations=("minmax",))
    assert proposals(saved, 0.5) == [ranges[0], Candidate("onnx", "fp16"), *mixed]
    learnt = replace(space, calibrations=(LEARNT, *METHODS))
    assert proposals(learnt, 0.0)[0].name == "onnx int8 learnt"
    assert len(proposals(learnt, 0.5)) == 2 + len(METHODS) + len(MIXED)


def test_operators_with_slow_integer_kernels_are_tried_in_float_and_on_integers() -> None:
    space = Space({"tflite": ("int8",)}, slow={"tflite": "HARD_SWISH"}, only_rules=True)
    assert [one.keep_float for one in proposals(space, 0.0)] == ["HARD_SWISH", ""]


def test_ways_to_run_a_file(wasteful: Path, conv_tflite: Path, other_python: str, monkeypatch: Any) -> None:
    parents = [open_artifact(wasteful), open_artifact(conv_tflite)]
    cpu = DeviceSpec("cpu", "cpu")
    monkeypatch.setenv(TFLITE.variable, other_python)
    found, _ = find_ways(parents, cpu, (), (1, 2, 2))
    assert [way.name for way in found[Format.ONNX]] == ["onnxruntime", "onnxruntime × 2 threads"]
    assert [way.runtime for way in found[Format.TFLITE]] == ["litert", "litert", "tflite-runtime", "tflite-runtime"]
    assert found[Format.TFLITE][-1].device == replace(cpu, address=other_python)
    monkeypatch.delenv(TFLITE.variable)
    monkeypatch.setattr(sys, "prefix", str(wasteful.parent))  # no .venv-tflite beside it
    found, notes = find_ways(parents, cpu, (), (1,))
    assert [way.runtime for way in found[Format.TFLITE]] == ["litert"]
    named, _ = find_ways(parents, cpu, ("litert",), (1,))
    assert (named[Format.ONNX], [way.runtime for way in named[Format.TFLITE]]) == ((), ["litert"])
    for name, said in (
        ("torch", "runs .pt2 files"),
        ("tflm", "auto chooses by time"),
        ("lightert", "no runtime is called"),
    ):
        with pytest.raises(UsageError, match=said):
            find_ways(parents, cpu, (name,), (1,))
    assert notes == ()  # what nobody asked for is not missed
    _, notes = find_ways(parents, cpu, ("litert", "tflite-runtime"), (1,))
    assert notes == ("tflite-runtime is not installed on cpu, so nothing was tried in it",)


@pytest.mark.slow
def test_a_network_is_exported_to_both_formats_once(factory: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(0).random((20, 3, 8, 8), np.float32))
    asked = OptimizeOptions(
        factory, data=f"npz:{tmp_path / 'x.npz'}", epochs=0, out="", runtimes=("onnxruntime", "litert")
    )
    subject = Subject(asked, tmp_path)
    assert subject.files == {} and subject.formats == ("onnx", "tflite")
    files = subject.float_files
    assert [str(made.artifact.format) for made in files.values()] == ["onnx", "tflite"]
    stamps = [made.artifact.path.stat().st_mtime_ns for made in files.values()]
    again = Subject(asked, tmp_path)
    assert [made.artifact.path.stat().st_mtime_ns for made in again.float_files.values()] == stamps
