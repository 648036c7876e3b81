"""Each finding of the calibration checks: data that makes it, and data beside it that does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError
from edgekit.quantization.calibrate.calibration import Calibration, gather
from edgekit.quantization.calibrate.checks import InputWatch, findings, missing_classes
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.runtime import load
from edgekit.types import Array, Artifact, Feed, Format, InputSpec, Signature, TensorSpec

RNG = np.random.default_rng(0)
IMAGE = InputSpec("image", "NCHW", (8, 8), 3, 1 / 255, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
SIGNATURE = Signature((TensorSpec("image", "float32", ("batch", 3, 8, 8)),), ())
MEAN, STD = (np.array(v).reshape(-1, 1, 1) for v in (IMAGE.mean, IMAGE.std))
SCALED = np.clip(RNG.normal(MEAN, STD, size=(40, 3, 8, 8)), 0, 1)
ONCE = (SCALED - MEAN) / STD


def inputs_said(values: Array, contract: Mapping[str, InputSpec] | None = None) -> str:
    watch = InputWatch(SIGNATURE, {"image": IMAGE} if contract is None else contract)
    for batch in np.split(values.astype(np.float32), 4):
        list(watch.watching([{"image": batch}]))
    return " ".join(watch.findings())


def observed(*batches: Array, layers: Mapping[str, str] | None = None) -> Calibration:
    rows = [(len(batch), {"t": batch.astype(np.float32)}) for batch in batches]
    return gather(rows, method="minmax", data="d", channel_axis=1)


def test_data_as_it_was_trained_on_is_not_remarked_on() -> None:
    assert inputs_said(ONCE) == ""
    assert inputs_said(ONCE * 0.6 + 0.2) == ""  # a darker or flatter set than the training data


def test_sounds_end_in_silence_that_no_statistics_hold() -> None:
    sound = replace(IMAGE, kind="audio")
    assert inputs_said(SCALED, {"image": sound}) == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((ONCE - MEAN) / STD, "looks normalised twice"),
        (SCALED, "looks scaled but not normalised"),
        (SCALED * 255, "looks raw"),
        (ONCE * 3, "holds what no image gives"),
    ],
)
def test_data_that_was_normalised_otherwise(values: Array, said: str) -> None:
    assert said in inputs_said(values)
    assert inputs_said(values, {}) == ""  # nothing to compare with


def test_the_same_sample_again_and_again() -> None:
    assert "the same in all 40 samples" in inputs_said(np.repeat(ONCE[:1], 40, axis=0))
    almost = np.repeat(ONCE[:1], 40, axis=0)
    almost[-1, 0, 0, 0] += 0.1
    assert inputs_said(almost) == ""


def test_dead_channels() -> None:
    alive = np.maximum(RNG.uniform(-1, 1, size=(40, 4, 5, 5)), 0)
    assert findings(observed(alive)) == ()
    alive[:, 2] = 0
    assert "always zero on the calibration data: 1 of 4 of t" in findings(observed(alive))[0]
    alive[7, 2, 1, 1] = 0.3  # seen once: not dead
    assert findings(observed(alive)) == ()


def test_too_few_samples() -> None:
    few = np.concatenate([RNG.normal(size=(1, 4, 5, 5)), 2 * RNG.normal(size=(1, 4, 5, 5))])
    said = " ".join(findings(observed(few)))
    assert "scales from two halves of the 2 samples are" in said
    assert "--samples" in said
    assert findings(observed(RNG.uniform(-1, 1, size=(200, 4, 5, 5)))) == ()


def test_halves_are_alternate_samples_of_one_batch_and_of_many() -> None:
    spans = np.where(np.arange(8) % 2, 1.0, 4.0)
    values = spans.reshape(-1, 1, 1, 1) * np.ones((8, 2, 3, 3)) * np.array([1.0, -1.0]).reshape(1, 2, 1, 1)
    assert observed(values).halves == pytest.approx(0.75)
    assert observed(*values[:, None]).halves == pytest.approx(0.75)
    assert observed(values[:1]).halves is None


@pytest.mark.parametrize(("labels", "said"), [([0, 1, 2, 0], ""), ([0, 0, 2, 2], "1 of 3 classes (dog)"), (None, "")])
def test_classes_without_a_sample(labels: list[int] | None, said: str) -> None:
    arrays: Mapping[str, Array] = {"x": np.zeros((4, 1))}
    data = Dataset("d", "train", "array", arrays, None if labels is None else np.array(labels), ("cat", "dog", "owl"))
    assert said in " ".join(missing_classes(data))
    assert bool(missing_classes(data)) == bool(said)


@pytest.mark.parametrize("format_", [Format.ONNX, Format.TFLITE])
def test_a_file_is_examined_while_it_is_calibrated(
    files: Mapping[Format, Artifact], digit_feeds: list[Feed], format_: Format
) -> None:
    artifact = files[format_]
    assert artifact.card is not None
    with load(artifact.path) as runner:
        signature = runner.signature
    fine = calibrate(artifact.path, digit_feeds, signature, format=format_)
    assert not [note for note in fine.notes if "input" in note]
    rule = artifact.card.contract["image"]
    twice = [{"image": ((f["image"] - rule.mean[0]) / rule.std[0]).astype(np.float32)} for f in digit_feeds]
    assert "normalised twice" in " ".join(calibrate(artifact.path, twice, signature, format=format_).notes)
    one = calibrate(artifact.path, digit_feeds[:1], signature, format=format_)
    assert any("single sample" in note for note in one.notes)
    with pytest.raises(DataError, match="empty"):
        calibrate(artifact.path, [], signature, format=format_)
