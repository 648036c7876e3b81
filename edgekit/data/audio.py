"""The ``audio`` kind: recordings become normalised log-mel features of a fixed number of frames; and ``audio:DIR``.

A raw sample is a :class:`~edgekit.data.wav.Waveform`, which knows its rate; a bare float array is taken to have the
contract's. The contract (``InputSpec.params``) holds the features (:class:`~edgekit.data.logmel.LogMel`) and

- ``frames``: of the input tensor (1, frames, bands);
- ``level``: ``running``, every frame is measured against the loudest sample so far
  (:func:`~edgekit.data.logmel.running_level`), ``least`` at the least; ``peak``, what is taken of a recording is made
  as loud as it can be (largest sample 1), for which it has to be over; or ``as is``;
- ``pad``: ``front``, a shorter recording ends the window and silence goes before it, or ``back``.

Of a longer recording the first stretch that holds nearly all the energy of the loudest one is taken. Mean and standard
deviation are those of each band.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.folders import Folders
from edgekit.data.kind import DataKind, affine
from edgekit.data.logmel import LogMel, from_params, log_mel, speech
from edgekit.data.resample import resample
from edgekit.data.wav import Waveform, read_wav
from edgekit.errors import DataError
from edgekit.types import Array, InputSpec

log = logging.getLogger("edgekit")
SUFFIXES = (".wav", ".wave")
MEASURED = 1000
"""Recordings a contract is measured on: 1,000 pin a band's mean to a few hundredths of its deviation."""
MOST_FRAMES = 640
"""About ten seconds: a recurrent network learns little from longer sequences."""
LEVELS = ("running", "peak", "as is")
LEAST = 0.1
"""Smallest running level, 20 dB below the loudest sample there can be: noise before the first word stays noise."""
_KEPT_ENERGY = 0.98
_REMARKED = 32
"""Recordings of a data set that are looked at for what there is to say about them."""


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """N recordings -> float32 (N, frames, bands).

    Raises:
        DataError: a recording without samples, samples that are not a waveform, or a contract that lacks a number.
    """
    features, frames, least = from_params(contract.params), _frames(contract), running_least(contract)
    peak, back = contract.params.get("level") == "peak", contract.params.get("pad") == "back"
    batch = np.stack([log_mel(fitted(sample, features, frames, peak, back), features, least) for sample in raw])
    factor, offset = affine(contract, features.bands)
    return np.asarray(batch * factor + offset)


def fitted(sample: Any, features: LogMel, frames: int, peak: bool = False, back: bool = False) -> Array:
    """One recording at the features' rate, exactly as long as ``frames`` frames; float32 (samples,)."""
    wave = as_waveform(sample, features.rate)
    length = features.samples(frames)
    part = loudest(wave.samples, math.ceil(length * wave.rate / features.rate))
    part = resample(part, wave.rate, features.rate)[:length]
    part = loud(part) if peak else part
    silence = np.zeros(length - part.size, np.float32)
    return np.concatenate([part, silence] if back else [silence, part])


def loudest(samples: Array, length: int) -> Array:
    """At most ``length`` samples: the first stretch with 98% of the energy of the loudest, so that a word ends it."""
    if samples.size <= length:
        return samples
    energy = np.zeros(samples.size + 1)
    np.cumsum(np.square(samples, dtype=np.float64), out=energy[1:])
    stretches = energy[length:] - energy[:-length]
    start = int(np.argmax(stretches >= _KEPT_ENERGY * stretches.max()))
    return samples[start : start + length]


def loud(samples: Array) -> Array:
    """The same sound with 1 as its largest sample; silence stays silence."""
    top = np.abs(samples).max(initial=0.0)
    return samples / top if top > 0 else samples


def as_waveform(sample: Any, rate: int) -> Waveform:
    """A raw sample with its rate; a bare array has ``rate``.

    Raises:
        DataError: no samples, integers, or more than one axis.
    """
    if isinstance(sample, Waveform):
        return sample
    array = np.asarray(sample)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise DataError(
            f"a recording is one axis of float samples in -1..1, got {array.dtype} of shape {array.shape}; average the "
            "channels, and divide integers by their largest value"
        )
    if array.size == 0:
        raise DataError("the recording holds no sound (0 samples); record it again")
    return Waveform(array.astype(np.float32), rate)


def live(contract: InputSpec) -> InputSpec:
    """The contract with a level that is known while the sound goes on: ``running`` in the place of ``peak``."""
    if contract.kind != "audio" or contract.params.get("level") != "peak":
        return contract
    return replace(contract, params={**contract.params, "level": "running", "least": LEAST})


def running_least(contract: InputSpec) -> float | None:
    """The smallest running level; None for another rule.

    Raises:
        DataError: an unknown rule, or no such number.
    """
    level, least = contract.params.get("level", LEVELS[-1]), contract.params.get("least")
    if level not in LEVELS:
        raise DataError(
            f"the model's audio spec has the level {str(level)[:60]!r}; one of {', '.join(LEVELS)} was expected"
        )
    if level != "running":
        return None
    if not isinstance(least, int | float) or not 0 < least <= 1:
        raise DataError(
            f"the model's audio spec has a running level of at least {least!r}; a number in 0..1 was expected"
        )
    return float(least)


def _frames(contract: InputSpec) -> int:
    frames = contract.params.get("frames")
    if not isinstance(frames, int) or frames < 1:
        raise DataError(f"the model's audio spec has {frames!r} frames; 1 or more were expected")
    return frames


def remarks(raw: Sequence[Array] | Array, contract: InputSpec) -> tuple[str, ...]:
    """What the user should know: channels that are mixed, another rate, a recording that is cut, silence.

    Of a data set, the first recordings are looked at.
    """
    features, frames = from_params(contract.params), _frames(contract)
    limit = features.samples(frames) / features.rate
    single = len(raw) == 1
    said: dict[str, None] = {}
    for k in range(min(len(raw), _REMARKED)):
        wave = as_waveform(raw[k], features.rate)
        name = wave.origin if single and wave.origin else "the recording" if single else "recordings"
        seconds = wave.samples.size / wave.rate
        if wave.channels > 1:
            said[f"{name}: {wave.channels} channels, mixed down to one"] = None
        if wave.rate != features.rate:
            said[f"{name}: {wave.rate:,} Hz, resampled to the {features.rate:,} Hz the model takes"] = None
        if single and seconds > limit:
            said[f"{name}: {seconds:.2f} s, the model takes {limit:.2f}: its loudest part is taken"] = None
        if single and not wave.samples.any():
            said[f"{name}: nothing but silence; the answer means nothing"] = None
    return tuple(said)


def measure(data: Dataset, size: tuple[int, int] | None = None) -> InputSpec:
    """The spec that training samples imply: the commonest rate, features for speech, their mean and deviation.

    Args:
        data: recordings; at most :data:`MEASURED` of them are looked at.
        size: frames and bands where the network says; otherwise 40 bands, and as many frames as 99% of the recordings
            need, up to the next multiple of 16 and at most :data:`MOST_FRAMES`.

    Raises:
        DataError: a recording cannot be read, all are too short, or their rate is too low.
    """
    given = data.arrays["audio"]
    step = -(-len(given) // MEASURED)
    known = int(data.params.get("rate", 0))
    waves = [as_waveform(given[k], known) for k in range(0, len(given), step)]
    if any(wave.rate < 1 for wave in waves):
        raise DataError(f"{data.label} holds arrays without a sampling rate; give it in the data set's params['rate']")
    rates = Counter(wave.rate for wave in waves)
    rate = rates.most_common(1)[0][0]
    if len(rates) > 1:
        found = ", ".join(f"{other:,} Hz" for other in sorted(rates) if other != rate)
        log.info("%s has recordings of %s; they are resampled to %s Hz", data.label, found, f"{rate:,}")
    try:
        features = speech(rate)
        features = features if size is None else replace(features, bands=size[1])
    except ValueError as error:
        raise DataError(f"{data.label} has {rate:,} Hz, too low for features of speech: {error}") from error
    seconds = np.array([wave.samples.size / wave.rate for wave in waves])
    longest = features.frames(int(np.percentile(seconds, 99) * rate))
    frames = size[0] if size else min(max(16, -(-longest // 16) * 16), MOST_FRAMES)
    frames_of = [log_mel(resample(wave.samples, wave.rate, rate), features, LEAST) for wave in waves]
    rows = np.concatenate(frames_of).astype(np.float64)
    if len(rows) < 2:
        raise DataError(f"{data.label}: no recording is as long as one frame of {features.window / rate:.3f} s")
    std = rows.std(0)
    mean, deviation = _rounded(rows.mean(0)), _rounded(np.where(std > 1e-6, std, 1.0))
    params = {**features.params(), "mel": "htk", "frames": frames, "level": "running", "least": LEAST, "pad": "front"}
    return InputSpec("audio", mean=mean, std=deviation, params=params)


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{v:.6g}") for v in values)


def read(given: str) -> Any:
    """One WAV file as a :class:`~edgekit.data.wav.Waveform`."""
    return read_wav(Path(given))


FOLDERS = Folders("audio", "audio", SUFFIXES, read_wav, "recording")


def open_audio(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``audio:DIR``: see :meth:`edgekit.data.folders.Folders.open`."""
    return FOLDERS.open(name, argument, split, default_split)


KIND = DataKind(encode, read, SUFFIXES, remarks=remarks)
