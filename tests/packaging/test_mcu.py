"""``--for mcu``: the array is the file, the operators are registered, the arena is measured where that can be done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgekit
from edgekit.artifact import read_card, write_card
from edgekit.devices import WorkerClient, parse_device
from edgekit.devices.device import transport_for
from edgekit.environments import TFLM
from edgekit.errors import ParityError, UnsupportedError
from edgekit.graph import micro
from edgekit.types import Array, Feed

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture
def no_tflm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(TFLM.variable, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # no .venv-tflm beside it


@pytest.fixture
def with_tflm(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment with tflite-micro, which ``scripts/test`` makes."""
    path = os.environ.get(TFLM.variable) or str(root / ".venv-tflm" / "bin" / "python")
    if not os.access(path, os.X_OK):
        pytest.skip(f"needs .venv-tflm or ${TFLM.variable}: run scripts/test")
    monkeypatch.setenv(TFLM.variable, path)


@pytest.mark.parametrize(
    ("operator", "method"),
    [
        ("CONV_2D", "AddConv2D"), ("DEPTHWISE_CONV_2D", "AddDepthwiseConv2D"), ("FULLY_CONNECTED", "AddFullyConnected"),
        ("L2_POOL_2D", "AddL2Pool2D"), ("PADV2", "AddPadV2"), ("CUMSUM", "AddCumSum"), ("RELU6", "AddRelu6"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "AddUnidirectionalSequenceLSTM"), ("SPACE_TO_BATCH_ND", "AddSpaceToBatchNd"),
    ],
)  # fmt: skip
def test_methods_of_the_resolver(operator: str, method: str) -> None:
    assert micro.method(operator) == method
    assert operator in micro.OPERATORS


@pytest.mark.usefixtures("no_tflm")
def test_an_estimate_is_called_one(make: Callable[..., Path], tmp_path: Path) -> None:
    model = make("table", "tflite", quantized=True)
    result = edgekit.package(model, for_="mcu", out=tmp_path / "app")
    assert "estimate" in result.notes[0]
    assert result.operators == ("AddRelu",)
    text = (tmp_path / "app" / "model_data.cc").read_text()
    array = bytes(int(one, 16) for one in re.findall(r"0x([0-9a-f]{2})", text))
    assert array == model.read_bytes()
    assert "alignas(16)" in text


@pytest.mark.usefixtures("with_tflm")
@pytest.mark.parametrize("quantized", [False, True])
def test_the_arena_is_measured(quantized: bool, make: Callable[..., Path], tmp_path: Path) -> None:
    result = edgekit.package(make("table", "tflite", quantized=quantized), for_="mcu", out=tmp_path / "app")
    assert result.notes == ()
    assert f"kArenaBytes = {result.arena_bytes};" in (tmp_path / "app" / "model.h").read_text()


@pytest.mark.usefixtures("with_tflm")
def test_other_outputs_there_are_refused(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(WorkerClient):
        def run(self, feed: Feed, *, timeout_s: float | None = None) -> dict[str, Array]:
            return {name: array + 1 for name, array in super().run(feed, timeout_s=timeout_s).items()}

    monkeypatch.setattr("edgekit.packaging.mcu.open_worker", lambda name: Off(transport_for(parse_device(name))))
    with pytest.raises(ParityError, match="Microcontrollers"):
        edgekit.package(make("table", "tflite"), for_="mcu", out=tmp_path / "app")
    assert not (tmp_path / "app").exists()


@pytest.mark.usefixtures("no_tflm")
def test_operators_that_it_has_not(model_files: ModuleType, make: Callable[..., Path], tmp_path: Path) -> None:
    card = read_card(make("table", "tflite"))
    assert card is not None
    tensors = [model_files.Tensor(name, "float32", (1, 4)) for name in ("x", "y")]
    gelu = model_files.Operator(model_files.OPERATORS.GELU, [0], [1])
    path = model_files.write_tflite(tmp_path / "g.tflite", tensors, [gelu], [0], [1], ({"x": 0}, {"y": 1}))
    write_card(path, card)
    with pytest.raises(UnsupportedError, match="GELU"):
        edgekit.package(path, for_="mcu", out=tmp_path / "app")


@pytest.mark.usefixtures("no_tflm")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("kind", ["colour", "audio", "series"])
def test_preprocessing_is_c(kind: str, make: Callable[..., Path], tmp_path: Path) -> None:
    edgekit.package(make(kind, "tflite"), for_="mcu", out=tmp_path / "app")
    data = (tmp_path / "app" / "selftest_data.h").read_text()
    call = {
        "colour": "for (size_t k = 0; k < N; k++) out[k] = ek_image_value(raw_x, &ek_rule_x, k);",
        "audio": "if (!ek_audio(raw_x, (int)(sizeof raw_x / sizeof raw_x[0]), &ek_rule_x, out)) return 2;",
        "series": "if (!ek_columns(raw_x, 5, &ek_rule_x, out)) return 2;",
    }[kind]
    arrays = data.partition("#include <cstdint>")[2]
    (tmp_path / "app" / "t.c").write_text(
        f'#include "preprocess.h"\n#include <stdio.h>\n{arrays}\n'
        "#define N (sizeof tensor_x / sizeof tensor_x[0])\nstatic float out[N];\n"
        f"int main(void) {{\n  {call}\n"
        '  for (size_t k = 0; k < N; k++) printf("%.9g\\n", out[k] - tensor_x[k]);\n  return 0;\n}\n'
    )
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-variable"]
    command += ["-Wno-unused-const-variable", str(tmp_path / "app" / "t.c"), "-lm", "-o", str(tmp_path / "t")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    off = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout.split()
    assert np.abs(np.array(off, np.float64)).max() < 1e-4  # float32 arithmetic, logarithms of small powers
