"""Model files of one operator, made by the doctor's own bytes; a command line that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import main
from edgekit.pipeline.doctor import TINY_ONNX, TINY_TFLITE


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Path:
    """y = Relu(x), float32 (1, 4)."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(TINY_ONNX)
    return path


@pytest.fixture
def tiny_tflite(tmp_path: Path) -> Path:
    """y = Relu(x), float32 (1, 4)."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(TINY_TFLITE)
    return path


Cli = Callable[..., Any]


@pytest.fixture
def json_of(capfd: pytest.CaptureFixture[str]) -> Cli:
    """``json_of("eval", …)``: the document of a command line that has to end well."""

    def run(*arguments: str) -> Any:
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main([*arguments, "--json", "-"])
        out, err = capfd.readouterr()
        assert not leaving.value.code, err
        return json.loads(out)

    return run


def _listing(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.stat().st_size for path in found}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command line in ``tmp_path``, checks how it is refused, and gives the message."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 3) -> str:
        before = _listing(tmp_path)
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(arguments)
        out, err = capfd.readouterr()
        assert leaving.value.code == code, err
        assert out == "", "nothing is printed as a result"
        assert "Traceback" not in err and "internal error" not in err
        message = [line for line in err.splitlines() if line.startswith("edgekit: ")]
        assert len(message) == 1, err
        assert _listing(tmp_path) == before, "nothing is published, nothing is left"
        return message[0]

    return run
