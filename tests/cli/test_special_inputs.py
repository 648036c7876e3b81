"""What is not a regular file is refused as an input by every verb: nothing waits for a FIFO, or reads a device."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.artifact import open_artifact, sha256_file
from edgekit.errors import InputError, ModelError
from edgekit.source import resolve

LIMIT_S = 60
"""Far beyond what any of them takes; without it a test would hang as the program did."""
LINES = (
    "inspect {}.onnx",
    "inspect {}.tflite",
    "inspect {}.pt2",
    "bench {}.onnx",
    "run {}.tflite x.npz",
    "eval {}.onnx --data digits",
    "verify {}.onnx --against tiny.onnx",
    "verify tiny.onnx --against {}.onnx",
    "verify tiny.onnx --against {}.pt2",
    "verify tiny.onnx --against {}.keras",
    "verify tiny.onnx --against {}.safetensors",
    "verify tiny.onnx --against {}.py:build",
    "quantize {}.onnx --scheme int8-dynamic -o q.onnx",
    "quantize tiny.onnx --scheme int8 --calibration {}.json -o q.onnx",
    "quantize tiny.onnx --scheme int8 --data npz:x.npz --keep-float {}.json -o q.onnx",
    "quantize {}.onnx --scheme auto --data digits --max-drop 0.1 -o q",
    "export {}.safetensors --to onnx -o build",
    "export {}.pt2 --to onnx -o build",
    "export {}.py:build --to onnx -o build",
    "prune {}.safetensors --amount 0.3 -o o.safetensors",
    "finetune {}.safetensors --data digits -o o.safetensors",
    "recipe check given.toml",
    "eval tiny.onnx --data table:{}.csv",
    "eval tiny.onnx --data series:{}.csv",
    "eval tiny.onnx --data text:{}.csv",
)
RECIPE = 'source = "mlp"\n[[step]]\ndo = "export"\nto = ["onnx"]\ninput = "{}.json"\n'


@pytest.fixture
def special(tmp_path: Path, tiny_onnx: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name, without suffix, under which something of the asked kind lies with any suffix."""
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    listening = socket.socket(socket.AF_UNIX)
    for suffix in ("onnx", "tflite", "pt2", "keras", "safetensors", "py", "json", "csv"):
        place = tmp_path / f"{request.param}.{suffix}"
        if request.param == "fifo":
            os.mkfifo(place)
        elif request.param == "zero":
            place.symlink_to("/dev/zero")
        else:
            listening.close()
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(place))
    (tmp_path / "given.toml").write_text(RECIPE.format(request.param))
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT_S)
    yield request.param
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    listening.close()


def _too_long(*_: object) -> None:
    raise TimeoutError


@pytest.mark.parametrize("special", ["fifo", "zero", "socket"], indirect=True)
@pytest.mark.parametrize("line", LINES)
def test_refused_at_once(line: str, special: str, refused: Callable[..., str]) -> None:
    message = refused(*line.format(special).split())
    assert special in message or "nothing was run" in message
    assert "does not exist" not in message
    assert "{}.pt2" not in line or "regular files" in message or special == "socket"


@pytest.mark.parametrize("special", ["fifo", "zero"], indirect=True)
def test_kind_then_suffix_then_first_bytes_then_size(
    special: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="regular files"):
        sha256_file(tmp_path / f"{special}.json")
    monkeypatch.setenv("EDGEKIT_LIMIT_MODEL_BYTES", "10")
    big = b"\x80\x04" + bytes(100)
    wanted = {
        f"{special}.onnx": "regular files",
        "big.bin": "is a pickle",
        "big.txt": "is a pickle",
        "empty.onnx": "empty",
        "tiny.onnx": "EDGEKIT_LIMIT_MODEL_BYTES",
    }
    for name in ("big.bin", "big.txt"):
        (tmp_path / name).write_bytes(big)
    (tmp_path / "empty.onnx").touch()
    for name, said in wanted.items():
        with pytest.raises(InputError, match=said):
            open_artifact(tmp_path / name)


@pytest.mark.parametrize("special", ["fifo", "zero"], indirect=True)
def test_a_folder_that_a_library_reads_holds_files_only(special: str, tmp_path: Path) -> None:
    """TensorFlow and transformers open what lies in theirs by themselves."""
    for name in ("saved", "hub"):
        (tmp_path / name / "variables").mkdir(parents=True)
        (tmp_path / name / "variables" / "x").symlink_to(tmp_path / f"{special}.json")
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    (tmp_path / "hub" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"variables/x is a .*; take it out of the folder"):
        open_artifact(tmp_path / "saved")
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=r"variables/x is a .*; take it out of the folder"):
        resolve(f"hf:{tmp_path / 'hub'}")
