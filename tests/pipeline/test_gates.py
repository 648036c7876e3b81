"""What keeps a compressed file from being published: its time, its size; and the targets that want something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.artifact import open_artifact
from edgekit.errors import QualityError, UsageError
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline.quantize.checks import of_one_scheme
from edgekit.pipeline.quantize.gates import check_gain, check_growth, check_time
from edgekit.pipeline.quantize.kernels import is_timed
from edgekit.results.compressed import Device, TimeRatio
from edgekit.types import Artifact, Evidence, Verdict

from ..quantization.tflite_files import swish_file

pytestmark = pytest.mark.usefixtures("kept_workers")


def timed(verdict: str, ratio: float = 1.5) -> TimeRatio:
    device = Device(name="cpu", kind="cpu", evidence=Evidence.MEASURED, cpu=None)
    return TimeRatio(ratio_p50=ratio, verdict=Verdict(verdict), device=device, seconds=1.0)


RECURRENT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell, self.head = kind(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])

def made(kind):
    torch.manual_seed(0)
    return Net(kind), torch.randn(1, 6, 8)

def gru():
    return made(nn.GRU)

def rnn():
    return made(nn.RNN)

def lstm():
    return made(nn.LSTM)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Artifact:
    return open_artifact(swish_file(tmp_path / "parent.tflite"))


def asked(scheme: str, **options: Any) -> QuantizeOptions:
    return QuantizeOptions("m.tflite", scheme=scheme, out="q.tflite", **options)


def sized(parent: Artifact, share: float) -> Path:
    place = parent.path.with_name("made.tflite")
    place.write_bytes(bytes(int(share * parent.path.stat().st_size)))
    return place


@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic", "int16x8"])
def test_a_slower_file_of_a_scheme_for_speed_is_refused(scheme: str) -> None:
    with pytest.raises(
        QualityError, match=r"1\.50 times its parent's time on cpu and is called slower.*--allow-slower"
    ):
        check_time(asked(scheme, seconds=1), timed("slower"))
    (said,) = check_time(asked(scheme, seconds=1, allow_slower=True), timed("slower"))
    assert "1.50 times" in said


@pytest.mark.parametrize("scheme", ["fp16", "int8-weights", "int4-weights"])
def test_a_slower_file_of_a_scheme_for_size_is_a_note(scheme: str) -> None:
    (said,) = check_time(asked(scheme, seconds=1), timed("slower"))
    assert said.startswith("slower: it takes 1.50 times")


@pytest.mark.parametrize("verdict", ["same", "inconclusive", "faster"])
def test_any_other_verdict_is_published(verdict: str) -> None:
    assert check_time(asked("int8", seconds=1), timed(verdict)) == ()
    assert check_time(asked("int8"), None) == ()


def test_an_int8_file_has_to_be_smaller_or_faster(parent: Artifact) -> None:
    options = asked("int8", seconds=1)
    with pytest.raises(QualityError, match="nothing was gained"):
        check_gain(options, parent, sized(parent, 0.95), timed("same"))
    (note,) = check_gain(options, parent, sized(parent, 0.95), None)
    assert note.endswith("and it was not timed: whether anything was gained is not known")
    assert check_gain(options, parent, sized(parent, 0.95), timed("faster")) == ()
    assert check_gain(options, parent, sized(parent, 0.85), timed("inconclusive")) == ()
    assert check_gain(asked("int8", allow_slower=True), parent, sized(parent, 0.95), timed("same")) == ()


def test_a_target_that_wants_integers_takes_them_at_any_size(parent: Artifact) -> None:
    mcu = of_one_scheme(asked("int8", for_="mcu"))
    assert mcu.integer_io
    assert not is_timed(mcu)
    check_growth(mcu, parent, sized(parent, 1.2))
    check_gain(mcu, parent, sized(parent, 1.2), None)
    with pytest.raises(QualityError, match="it grew"):
        check_growth(asked("int8"), parent, sized(parent, 1.2))


@pytest.mark.parametrize("target", ["arm", "mcu", "npu"])
def test_a_target_and_a_device_are_two_answers_to_one_question(target: str) -> None:
    with pytest.raises(UsageError, match=f"--for {target}.*--on pi"):
        of_one_scheme(asked("int8", for_=target, on="pi"))


@pytest.mark.parametrize(
    ("cell", "format_", "operator"),
    [
        ("gru", "tflite", ""),
        ("gru", "onnx", "GRU"),
        ("rnn", "tflite", ""),
        ("rnn", "onnx", "RNN"),
        ("lstm", "onnx", "LSTM"),
        ("lstm", "tflite", ""),
    ],
)
def test_recurrent_networks_for_a_chip_without_floats(
    cell: str, format_: str, operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In TFLite they have a full-integer form; the others end before any work, and leave nothing."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(RECURRENT)
    state = {"stateful": cell == "lstm" and not operator}  # so short a sequence starts from zeros at too high a price
    edgekit.export(f"net.py:{cell}", to=format_, out=".", name="m", **state)  # type: ignore[arg-type]
    np.savez("d.npz", x=np.random.default_rng(0).standard_normal((8, 6, 8)).astype(np.float32))
    asked: dict[str, Any] = {
        "scheme": "int8",
        "data": "npz:d.npz",
        "for_": "mcu",
        "min_snr": 1.0,
        "out": f"q.{format_}",
    }
    if not operator:
        account = edgekit.quantize("m.tflite", **asked, **state, seconds=0).account
        assert (account.integer_operators, account.left_float) == (account.operators, ())
        return
    with pytest.raises(QualityError, match=rf"--for mcu computes on integers only.* {operator}, .*in float only"):
        edgekit.quantize(f"m.{format_}", **asked, seconds=0)
    assert not Path(f"q.{format_}").exists()


@pytest.mark.parametrize(
    ("cell", "export", "operator"),
    [("gru", {"dynamic": ("x:1=steps",)}, "WHILE"), ("rnn", {"stateful": True}, "UNIDIRECTIONAL_SEQUENCE_RNN")],
)
def test_layers_of_an_open_length_or_with_a_state_are_refused_for_a_chip(
    cell: str, export: dict[str, Any], operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(RECURRENT)
    edgekit.export(f"net.py:{cell}", to="tflite", out=".", name="m", **export)
    np.savez("d.npz", x=np.random.default_rng(0).standard_normal((8, 6, 8)).astype(np.float32))
    with pytest.raises(QualityError, match=f"--for npu computes on integers only.*{operator} without an integer form"):
        edgekit.quantize("m.tflite", scheme="int8", data="npz:d.npz", for_="npu", out="q.tflite", seconds=0)
    assert not Path("q.tflite").exists()
