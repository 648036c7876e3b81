"""Bad sounds and series on the command line: the documented exit code, one clear message, nothing published."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.artifact import write_card
from edgekit.data.logmel import speech
from edgekit.pipeline.doctor import TINY_ONNX
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

Refused = Callable[..., str]


def _wav(path: Path, seconds: float = 0.5, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        time = np.arange(round(seconds * rate)) / rate
        file.writeframes((9000 * np.sin(2 * np.pi * 440 * time)).astype("<i2").tobytes())


@pytest.fixture
def hears(tmp_path: Path) -> Path:
    """A file of four values that says it takes one frame of four mel bands."""
    path = tmp_path / "hears.onnx"
    path.write_bytes(TINY_ONNX)
    params = {**speech(8000).params(), "bands": 4, "frames": 1}
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
    contract = {"x": InputSpec("audio", params=params)}
    write_card(path, Card("hears", "custom", Task("classification", tuple("abcd"), "accuracy"), signature, contract))
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist; give the path of a .wav"),
        (b"", "is empty (0 bytes)"),
        (b"fLaC" + b"\0" * 60, "it is FLAC; convert it"),
        (b"RIFF" + b"\0" * 60, "is not a WAV file"),
        ("cut", "is cut short"),
        ("silent", "holds no sound (0 samples)"),
    ],
)
def test_recordings(content: bytes | str | None, words: str, hears: Path, tmp_path: Path, refused: Refused) -> None:
    if isinstance(content, bytes):
        (tmp_path / "word.wav").write_bytes(content)
    elif content is not None:
        _wav(tmp_path / "word.wav", 0.0 if content == "silent" else 0.5)
        if content == "cut":
            (tmp_path / "word.wav").write_bytes((tmp_path / "word.wav").read_bytes()[:500])
    assert words in refused("run", "hears.onnx", "word.wav", "-o", "out.npz")


def test_folders_of_recordings(tmp_path: Path, refused: Refused) -> None:
    _wav(tmp_path / "one/yes/a.wav")
    _wav(tmp_path / "damaged/yes/a.wav")
    _wav(tmp_path / "damaged/no/a.wav")
    (tmp_path / "damaged/no/a.wav").write_bytes(b"RIFF")
    (tmp_path / "hollow/yes").mkdir(parents=True)
    (tmp_path / "hollow/no").mkdir()
    _wav(tmp_path / "slow/yes/a.wav", rate=1000)
    _wav(tmp_path / "slow/no/a.wav", rate=1000)
    for data, words in (
        ("audio:nowhere", "nowhere does not exist"),
        ("audio:one", "1 class folder"),
        ("audio:damaged", "a.wav is not a WAV file"),
        ("audio:hollow", "holds no recording"),
        ("audio:slow", "1,000 Hz, too low"),
        ("breast-cancer", "takes audio"),
    ):
        assert words in refused("train", "lstm", "--data", data, "--epochs", "1", "-o", "out.safetensors")


ROWS = [f"{k},{k % 7}" for k in range(400)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,b", *ROWS[:50], "7,", *ROWS[50:]], "1 cell is missing, the first in line 52, column 'b'"),
        (["a,b", *ROWS[:50], "7,x", *ROWS[50:]], "line 52: column 'b' holds 'x'"),
        (["a,b", *(f"{k},3" for k in range(400))], "'b' is 3 in every row"),
        (["a,b", *ROWS[:60]], "one window takes 96 + 24"),
        (["a,b", *ROWS[:50], "7", *ROWS[50:]], "line 52: 1 cells"),
        ([], "is empty"),
    ],
)
def test_series(lines: list[str], words: str, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "s.csv").write_text("\n".join(lines), encoding="utf-8")
    assert words in refused("train", "gru", "--data", "series:s.csv", "--epochs", "1", "-o", "out.safetensors")


def test_options_of_a_series(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "s.csv").write_text("a,b\n" + "\n".join(ROWS), encoding="utf-8")
    train = ("train", "gru", "--epochs", "1", "-o", "out.safetensors", "--data")
    assert "no column 'c' to forecast; it has: a, b" in refused(*train, "series:s.csv,target=c")
    assert "series:DIR" not in refused(*train, "series:none.csv")
    refused(*train, "series:s.csv,history=-1", code=2)
    refused(*train, "etth1@dev", code=2)
    assert "mlp takes table data" in refused("finetune", "mlp", "--data", "series:s.csv", "-o", "out.safetensors")
