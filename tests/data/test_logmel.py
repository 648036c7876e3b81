"""Log-mel features against a table made by hand, against scipy, and against triangles drawn another way."""

import dataclasses

import numpy as np
import pytest
import scipy.signal

from edgekit.data.logmel import LogMel, from_params, hann, hz_to_mel, log_mel, mel_filters, mel_to_hz, power, speech
from edgekit.errors import DataError

TINY = LogMel(rate=8000, window=4, hop=2, n_fft=4, bands=1, fmin=0.0, fmax=4000.0, floor=1e-3)


def test_a_table_by_hand():
    """Frames (a, b, c, d) under Hann (0, 1/2, 1, 1/2): X(2 kHz) = -c - j (b - d) / 2, so P = c^2 + (b - d)^2 / 4.

    One band, corners 0 and 4 kHz. Its peak is at 700 (sqrt(47/7) - 1) = 1113.836 Hz, half way in mel, so 2 kHz has the
    weight (4000 - 2000) / (4000 - 1113.836) = 0.692961, ln = -0.366781; 0 Hz and 4 kHz have none.
    """
    signal = np.array([1, 2, 4, 0, 2, -4, 0, 0], np.float32)
    weight = 0.692961
    table = [
        (1, 2, 4, 0, 16 + 1),  # samples 0 to 3
        (4, 0, 2, -4, 4 + 4),  # samples 2 to 5
        (2, -4, 0, 0, 0 + 4),  # samples 4 to 7
    ]
    assert [tuple(signal[k : k + 4]) for k in (0, 2, 4)] == [row[:4] for row in table]
    np.testing.assert_allclose(power(signal, TINY)[:, 1], [row[4] for row in table], rtol=1e-12)  # float64 all through
    np.testing.assert_allclose(mel_filters(TINY), [[0, weight, 0]], atol=1e-6)  # six digits by hand
    expected = np.array([[2.833213], [2.079442], [1.386294]]) - 0.366781  # ln 17, ln 8, ln 4, and ln of the weight
    np.testing.assert_allclose(log_mel(signal, TINY), expected, atol=2e-6)  # six digits by hand


def test_silence_is_the_floor_and_a_short_signal_has_no_frame():
    np.testing.assert_allclose(log_mel(np.zeros(8), TINY), np.log(1e-3), rtol=1e-6)  # float32
    assert log_mel(np.zeros(3), TINY).shape == (0, 1)
    assert [TINY.frames(n) for n in (0, 3, 4, 5, 6, 8)] == [0, 0, 1, 1, 2, 3]
    assert TINY.samples(3) == 8


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_power_is_scipys_short_time_transform(rate):
    features = speech(rate)
    signal = np.random.default_rng(0).standard_normal(rate)
    window = scipy.signal.get_window("hann", features.window)  # periodic
    np.testing.assert_allclose(hann(features.window), window, atol=1e-15)
    _, _, spectra = scipy.signal.spectrogram(
        signal, rate, window, noverlap=features.window - features.hop, nfft=features.n_fft, detrend=False,
        scaling="spectrum", mode="complex",
    )  # fmt: skip
    expected = np.abs(spectra.T * window.sum()) ** 2  # scipy divides by the window's sum
    # both are float64 transforms of one length; 1e-9 of the largest is far above their rounding
    np.testing.assert_allclose(power(signal, features), expected, atol=1e-9 * expected.max())


def test_the_mel_scale_is_htks():
    assert float(hz_to_mel(1000.0)) == pytest.approx(1000.0, abs=0.05)  # the scale's anchor, 999.99
    np.testing.assert_allclose(hz_to_mel([0, 700, 6300]), [0, 2595 * np.log10(2), 2595], rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel([20.0, 440.0, 8000.0])), [20.0, 440.0, 8000.0], rtol=1e-12)


def test_filters_are_triangles_through_three_corners():
    features = speech(16000)
    corners = mel_to_hz(np.linspace(hz_to_mel(20.0), hz_to_mel(8000.0), 42))
    bins = np.arange(257) * 16000 / 512
    drawn = np.stack([np.interp(bins, corners[k : k + 3], [0, 1, 0], 0, 0) for k in range(40)])
    np.testing.assert_allclose(mel_filters(features), drawn, atol=1e-12)


def test_a_tone_is_loudest_in_its_band():
    features = speech(16000)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    corners = mel_to_hz(np.linspace(hz_to_mel(20.0), hz_to_mel(8000.0), 42))
    loudest = log_mel(tone, features).argmax(1)
    assert set(loudest) == {int(np.abs(corners[1:-1] - 1000).argmin())}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 512}, "window at most n_fft"),
        ({"hop": 0}, "1 or more"),
        ({"fmax": 5000.0}, "rate / 2"),
        ({"fmin": 4000.0}, "fmin < fmax"),
        ({"floor": 0.0}, "floor > 0"),
        ({"bands": 200}, "holds no frequency"),
    ],
)
def test_numbers_that_make_no_features(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(speech(8000), **change)
    with pytest.raises(DataError, match=words):
        from_params({**speech(8000).params(), **change})


def test_a_contract_that_lacks_a_number():
    params = speech(8000).params()
    assert from_params({**params, "frames": 3}) == speech(8000)
    del params["hop"]
    with pytest.raises(DataError, match="lacks 'hop'"):
        from_params(params)
