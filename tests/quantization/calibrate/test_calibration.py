"""Streamed ranges: exact where they must be, of fixed size, and refusing what would give wrong ones."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DataError, LimitError, ModelError, UsageError
from edgekit.quantization.calibrate.calibration import Calibration, checked_feeds, gather
from edgekit.quantization.calibrate.fingerprint import Probes
from edgekit.quantization.calibrate.histogram import BINS, METHODS, Observer, Range
from edgekit.types import Array, Signature, TensorSpec

RNG = np.random.default_rng(0)
SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 3)),), ())


def observed(*batches: Array) -> Observer:
    observer = Observer(channel_axis=1)
    for batch in batches:
        observer.update("t", batch)
    return observer


def squared_error(values: Array, found: Range) -> float:
    """Direct 8-bit quantization of the values themselves, no histogram."""
    scale = (found.high - found.low) / 255
    zero = round(-found.low / scale)
    levels = np.clip(np.round(values / scale) + zero, 0, 255)
    return float((((levels - zero) * scale - values) ** 2).mean())


def test_histogram_grows_without_losing_values() -> None:
    batches = [RNG.normal(size=(4, 100)).astype(np.float32) * scale for scale in (0.1, 1, 50, 3)]
    observer = observed(*batches)
    values = np.concatenate([b.ravel() for b in batches])
    assert observer.counts.shape == (BINS,)
    assert observer.counts.sum() == values.size
    assert (observer.low, observer.high) == (values.min(), values.max())
    wanted, _ = np.histogram(values, BINS, (-observer.limit, observer.limit))
    # A merged bin holds exactly the values of its two halves; only values on an edge, by rounding, may move by one bin.
    assert np.abs(np.cumsum(wanted) - np.cumsum(observer.counts)).max() <= 2


def test_zeros_first_then_values() -> None:
    observer = observed(np.zeros((2, 8), np.float32), np.full((2, 8), 3.0, np.float32))
    assert observer.counts.sum() == 32
    assert observer.range("mse").high == pytest.approx(3.0, rel=1 / 255)


def test_batches_of_any_size_give_the_same_statistics() -> None:
    values = RNG.normal(size=(64, 5)).astype(np.float32)
    whole, parts = observed(values), observed(*np.split(values, 16))
    assert (whole.low, whole.high) == (parts.low, parts.high)
    assert whole.mean == pytest.approx(parts.mean, abs=1e-6)  # sums of float64 in another order


def test_minmax_is_exact_and_holds_zero() -> None:
    found = observed(np.array([[2.0, 5.0]], np.float32)).range("minmax")
    assert found == Range(0.0, 5.0)


def test_percentile_cuts_what_numpy_would() -> None:
    values = RNG.normal(size=(1, 1_000_000)).astype(np.float32)
    found = observed(values).range("percentile")
    low, high = np.percentile(values, [0.0005, 99.9995])
    bins = 2 * 8 / BINS  # the histogram spans at most -8..8, so an edge is at most two bins off
    assert found.low == pytest.approx(low, abs=2 * bins)
    assert found.high == pytest.approx(high, abs=2 * bins)


@pytest.mark.parametrize("method", ["mse", "entropy", "percentile"])
def test_an_outlier_does_not_cost_the_rest_its_levels(method: str) -> None:
    values = np.append(RNG.normal(size=200_000), 60.0).astype(np.float32)[None]
    observer = observed(values)
    narrow, wide = observer.range(method), observer.range("minmax")
    assert wide.high == 60.0
    assert narrow.high < 50
    body = values[:, :-1]
    assert squared_error(body, narrow) < squared_error(body, wide)


def test_mse_is_not_worse_than_minmax_on_all_values() -> None:
    values = RNG.standard_t(3, size=(1, 50_000)).astype(np.float32)
    observer = observed(values)
    assert squared_error(values, observer.range("mse")) <= squared_error(values, observer.range("minmax"))


@pytest.mark.parametrize("method", METHODS)
def test_ranges_never_exceed_what_was_seen(method: str) -> None:
    relu = np.maximum(RNG.normal(size=(8, 500)), 0).astype(np.float32)
    found = observed(relu).range(method)
    assert found.low == 0.0
    assert 0 < found.high <= relu.max()


def test_nan_in_the_model_is_named() -> None:
    with pytest.raises(ModelError, match=r"'t'.*NaN"):
        observed(np.array([[np.nan, -np.inf]], np.float32))


@pytest.mark.parametrize("mask", [-np.inf, np.finfo(np.float32).min, -1e9])
@pytest.mark.parametrize("method", METHODS)
def test_what_masks_is_not_a_part_of_a_range(method: str, mask: float) -> None:
    values = RNG.normal(size=(4, 16)).astype(np.float32)
    found = observed(np.where(RNG.random(values.shape) < 0.5, values, np.float32(mask))).range(method)
    assert found.unbounded
    assert -5 < found.low < found.high < 5
    assert not observed(values).range(method).unbounded


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ({"y": np.zeros((1, 3), np.float32)}, "wants an input 'x'"),
        ({"x": np.zeros((1, 4), np.float32)}, r"\(1, 4\), the model wants \('batch', 3\)"),
        ({"x": np.zeros(3, np.float32)}, "the model wants"),
        ({"x": np.full((1, 3), np.nan, np.float32)}, "NaN or infinity"),
    ],
)
def test_bad_samples_are_refused(feed: dict[str, Array], said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(checked_feeds([feed], SIGNATURE))


def test_no_samples_and_one_sample() -> None:
    with pytest.raises(DataError, match="empty"):
        gather([], method="minmax", data="d", channel_axis=1)
    one = gather([(1, {"t": np.ones((1, 2), np.float32)})], method="minmax", data="d", channel_axis=1)
    assert "single sample" in one.notes[0]
    dead = gather([(2, {"t": np.zeros((2, 2), np.float32)})], method="minmax", data="d", channel_axis=1)
    assert "always zero" in dead.notes[0]


def test_unknown_method() -> None:
    with pytest.raises(UsageError, match="minmax, percentile, entropy, mse"):
        gather([], method="average", data="d", channel_axis=1)


def test_saved_and_loaded(tmp_path: Path) -> None:
    made = gather(
        [(4, {"t": RNG.normal(size=(4, 3)).astype(np.float32)})], method="mse", data="d@train", channel_axis=1
    )
    made.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == made


@pytest.mark.parametrize(
    "damage", ["not json", "{}", '{"schema": "edgekit.calibration/9"}', "[]", '{"schema": 5}', "[" * 5000, "1" * 5000]
)
def test_no_calibration_file(tmp_path: Path, damage: str) -> None:
    (tmp_path / "c.json").write_text(damage)
    with pytest.raises(DataError, match=r"c\.json .*; edgekit quantize with --save-calibration FILE\.json writes one"):
        Calibration.load(tmp_path / "c.json")
    with pytest.raises(DataError):
        Calibration.load(tmp_path / "missing.json")


def test_a_range_without_zero_is_refused(tmp_path: Path) -> None:
    made = gather([(2, {"t": np.ones((2, 2), np.float32)})], method="minmax", data="d", channel_axis=1)
    made.save(tmp_path / "c.json")
    document = json.loads((tmp_path / "c.json").read_text())
    document["ranges"]["t"]["low"] = 0.5
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="hold zero"):
        Calibration.load(tmp_path / "c.json")


def _whole() -> dict[str, Any]:
    made = gather([(2, {"t": np.ones((2, 2), np.float32)})], method="minmax", data="d", channel_axis=1)
    probes = Probes(({"x": np.arange(6, dtype=np.float32).reshape(2, 3)},), {"x": "NCHW"}, {"t": ((1.0,) * 6,)})
    document: dict[str, Any] = json.loads(json.dumps(replace(made, probes=probes).document()))
    return document


@pytest.mark.parametrize(("place", "value", "words"), [
    (("ranges", "t", "low"), -1e300, "hold zero"),
    (("ranges", "t"), {"low": 0}, "has no 'high'"),
    (("ranges",), [], "a table was expected"),
    (("means", "t"), ["x"], "a finite number"),
    (("samples",), 10**30, "a whole number"),
    (("probes", "feeds"), [], "wanted for every probe"),
    (("probes", "feeds", 0, "x", "dtype"), "object", "an input of type object"),
    (("probes", "feeds", 0, "x", "shape"), [2, 4], "a probe of 32 bytes has others"),
    (("probes", "feeds", 0, "x", "shape"), [-2, -3], "shape"),
    (("probes", "feeds", 0, "x", "shape"), [10**9, 10**9], "EDGEKIT_LIMIT_INPUT_BYTES"),
    (("probes", "feeds", 0, "x", "zlib"), "eJw=", "a probe of 24 bytes has others"),
    (("probes", "feeds", 0, "x", "zlib"), "!!", "not a calibration"),
    (("probes", "feeds", 0, "x", "zlib"), "AAAA", "damaged probes"),
    (("probes", "prints", "t"), [[1, 2]], "has 2 values, 6 were expected"),
])  # fmt: skip
def test_values_that_no_calibration_has(place: tuple[Any, ...], value: Any, words: str, tmp_path: Path) -> None:
    document = _whole()
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "c.json").write_text(json.dumps(document))
    with pytest.raises((DataError, LimitError), match=words):
        Calibration.load(tmp_path / "c.json")


def test_a_probe_does_not_become_a_large_one(tmp_path: Path) -> None:
    """A megabyte of zeros behind the six numbers that the shape promises is not unpacked."""
    document = _whole()
    assert Calibration.from_document(document, "it").probes is not None
    document["probes"]["feeds"][0]["x"]["zlib"] = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
    with pytest.raises(DataError, match="a probe of 24 bytes has others"):
        Calibration.from_document(document, "it")
