"""Another sampling rate: a Kaiser-windowed sinc, evaluated only where it is needed (polyphase), in numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgekit.limits import check
from edgekit.types import Array

CROSSINGS = 10
"""Zero crossings of the sinc on each side."""
BETA = 5.0
"""Of the Kaiser window: about 55 dB of attenuation (Kaiser 1974). The numbers of scipy.signal.resample_poly."""
FINEST = 8000
"""The filter has 20 taps for each; rates that are in use need a few hundred (441 from 44,100 to 16,000 Hz)."""
_BLOCK = 1 << 20
"""Products held at once, so that memory stays a few tens of MB whatever the length."""


def resample(waveform: Array, rate: int, wanted: int) -> Array:
    """A waveform (samples,) at ``rate`` as float32 at ``wanted``, ceil(samples * wanted / rate) long.

    Low-pass at half the lower of the two rates; zeros are assumed before and after. Where their ratio takes larger
    numbers than :data:`FINEST`, the nearest ratio of such numbers is taken, off by less than one part in 10,000.

    Raises:
        ValueError: a rate below 1.
        LimitError: the result is longer than a recording may be.
    """
    if min(rate, wanted) < 1:
        raise ValueError(f"sampling rates must be 1 or more, got {rate} and {wanted}")
    if rate == wanted or waveform.size == 0:
        return waveform.astype(np.float32)
    count = -(-waveform.size * wanted // rate)
    check("AUDIO_SAMPLES", count, f"{waveform.size:,} samples at {rate:,} Hz, brought to {wanted:,} Hz")
    up, down = _ratio(rate, wanted)
    table, half = _phases(up, down)
    taps = table.shape[1]
    places = np.arange(count, dtype=np.int64) * down + half  # on the grid of rate * up
    newest, phase = places // up, places % up
    padded = np.zeros(taps + max(int(newest[-1]) + 1, waveform.size), np.float64)
    padded[taps : taps + waveform.size] = waveform
    offsets = taps - np.arange(taps)
    result = np.empty(count, np.float32)
    step = max(1, _BLOCK // taps)
    for start in range(0, count, step):
        part = slice(start, start + step)
        result[part] = np.einsum("nk,nk->n", padded[newest[part, None] + offsets], table[phase[part]])
    return result


def _ratio(rate: int, wanted: int) -> tuple[int, int]:
    """Numbers up to :data:`FINEST` whose ratio is, or is nearest to, that of ``wanted`` to ``rate``."""
    larger = Fraction(max(rate, wanted), min(rate, wanted))
    if larger.numerator > FINEST:
        larger = 1 / (1 / larger).limit_denominator(FINEST)
    return (larger.denominator, larger.numerator) if rate > wanted else (larger.numerator, larger.denominator)


def _phases(up: int, down: int) -> tuple[Array, int]:
    """The filter cut into its ``up`` phases, (up, taps), and the place of its centre."""
    widest = max(up, down)
    half = CROSSINGS * widest
    filter_ = np.sinc(np.arange(-half, half + 1) / widest) * np.kaiser(2 * half + 1, BETA)
    filter_ *= up / filter_.sum()
    taps = -(-filter_.size // up)
    padded = np.zeros(taps * up)
    padded[: filter_.size] = filter_
    return np.asarray(padded.reshape(taps, up).T, order="C"), half
