"""Figures of fidelity against tables computed by hand, and the floor that trips on each of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgekit.quality.fidelity import MOST_DB, FidelityMeter, Floor, OutputFidelity, channel_axis, decibels
from edgekit.results.base import to_json
from edgekit.types import Array


def _figures(wanted: Array, found: Array, *, channels_last: bool = False) -> OutputFidelity:
    """Of one output, the first axis taken sample by sample."""
    meter = FidelityMeter(channels_last)
    for a, b in zip(wanted, found, strict=True):
        meter.add({"y": a[None]}, {"y": b[None]})
    (one,) = meter.result().outputs
    return one


def test_a_table_by_hand() -> None:
    """Two columns, eight rows: signal 8 · (9 + 16) = 200, differences 8 · (0.09 + 0.16) = 2: 20 dB, in each, too."""
    wanted = np.tile(np.array([[3.0, -4.0], [-3.0, 4.0]], np.float32), (4, 1))
    found = wanted * np.float32(1.1)
    one = _figures(wanted, found)
    assert one.snr_db == pytest.approx(20.0, abs=1e-4)
    assert one.worst_channel_db == pytest.approx(20.0, abs=1e-4)
    assert one.cosine == pytest.approx(1.0)
    assert (one.top1_agreement, one.channels, one.dead) == (1.0, 2, ())


def test_cosine_and_agreement_by_hand() -> None:
    """(3, 4) beside (4, 3): cosine 24/25, the other column is largest; beside itself 1 and right."""
    one = _figures(np.array([[3.0, 4.0], [3.0, 4.0]]), np.array([[4.0, 3.0], [3.0, 4.0]]))
    assert one.cosine == pytest.approx((24 / 25 + 1) / 2)
    assert one.top1_agreement == 0.5
    assert one.snr_db == pytest.approx(10 * math.log10(50 / 2))
    assert one.worst_channel_db is None  # two values a column are too few


def test_a_tie_of_the_largest_agrees() -> None:
    assert _figures(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]])).top1_agreement == 1.0


def test_ends_of_the_scale() -> None:
    assert decibels(1.0, 0.0) == MOST_DB
    assert decibels(0.0, 0.0) == MOST_DB
    assert decibels(0.0, 1.0) == -MOST_DB
    assert decibels(100.0, 1.0) == 20.0


def _detector(scores: Array) -> Array:
    """(16 samples, 4 boxes + scores, 20 places)"""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 640, (16, 4, 20))
    return np.concatenate([boxes, scores], 1).astype(np.float32)


def test_scores_beside_boxes_are_seen_to_be_dead() -> None:
    scores = np.random.default_rng(1).uniform(0, 1, (16, 10, 20))
    one = _figures(_detector(scores), _detector(np.zeros_like(scores)))
    assert one.snr_db is not None and one.snr_db > 40
    assert one.dead == tuple(range(4, 14))
    assert one.worst_channel_db is not None and one.worst_channel_db <= 0
    (said,) = Floor(15).failures((one,))
    assert "10 of 14 channels are dead (4, 5, 6, 7, 8, 9, 10, 11, …)" in said
    assert "dB, the floor is" not in said


def test_a_single_score_beside_boxes_counts() -> None:
    scores = np.random.default_rng(1).uniform(0, 1, (16, 1, 20))
    assert _figures(_detector(scores), _detector(np.zeros_like(scores))).dead == (4,)


def test_a_class_that_does_not_occur_is_not_dead() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, (16, 10, 20))
    scores[:, 7] = rng.uniform(0, 1e-3, (16, 20))
    rounded = np.round(scores * 256) / 256
    one = _figures(_detector(scores), _detector(rounded))
    assert one.dead == ()
    assert one.worst_channel != 11


def test_a_quiet_channel_is_not_judged_by_its_ratio() -> None:
    """The same noise in all columns, a hundredth of the power in one of them: that one alone is below 5 dB."""
    rng = np.random.default_rng(2)
    wanted = rng.normal(size=(64, 16)) * np.where(np.arange(16) == 3, 0.1, 1)
    found = wanted + rng.normal(size=(64, 16)) * 0.1
    one = _figures(wanted, found)
    assert one.worst_channel_db is not None and one.worst_channel_db > 15
    loud = wanted.copy()
    loud[:, 5] = rng.normal(size=64)
    ruined = _figures(wanted, np.where(np.arange(16) == 5, loud, found))
    assert ruined.worst_channel == 5
    assert "channel 5 of 16 has" in Floor(10).failures((ruined,))[0]


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_of_a_softmax_over_many_classes_those_that_occur_are_judged() -> None:
    """200 classes of which 8 occur: rounding to 1/256 leaves nothing of the others, and that is not a fault."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(64, 200)) + 12 * (np.arange(200) == rng.integers(0, 8, (64, 1)))
    wanted = _softmax(logits)
    one = _figures(wanted, np.round(wanted * 256) / 256)
    assert one.dead == () and one.worst_channel is not None and one.worst_channel < 8
    assert Floor(15).failures((one,)) == ()
    silent = np.where(np.arange(200) == 3, 0, wanted)
    assert _figures(wanted, silent).dead == (3,)


def test_the_floor_of_an_output() -> None:
    wanted = np.random.default_rng(3).normal(size=(16, 8))
    one = _figures(wanted, wanted * 0.8)  # 10 log10(1 / 0.04) = 13.98 dB
    assert Floor(13.9).failures((one,)) == ()
    assert Floor(14).failures((one,)) == ("output 'y': has 14.0 dB, the floor is 14 dB",)
    assert (Floor(15).output_db, Floor(15).channel_db) == (15, 5)


@pytest.mark.parametrize(
    ("shape", "last", "axis"),
    [
        ((1, 10), False, 1),
        ((1,), False, None),
        ((1, 3, 32, 32), False, 1),
        ((1, 32, 32, 3), False, 3),
        ((1, 84, 8400), False, 1),
        ((1, 8400, 85), False, 2),
        ((1, 8, 8, 8), False, 1),
        ((1, 8, 8, 8), True, 3),
        ((12, 1, 5), False, 2),
        ((1, 1, 1), False, None),
    ],
)
def test_channel_axis(shape: tuple[int, ...], last: bool, axis: int | None) -> None:
    assert channel_axis(shape, last) == axis


def test_integers_are_compared_for_equality() -> None:
    meter = FidelityMeter()
    meter.add({"class": np.array([3, 4])}, {"class": np.array([3, 200])})
    (one,) = meter.result().outputs
    assert (one.snr_db, one.top1_agreement) == (None, 0.5)
    assert Floor(15).failures((one,)) == ()


def test_another_number_of_detections_counts_as_nothing_found() -> None:
    meter = FidelityMeter()
    meter.add({"boxes": np.ones((3, 4))}, {"boxes": np.ones((2, 4))})
    meter.add({"boxes": np.ones((5, 4))}, {"boxes": np.ones((5, 4))})
    (one,) = meter.result().outputs
    assert one.snr_db == pytest.approx(10 * math.log10(32 / 12))


def test_a_free_size_has_no_channels() -> None:
    meter = FidelityMeter()
    for length in (5, 7):
        meter.add({"y": np.ones((1, length))}, {"y": np.ones((1, length))})
    (one,) = meter.result().outputs
    assert (one.channels, one.snr_db) == (0, MOST_DB)


def test_document() -> None:
    meter = FidelityMeter()
    meter.add({"y": np.array([[1.0, 2.0]])}, {"y": np.array([[1.0, 2.5]])})
    document = json.loads(json.dumps(to_json(meter.result("a sample").figures())))
    assert document["samples"] == 1
    (row,) = document["outputs"]
    assert row["dead_channels"] == 0
    assert row["snr_db"] == pytest.approx(10 * math.log10(5 / 0.25), abs=0.01)
    assert {"name", "snr_db", "cosine", "top1_agreement", "worst_channel_db", "dead_channels"} <= row.keys()
