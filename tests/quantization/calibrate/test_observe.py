"""The tensors that calibration sees are those of the model, in both formats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edgekit.errors import DataError
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.observe import calibrate, onnx_tensors, tflite_tensors
from edgekit.runtime import load
from edgekit.types import Artifact, Feed, Format


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_outputs_among_the_tensors_are_those_of_the_runner(
    files: Mapping[Format, Artifact], digit_feeds: list[Feed], format_: Format
) -> None:
    artifact = files[format_]
    tap = onnx_tensors if format_ is Format.ONNX else tflite_tensors
    with load(artifact.path) as runner:
        for (count, tensors), feed in zip(tap(artifact.path, ["image"], digit_feeds), digit_feeds, strict=True):
            wanted = runner.run(feed)["logits"]
            assert count == 1
            # Unfused kernels add in another order: float32 rounding of sums of some hundred terms.
            assert any(
                value.shape == wanted.shape and np.allclose(value, wanted, atol=1e-4) for value in tensors.values()
            )


def test_both_formats_see_the_same_network(calibrations: Mapping[Format, Calibration]) -> None:
    onnx, tflite = (calibrations[f] for f in (Format.ONNX, Format.TFLITE))
    assert onnx.samples == tflite.samples == 64
    ends = [sorted({round(r.high, 3) for r in c.ranges.values()}) for c in (onnx, tflite)]
    # Every range of the TFLite file (activations after fusion) is one of the ONNX file's.
    assert all(np.isclose(high, ends[0], atol=2e-3).any() for high in ends[1])


def test_data_of_another_shape(files: Mapping[Format, Artifact]) -> None:
    artifact = files[Format.ONNX]
    with load(artifact.path) as runner:
        signature = runner.signature
    wrong = [{"image": np.zeros((1, 1, 9, 9), np.float32)}]
    with pytest.raises(DataError, match=r"\(1, 1, 9, 9\), the model wants \(1, 1, 8, 8\)"):
        calibrate(artifact.path, wrong, signature, format=artifact.format)
