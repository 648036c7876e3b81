"""Quantized TFLite files: what they hold and compute, and that nothing of the parent is left in by mistake."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.artifact import open_artifact, read_card
from edgekit.data import Dataset
from edgekit.devices import open_runner
from edgekit.errors import EdgekitError, RuntimeMissingError, UsageError
from edgekit.graph.tflite import read_tflite
from edgekit.passes import PassContext
from edgekit.quality.coverage import coverage
from edgekit.quality.evaluate import evaluate
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import METHODS
from edgekit.quantization.integer_io import integer_io
from edgekit.quantization.tflite.quantize import SCHEMES, QuantizeTflite
from edgekit.runtime import load
from edgekit.types import Artifact, Feed, Format

from ..conftest import calibrate_on
from ..tflite_files import dense_file, transposed_file

pytestmark = pytest.mark.usefixtures("kept_workers")

LOSS = {"int4-weights": 0.2}
"""4-bit weights cost this small network several points; the others get 2 (see test_quantize_onnx)."""
INT8, FLOAT = 9, 0


def quantized(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], target: Path, **options: Any
) -> Artifact:
    made = QuantizeTflite(**{"calibration": calibrations[Format.TFLITE], **options}).run(
        files[Format.TFLITE], PassContext(target)
    )
    assert isinstance(made.model, Artifact)
    return made.model


def accuracy(path: Path, artifact: Artifact, test: Dataset) -> float:
    with load(path) as runner:
        names = [spec.name for spec in runner.signature.outputs]
        assert names == ["logits"]
        return evaluate(runner, test, artifact.card).value


@pytest.mark.parametrize("scheme", SCHEMES)
def test_smaller_and_as_good(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    digits_test: Dataset,
    tmp_path: Path,
    scheme: str,
) -> None:
    parent = files[Format.TFLITE]
    made = quantized(files, calibrations, tmp_path / "q.tflite", scheme=scheme)
    assert made.path.stat().st_size < 0.75 * parent.path.stat().st_size
    before, after = (accuracy(p, parent, digits_test) for p in (parent.path, made.path))
    assert before > 0.8
    assert after > before - LOSS.get(scheme, 0.02)
    assert read_card(made.path) is None  # the parent's card does not describe this file


@pytest.mark.parametrize("method", METHODS)
def test_every_calibration(files: Mapping[Format, Artifact], digits_test: Dataset, tmp_path: Path, method: str) -> None:
    parent = files[Format.TFLITE]
    QuantizeTflite(calibration=calibrate_on(parent, method)).run(parent, PassContext(tmp_path / "q.tflite"))
    assert accuracy(tmp_path / "q.tflite", parent, digits_test) > accuracy(parent.path, parent, digits_test) - 0.02


def test_our_ranges_are_in_the_file(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    """The scale of each activation is (high - low) / 255 of the calibration, not the library's own moving average."""
    made = quantized(files, calibrations, tmp_path / "q.tflite", integer_io=True)
    (image,), _ = integer_io(made)
    found = calibrations[Format.TFLITE].ranges["image"]
    assert image is not None
    assert image.scale == pytest.approx((found.high - found.low) / 255, rel=1e-5)  # float32


@pytest.mark.parametrize(("asked", "wanted"), [(False, FLOAT), (True, INT8)])
def test_inputs_and_outputs(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    tmp_path: Path,
    asked: bool,
    wanted: int,
) -> None:
    made = quantized(files, calibrations, tmp_path / "q.tflite", integer_io=asked)
    graph = read_tflite(made.path).subgraphs[0]
    assert {graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)} == {wanted}
    counted = coverage(made)
    assert counted.left_float == ()
    assert counted.weight_bytes_integer_share == 1.0
    assert counted.conversions == (0 if asked else 2)


def test_dynamic_products_are_right_on_the_old_runtime(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    digit_feeds: list[Feed],
    tmp_path: Path,
    other_python: str,
) -> None:
    """tflite-runtime 2.14 knows no scale per channel in a hybrid FULLY_CONNECTED: it would give the bias alone."""
    made = quantized(files, calibrations, tmp_path / "q.tflite", scheme="int8-dynamic")
    with open_runner(made.path, device=f"python:{other_python}") as there, load(made.path) as here:
        for feed in digit_feeds:
            found, wanted = there.run(feed)["logits"], here.run(feed)["logits"]
            # inputs rounded to 255 steps while running; a step that falls the other way is some hundredths of a logit
            assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_what_the_old_runtime_refuses_is_noted(tmp_path: Path, other_python: str) -> None:
    path = transposed_file(tmp_path / "m.tflite")
    device = f"python:{other_python}"
    result = QuantizeTflite("int8-dynamic").run(open_artifact(path), PassContext(tmp_path / "q.tflite"))
    assert any("TRANSPOSE_CONV" in note and "2.14 refuses" in note for note in result.notes)
    with pytest.raises(EdgekitError, match="does not accept it"), open_runner(tmp_path / "q.tflite", device=device):
        pass
    result = QuantizeTflite("int8-weights").run(open_artifact(path), PassContext(tmp_path / "w.tflite"))
    assert not any("TRANSPOSE_CONV" in note for note in result.notes)
    with open_runner(tmp_path / "w.tflite", device=device) as runner:
        assert runner.run({"x": np.ones((1, 4, 4, 3), np.float32)})["y"].any()


def test_large_weights_are_counted(tmp_path: Path) -> None:
    """Google's quantizer writes large constants behind the flatbuffer, where microcontrollers do not look."""
    weights = np.random.default_rng(0).standard_normal((1200, 1200)).astype(np.float32)
    path = dense_file(tmp_path / "m.tflite", weights)
    made = QuantizeTflite("int8-dynamic").run(open_artifact(path), PassContext(tmp_path / "q.tflite")).model
    assert isinstance(made, Artifact)
    assert not any(buffer.offset > 1 for buffer in read_tflite(made.path).buffers)
    counted = coverage(made)
    assert counted.weight_bytes_integer_share > 0.9
    assert (counted.operators, counted.integer_operators, counted.hybrid_operators) == (1, 1, 1)


def test_what_there_is_not(
    files: Mapping[Format, Artifact], calibrations: Mapping[Format, Calibration], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no scheme is called 'auto' for \.tflite"):
        quantized(files, calibrations, tmp_path / "q.tflite", scheme="auto")
    with pytest.raises(UsageError, match="give --data"):
        quantized(files, calibrations, tmp_path / "q.tflite", calibration=None)
    with pytest.raises(UsageError, match="need --scheme int8"):
        quantized(files, calibrations, tmp_path / "q.tflite", scheme="fp16", integer_io=True)


def test_the_new_name_of_the_library(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ai_edge_quantizer import quantizer

    monkeypatch.setitem(sys.modules, "ai_edge_quantizer.quantizer", None)
    with pytest.raises((RuntimeMissingError, ModuleNotFoundError)):
        quantized(files, calibrations, tmp_path / "q.tflite")
    monkeypatch.setattr("edgekit.quantization.tflite.quantize.PACKAGES", ("litert_quantizer",))
    with pytest.raises(RuntimeMissingError, match="pip install"):
        quantized(files, calibrations, tmp_path / "q.tflite")
    monkeypatch.setitem(sys.modules, "litert_quantizer", type(sys)("litert_quantizer"))
    monkeypatch.setitem(sys.modules, "litert_quantizer.quantizer", quantizer)
    assert quantized(files, calibrations, tmp_path / "q.tflite").path.exists()


def test_nothing_is_printed(
    files: Mapping[Format, Artifact],
    calibrations: Mapping[Format, Calibration],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    quantized(files, calibrations, tmp_path / "q.tflite")
    assert capfd.readouterr() == ("", "")
