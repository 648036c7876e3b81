"""The shipped recurrent networks on the spoken digits, quantized: both formats, and TFLite files on the old runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit
from edgekit.pipeline.quantize import QuantizeResult

pytestmark = [pytest.mark.needs_data, pytest.mark.slow]
MAX_DROP = 0.005
"""Of 300 words, one: what int8 may cost an LSTM or GRU."""
FAMILIES = ("lstm", "gru", "rnn")
SCHEMES = ("int8", "int8-dynamic", "int8-weights")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recurrent")
    for family in FAMILIES:
        edgekit.export(family, to=("onnx", "tflite"), out=out)
    return out


@pytest.fixture(scope="module")
def made(files: Path) -> dict[str, QuantizeResult]:
    return {
        f"{family}-{scheme}.{suffix}": edgekit.quantize(
            files / f"{family}.{suffix}", scheme=scheme, data="fsdd", out=files / f"{family}-{scheme}.{suffix}"
        )
        for family in FAMILIES
        for scheme in SCHEMES
        for suffix in ("onnx", "tflite")
    }


def test_the_words_are_still_understood_in_far_fewer_bytes(made: dict[str, QuantizeResult]) -> None:
    for name, result in made.items():
        assert result.before is not None and result.before.value > 0.97
        assert result.drop is not None and result.drop <= MAX_DROP, name
        assert result.bytes < 0.4 * result.parent_bytes, name
        assert result.account.weight_bytes_integer_share > 0.85, name


def test_the_old_runtime_understands_as_many(made: dict[str, QuantizeResult], files: Path, other_python: str) -> None:
    for name, result in made.items():
        if name.endswith(".tflite"):
            there = edgekit.evaluate(files / name, data="fsdd", on=f"python:{other_python}")
            assert result.after is not None
            assert there.evaluation.value >= result.after.value - MAX_DROP, name


def test_an_lstm_is_integer_throughout(made: dict[str, QuantizeResult]) -> None:
    found = made["lstm-int8.tflite"].account
    assert (found.integer_operators, found.hybrid_operators, found.left_float) == (found.operators, 0, ())
    kinds = {left.operator for left in made["lstm-int8.onnx"].account.left_float}
    assert "LSTM" not in kinds and kinds <= {"Transpose", "Reshape", "Gather"}
