"""``quantize``: what is refused before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import DataError, EdgekitError, UnsupportedError, UsageError
from edgekit.pipeline.schemes import quantize

DATA = "breast-cancer"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"scheme": "int8"}, UsageError, "give --data"),
        ({"scheme": "auto"}, UsageError, "needs --data"),
        ({"scheme": "int16x8"}, UnsupportedError, "not supported for .onnx"),
        ({"scheme": "float3"}, UsageError, "no scheme is called"),
        ({"scheme": "int8", "data": DATA, "calibration": "average"}, UsageError, "no calibration is called"),
        (
            {"scheme": "int8", "data": DATA, "calibration": "no.json"},
            DataError,
            r"^no\.json does not exist",
        ),
        ({"scheme": "int8", "data": DATA, "samples": 0}, UsageError, "--samples is 0"),
        ({"scheme": "fp16", "data": DATA, "max_drop": 1.5}, UsageError, "--max-drop is 1.5"),
        ({"scheme": "fp16", "seconds": -1.0}, UsageError, "--seconds is -1"),
        ({"scheme": "fp16", "seconds": 0.1, "on": "nowhere"}, UsageError, "no device is called"),
        ({"scheme": "fp16", "max_drop": 0.1}, UsageError, "--max-drop needs --data"),
        ({"scheme": "fp16", "integer_io": True}, UsageError, "need --scheme int8"),
        ({"scheme": "fp16", "out": "q.tflite"}, UsageError, r"must end in \.onnx"),
        ({"scheme": "int8", "data": "digits"}, DataError, "digits@test has labels 0 to 9"),
        ({"scheme": "int8", "data": "nothing"}, UsageError, "no data set is called"),
    ],
)
def test_refused_before_anything_is_written(
    mlp: dict[str, Path], tmp_path: Path, options: dict[str, Any], error: type[EdgekitError], said: str
) -> None:
    target = tmp_path / options.pop("out", "q.onnx")
    with pytest.raises(error, match=said):
        quantize(mlp["onnx"], out=target, **{"seconds": 0, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_the_calibration(
    mlp: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "edgekit"), pytest.raises(UsageError, match="cannot write /proc/none"):
        quantize(mlp["onnx"], scheme="int8", data=DATA, out="/proc/none/q.onnx", seconds=0)
    assert "calibrating" not in caplog.text
