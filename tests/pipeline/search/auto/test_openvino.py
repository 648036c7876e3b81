"""OpenVINO as a way to run candidates, in float32 and in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.artifact import open_artifact
from edgekit.data.dataset import open_data
from edgekit.devices import with_runtime
from edgekit.environments import OPENVINO
from edgekit.pipeline.search.measuring import TimedFile, fidelity_of
from edgekit.pipeline.search.steps import MadeFile
from edgekit.pipeline.search.ways import Way, find_ways
from edgekit.results.quantize import AutoResult
from edgekit.runtime.openvino import OpenVinoRunner
from edgekit.types import DeviceSpec, Format

CPU, BFLOAT16 = DeviceSpec("cpu", "cpu"), "openvino:bf16"


@pytest.fixture(autouse=True)
def _with_openvino(without_openvino: None, openvino_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoRunner, "environment", OPENVINO)


def _names(wasteful: Path) -> list[str]:
    found, notes = find_ways([open_artifact(wasteful)], CPU, (), (1,))
    assert notes == ()
    assert [way.in_fewer_bits for way in found[Format.ONNX]] == [way.runtime == BFLOAT16 for way in found[Format.ONNX]]
    return [way.runtime for way in found[Format.ONNX]]


def test_it_is_tried_unasked_in_float32_and_bfloat16(wasteful: Path) -> None:
    assert _names(wasteful) in (["onnxruntime", "openvino", BFLOAT16], ["onnxruntime", "openvino"])


def test_fewer_bits_are_judged_as_a_compressed_file_is(wasteful: Path, answers: str) -> None:
    if BFLOAT16 not in _names(wasteful):
        pytest.skip("this CPU has no bfloat16")
    parent, data = open_artifact(wasteful), open_data(answers)
    file = MadeFile(wasteful, "0", 1)
    exact, fewer = (
        TimedFile("onnx float", file, Way(with_runtime(CPU, name), name, 1), exported=True)
        for name in ("openvino", BFLOAT16)
    )
    assert fidelity_of(exact, parent, data, 90.0) == (None, ())
    figures, missed = fidelity_of(fewer, parent, data, None)
    assert figures is not None and figures.samples == 64 and missed == ()
    snr = figures.outputs[0].snr_db
    assert snr is not None and 30 < snr < 80  # rounding to 8 bits of fraction: 6 dB each
    _, missed = fidelity_of(fewer, parent, data, 90.0)
    assert "the floor is 90 dB" in missed[0]


@pytest.mark.slow
def test_a_choice_in_bfloat16_is_said(wasteful: Path, answers: str, tmp_path: Path) -> None:
    """The float file itself may be what is shipped, and is then to be run in the runtime it was chosen in."""
    asked = {"data": answers, "max_drop": 0.05, "seconds": 0.3, "runtime": f"openvino,{BFLOAT16}"}
    if BFLOAT16 not in _names(wasteful):
        pytest.skip("this CPU has no bfloat16")
    result = edgekit.quantize(wasteful, scheme="auto", out=tmp_path / "best", **asked)
    assert isinstance(result, AutoResult)
    rows = {row.name: row for row in result.trials}
    assert result.best_float == "onnx float, openvino"
    assert rows["onnx float, openvino:bf16"].time is not None
    (chosen,) = [row for row in result.trials if row.chosen]
    card = open_artifact(result.artifact.path).card
    assert card is not None and card.steps[-1].params["runtime"] == chosen.runtime
    said = any("computes in bf16: run it so" in note for note in result.notes)
    assert said == (chosen.runtime == BFLOAT16)
    if said:
        assert result.against.fidelity is not None
