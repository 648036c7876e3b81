"""Sounds and series all the way: trained, exported, measured and run as a user does."""

from __future__ import annotations

import logging
import wave
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.artifact import read_card
from edgekit.errors import DataError
from edgekit.pipeline.run import forecast_values
from edgekit.results.base import to_json
from edgekit.results.inspect import Forecast
from edgekit.types import Card, Signature, Task

pytestmark = pytest.mark.usefixtures("kept_workers")

SMALL = {"hidden": 8, "layers": 1, "dropout": 0.0}
QUICK = {"augment": "", "average": 0.0, "batch": 8, "lr": 2e-2}


def _tone(path: Path, hz: float, rate: int = 8000, channels: int = 1, seconds: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 12000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(sound.astype("<i2"), channels).tobytes())
    return path


@pytest.fixture
def tones(tmp_path: Path) -> str:
    for k in range(12):
        _tone(tmp_path / "tones" / "low" / f"{k}.wav", 250 + 10 * k)
        _tone(tmp_path / "tones" / "high" / f"{k}.wav", 2000 + 50 * k)
    return f"audio:{tmp_path / 'tones'}"


@pytest.mark.slow
def test_a_word_is_printed(tones: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = edgekit.train(
        "gru", data=tones, out=tmp_path / "kws.safetensors", epochs=8, overrides=QUICK, builder=SMALL
    )
    assert trained.quality is not None and trained.quality.value == 1.0  # two tones three octaves apart
    out = edgekit.export(tmp_path / "kws.safetensors", to=["onnx", "tflite"], out=tmp_path, name="kws", data=tones)
    assert [item.parity.passed for item in out.artifacts] == [True, True]
    for file in ("kws.onnx", "kws.tflite"):
        card = read_card(tmp_path / file)
        assert card is not None and card.contract["audio"].params["rate"] == 8000
        assert edgekit.evaluate(tmp_path / file, data=tones).evaluation.value == 1.0
        caplog.clear()
        with caplog.at_level(logging.INFO, "edgekit"):
            heard = [_tone(tmp_path / "a.wav", 300, 44100, 2), _tone(tmp_path / "b.wav", 2200, 16000, 1, 2.0)]
            answers = edgekit.run(tmp_path / file, heard).answers
        assert [answer.top[0].label for answer in answers] == ["low", "high"]
        for words in ("a.wav: 2 channels, mixed down", "a.wav: 44,100 Hz, resampled", "b.wav: 2.00 s, the model takes"):
            assert words in caplog.text
    tuned = edgekit.finetune(tmp_path / "kws.safetensors", data=tones, out=tmp_path / "again.safetensors", epochs=1)
    assert tuned.quality is not None and tuned.quality.value == 1.0


@pytest.fixture
def waves(tmp_path: Path) -> Path:
    """Hourly rows: noise, and a daily wave on a rising line."""
    time = np.arange(400)
    rng = np.random.default_rng(0)
    rows = np.stack([rng.standard_normal(400), 20 + 0.02 * time + 3 * np.sin(2 * np.pi * time / 24)], 1)
    stamps = np.datetime64("2024-01-01T00") + time.astype("timedelta64[h]")
    lines = ["date,noise,heat", *(f"{s}:00,{a:.5f},{b:.5f}" for s, (a, b) in zip(stamps, rows.tolist(), strict=True))]
    (tmp_path / "waves.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "waves.csv"


def test_a_forecast_in_the_units_of_the_data(waves: Path, tmp_path: Path) -> None:
    data = f"series:{waves},history=24,horizon=6"
    trained = edgekit.train(
        "lstm", data=data, out=tmp_path / "heat.safetensors", epochs=20, overrides=QUICK, builder=SMALL
    )
    assert trained.quality is not None and trained.quality.metric == "mse"
    out = edgekit.export(tmp_path / "heat.safetensors", to="onnx", out=tmp_path, name="heat", data=data)
    assert out.artifacts[0].parity.passed
    found = edgekit.evaluate(tmp_path / "heat.onnx", data=f"{data}@test").evaluation
    # onnxruntime and torch differ by float32 rounding
    assert found.value == pytest.approx(trained.quality.value, rel=1e-3)
    assert found.value < found.details["mse_repeating_last_value"]
    (answer,) = edgekit.run(tmp_path / "heat.onnx", waves).answers
    assert answer.forecast is not None
    target, values = answer.forecast.target, answer.forecast.values
    ahead = np.arange(400, 406)
    truth = 20 + 0.02 * ahead + 3 * np.sin(2 * np.pi * ahead / 24)
    assert target == "heat" and len(values) == 6
    assert np.abs(np.array(values) - truth).mean() < 2.0  # raw units; the standardised values are within 3 of 0
    assert to_json(answer)["forecast"]["values"] == list(values)
    tuned = edgekit.finetune(tmp_path / "heat.safetensors", data=data, out=tmp_path / "again.safetensors", epochs=1)
    assert tuned.network.task.kind == "forecasting"
    with pytest.raises(DataError, match=r"say series:FILE\.csv,target=heat"):
        edgekit.evaluate(tmp_path / "heat.onnx", data=f"series:{waves},history=24,horizon=6,target=noise")
    for other, words in (
        ("history=24,horizon=6,target=noise", "forecasts 'heat'"),
        ("history=48,horizon=6", "48 rows of history"),
        ("history=24,horizon=3", "3 to forecast"),
    ):
        with pytest.raises(DataError, match=words):
            edgekit.finetune(
                tmp_path / "heat.safetensors", data=f"series:{waves},{other}", out=tmp_path / "x.safetensors"
            )


@pytest.mark.slow
@pytest.mark.needs_data
def test_shipped_weights_of_a_forecast_hold_in_both_formats(tmp_path: Path) -> None:
    """Those that tell words are measured by tests/cli/test_zoo.py."""
    for item in edgekit.export("lstm-etth1", to=["onnx", "tflite"], out=tmp_path).artifacts:
        found = edgekit.evaluate(item.artifact.path, data="etth1").evaluation
        assert found.value < min(found.details["mse_repeating_last_24"], found.details["mse_repeating_last_value"])


def test_a_forecast_has_the_units_of_the_target() -> None:
    task = Task("forecasting", (), "mse", {"target": "OT", "mean": 10.0, "std": 2.0})
    card = Card("f", "custom", task, Signature((), ()))
    assert forecast_values({"y": np.array([[0.0, 1.5]])}, card) == Forecast("OT", (10.0, 13.0))
    assert forecast_values({"y": np.zeros((1, 2))}, None) is None
    assert forecast_values({"y": np.zeros((1, 2))}, Card("c", "custom", Task(), Signature((), ()))) is None


def test_weights_for_further_data_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waves: Path) -> None:
    from edgekit.models import family
    from edgekit.source import resolve

    monkeypatch.setattr(family, "WEIGHTS", tmp_path)
    data = f"series:{waves},history=24,horizon=6"
    edgekit.train("gru", data=data, out=tmp_path / "gru-waves.safetensors", epochs=1, overrides=QUICK, builder=SMALL)
    assert (resolve("gru-waves").name, resolve("gru-waves").card.family) == ("gru-waves", "gru")
    rows = {row.name: row for row in edgekit.models().models}
    assert rows["gru-waves"].data == data and rows["gru-waves"].quality[0].metric == "mse"
    assert rows["gru"].data == "fsdd" and not rows["gru"].weights
