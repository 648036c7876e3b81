"""Log-mel features in numpy: frames, Hann window, power spectrum, mel bands, logarithm. No more, so that any board can.

A feature is ``ln(max(P @ triangle, floor))``, where ``P`` is the squared magnitude of the frame's discrete Fourier
transform, unscaled, and the triangles have their peak at 1 and their corners equally spaced on the HTK mel scale,
``mel = 2595 log10(1 + f / 700)`` (Young et al., The HTK Book, 5.4). Frame t begins at sample ``t * hop``; nothing is
padded or centred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from edgekit.data.wav import RATES
from edgekit.errors import DataError
from edgekit.types import Array


@dataclass(frozen=True, slots=True)
class LogMel:
    """How a waveform becomes features; all of it stands in ``InputSpec.params`` under the same names.

    Attributes:
        rate: samples a second of the waveform.
        window: samples of a frame, weighted by a periodic Hann window.
        hop: samples from one frame to the next.
        n_fft: length of the transform; the frame is followed by zeros up to it.
        bands: mel bands.
        fmin, fmax: lowest and highest corner of the bands, Hz.
        floor: smallest power, below which everything is silence.

    Raises:
        ValueError: numbers that make no features (a window longer than the transform, a band without a bin).
    """

    rate: int
    window: int
    hop: int
    n_fft: int
    bands: int
    fmin: float
    fmax: float
    floor: float

    def __post_init__(self) -> None:
        if min(self.rate, self.window, self.hop, self.bands) < 1 or not self.window <= self.n_fft:
            raise ValueError(f"rate, window, hop and bands must be 1 or more, and window at most n_fft: {self}")
        if self.rate > RATES[1]:
            raise ValueError(f"the rate is {self.rate:,} Hz; at most {RATES[1]:,} Hz is supported")
        if not 0 <= self.fmin < self.fmax <= self.rate / 2 or not self.floor > 0:
            raise ValueError(f"0 <= fmin < fmax <= rate / 2 and floor > 0 are wanted: {self}")
        empty = np.flatnonzero(mel_filters(self).sum(1) == 0)
        if empty.size:
            raise ValueError(
                f"mel band {empty[0]} holds no frequency of the transform; use fewer bands or a longer n_fft"
            )

    def samples(self, frames: int) -> int:
        """Length of the waveform that gives ``frames`` frames."""
        return self.window + (frames - 1) * self.hop

    def frames(self, samples: int) -> int:
        """Frames of a waveform of ``samples``, those that lie in it whole."""
        return max(0, 1 + (samples - self.window) // self.hop)

    def params(self) -> dict[str, Any]:
        """As they stand in a contract."""
        return asdict(self)


def speech(rate: int) -> LogMel:
    """The usual numbers for speech at ``rate``: 25 ms frames every 16 ms, 40 bands from 20 Hz to 8 kHz at most."""
    window = round(0.025 * rate)
    n_fft = 1 << max(window - 1, 1).bit_length()
    return LogMel(rate, window, round(0.016 * rate), n_fft, 40, 20.0, min(rate / 2, 8000.0), 1e-6)


def from_params(params: Mapping[str, Any]) -> LogMel:
    """The features a contract asks for.

    Raises:
        DataError: a number is missing or out of range.
    """
    names = LogMel.__dataclass_fields__
    try:
        rate, window, hop, n_fft, bands = (int(params[n]) for n in ("rate", "window", "hop", "n_fft", "bands"))
        fmin, fmax, floor = (float(params[n]) for n in ("fmin", "fmax", "floor"))
        return LogMel(rate, window, hop, n_fft, bands, fmin, fmax, floor)
    except KeyError as error:
        raise DataError(
            f"the model's audio spec lacks {error.args[0]!r}; it needs {', '.join(names)} and frames"
        ) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the model's audio spec is not valid: {error}") from error


def hz_to_mel(hz: Array | float) -> Array:
    """HTK: 2595 log10(1 + f / 700); 1000 Hz is 1000 mel."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0))


def mel_to_hz(mel: Array | float) -> Array:
    """Inverse of :func:`hz_to_mel`."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel, np.float64) / 2595.0) - 1.0))


@lru_cache(maxsize=8)
def mel_filters(features: LogMel) -> Array:
    """Triangles over the frequencies of the transform, float64 (bands, n_fft // 2 + 1), each at most 1."""
    corners = mel_to_hz(np.linspace(hz_to_mel(features.fmin), hz_to_mel(features.fmax), features.bands + 2))
    bins = np.arange(features.n_fft // 2 + 1) * (features.rate / features.n_fft)
    low, peak, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    filters: Array = np.maximum(0.0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    filters.flags.writeable = False  # shared by all callers
    return filters


def hann(window: int) -> Array:
    """Periodic Hann window: 0.5 - 0.5 cos(2 pi n / window)."""
    return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window))


def running_level(waveform: Array, features: LogMel, least: float) -> Array:
    """The level of every frame, float64 (frames,): the largest magnitude of all samples up to the frame's last one, and
    at least ``least``. It needs no sample that is still to come, so that it can be kept while somebody speaks."""
    last = np.arange(features.frames(waveform.shape[-1])) * features.hop + features.window - 1
    return np.asarray(np.maximum(np.maximum.accumulate(np.abs(np.asarray(waveform, np.float64)))[last], least))


def power(waveform: Array, features: LogMel) -> Array:
    """Squared magnitudes of every frame, float64 (frames, n_fft // 2 + 1)."""
    count = features.frames(waveform.shape[-1])
    if count == 0:
        return np.zeros((0, features.n_fft // 2 + 1))
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(waveform, np.float64), features.window)
    spectrum = np.fft.rfft(frames[:: features.hop][:count] * hann(features.window), features.n_fft)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def log_mel(waveform: Array, features: LogMel, least: float | None = None) -> Array:
    """A waveform (samples,) in -1..1 -> float32 (frames, bands), natural logarithm.

    ``least``: the powers of each frame are divided by the square of the level so far (:func:`running_level`).
    """
    bands = power(waveform, features) @ mel_filters(features).T
    if least is not None:
        bands = bands / np.square(running_level(waveform, features, least))[:, None]
    return np.asarray(np.log(np.maximum(bands, features.floor)), np.float32)
