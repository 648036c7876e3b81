"""The shipped recurrent networks on the spoken digits, quantized: both formats, and TFLite files on the old runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import edgekit
from edgekit.artifact import open_artifact
from edgekit.data import feeds, open_data
from edgekit.pipeline.quantize import QuantizeResult

pytestmark = [pytest.mark.needs_data, pytest.mark.slow, pytest.mark.usefixtures("kept_workers")]
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


CELLS = {"lstm": SCHEMES, "rnn": SCHEMES, "gru": ("int8",)}
"""Every scheme on the layers that are one operator in TFLite; the usual one on a GRU, which is a loop there."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(CELLS, id="cells"),
        pytest.param(dict.fromkeys(FAMILIES, SCHEMES), id="all", marks=pytest.mark.sweep),
    ],
)
def made(files: Path, request: pytest.FixtureRequest) -> dict[str, QuantizeResult]:
    return {
        f"{family}-{scheme}.{suffix}": edgekit.quantize(
            files / f"{family}.{suffix}",
            scheme=scheme,
            data="fsdd",
            out=files / f"{family}-{scheme}.{suffix}",
            seconds=0,
        )
        for family in FAMILIES
        for scheme in request.param[family]
        for suffix in ("onnx", "tflite")
    }


def test_the_words_are_still_understood_in_far_fewer_bytes(made: dict[str, QuantizeResult]) -> None:
    for name, result in made.items():
        assert result.before is not None and result.before.value > 0.97
        assert result.drop is not None and result.drop <= MAX_DROP, name
        assert result.artifact.bytes < 0.4 * result.parent.bytes, name
        assert result.account.weight_bytes_integer_share > 0.85, name


def test_the_old_runtime_understands_as_many(made: dict[str, QuantizeResult], files: Path, other_python: str) -> None:
    for name, result in made.items():
        if name.endswith(".tflite"):
            there = edgekit.evaluate(files / name, data="fsdd", on=f"python:{other_python}")
            assert result.after is not None
            assert there.evaluation.value >= result.after.value - MAX_DROP, name


@pytest.mark.parametrize("family", ["lstm", "rnn"])
def test_an_app_that_never_resets_understands_as_many(
    family: str, made: dict[str, QuantizeResult], files: Path
) -> None:
    """Every test word in one bare interpreter: the share of right answers is that of a file opened anew for each."""
    float_file = edgekit.evaluate(files / f"{family}.tflite", data="fsdd").evaluation.value
    assert float_file == bare_accuracy(files / f"{family}.tflite") > 0.98
    for scheme in SCHEMES:
        after = made[f"{family}-{scheme}.tflite"].after
        assert after is not None and after.value >= float_file - MAX_DROP
        assert bare_accuracy(files / f"{family}-{scheme}.tflite") == after.value, scheme


def bare_accuracy(path: Path) -> float:
    """Of the test words, one call after the other, with the state reset before each: the same, or it was left over."""
    artifact = open_artifact(path)
    assert artifact.card is not None and artifact.card.stateful is False
    test = open_data("fsdd@test")
    assert test.labels is not None
    words = list(feeds(test, artifact.card.signature, artifact.card.contract))
    bare, reset = (Interpreter(str(path), num_threads=1) for _ in range(2))
    right = 0
    for one in (bare, reset):
        one.allocate_tensors()
    (given,), (result,) = bare.get_input_details(), bare.get_output_details()
    for word, label in zip(words, test.labels, strict=True):
        found = []
        reset.reset_all_variables()
        for one in (bare, reset):
            one.set_tensor(given["index"], word["audio"])
            one.invoke()
            found.append(one.get_tensor(result["index"]))
        assert np.array_equal(*found)
        right += int(found[0].argmax()) == label
    return right / len(words)


def test_an_lstm_for_a_chip_is_integer_throughout(made: dict[str, QuantizeResult], files: Path) -> None:
    asked = {"scheme": "int8", "data": "fsdd", "for_": "mcu", "seconds": 0}
    found = edgekit.quantize(files / "lstm.tflite", out=files / "lstm-mcu.tflite", **asked).account
    assert (found.integer_operators, found.hybrid_operators, found.left_float) == (found.operators, 0, ())
    kinds = {left.operator for left in made["lstm-int8.onnx"].account.left_float}
    assert "LSTM" not in kinds and kinds <= {"Transpose", "Reshape", "Gather"}


def test_on_a_cpu_an_lstm_holds_integers_and_computes_in_float(made: dict[str, QuantizeResult]) -> None:
    """Its integer kernel takes several times the time of its float one."""
    left = [
        one for one in made["lstm-int8.tflite"].account.left_float if one.operator == "UNIDIRECTIONAL_SEQUENCE_LSTM"
    ]
    assert len(left) == 2 and all(one.reason.startswith("weight-only") for one in left)
