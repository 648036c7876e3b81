"""Another sampling rate, against scipy's polyphase filter."""

import math

import numpy as np
import pytest
import scipy.signal

from edgekit.data import resample as module
from edgekit.data.resample import resample
from edgekit.errors import LimitError

RATES = [(16000, 8000), (44100, 8000), (8000, 16000), (48000, 8000), (22050, 16000), (8000, 44100), (11025, 8000)]


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_as_scipy(rate, wanted):
    signal = np.random.default_rng(0).standard_normal(rate // 4).astype(np.float32)
    common = math.gcd(rate, wanted)
    expected = scipy.signal.resample_poly(signal.astype(np.float64), wanted // common, rate // common)
    found = resample(signal, rate, wanted)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=5e-7)  # one rounding to float32 of values up to 4


def test_in_blocks_as_in_one(monkeypatch):
    signal = np.random.default_rng(1).standard_normal(5000)
    whole = resample(signal, 44100, 8000)
    monkeypatch.setattr(module, "_BLOCK", 1)
    np.testing.assert_array_equal(resample(signal, 44100, 8000), whole)


def test_a_tone_keeps_its_pitch_and_what_would_fold_back_is_gone():
    time = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 1000 * time), np.sin(2 * np.pi * 7000 * time)
    inner = slice(100, -100)
    kept = resample(low, 16000, 8000)[inner]
    np.testing.assert_allclose(kept, low[::2][inner], atol=5e-3)  # the filter's ripple, 53 dB below
    assert np.abs(resample(high, 16000, 8000)[inner]).max() < 5e-3  # 7 kHz would be heard at 1 kHz
    assert np.abs(high[::2][inner]).max() > 0.9  # as it is without a filter


def test_same_rate_empty_and_senseless():
    np.testing.assert_array_equal(resample(np.array([1.0, 2.0]), 8000, 8000), [1, 2])
    assert resample(np.zeros(0), 16000, 8000).size == 0
    with pytest.raises(ValueError, match="1 or more"):
        resample(np.zeros(3), 0, 8000)


@pytest.mark.parametrize(("rate", "wanted"), [(767_999, 16_000), (44_100, 767_999), (32_001, 16_000), (8_001, 8_000)])
def test_rates_of_no_simple_ratio_take_the_nearest_one(rate, wanted):
    time = np.arange(rate // 10) / rate
    found = resample(np.sin(2 * np.pi * 100 * time).astype(np.float32), rate, wanted)
    assert found.size == -(-time.size * wanted // rate)
    inside = slice(found.size // 4, -found.size // 4)  # ends are silence outside
    wave = np.sin(2 * np.pi * 100 * np.arange(found.size) / wanted)
    np.testing.assert_allclose(found[inside], wave[inside], atol=0.01)  # the filter's ripple, and a shift of 1/10,000


def test_a_recording_does_not_become_too_long():
    with pytest.raises(LimitError, match="AUDIO_SAMPLES"):
        resample(np.zeros(100_000, np.float32), 1000, 768_000)
