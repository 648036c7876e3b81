"""WAV files from the standard library: PCM of 8, 16, 24 and 32 bits and 32 or 64 bit floats, any number of channels.

The module ``wave`` reads neither floats nor (before Python 3.12) the extensible header that most 24-bit files have, so
the chunks are walked here (Microsoft, Multimedia Programming Interface and Data Specifications 1.0, RIFF WAVE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import DataError
from edgekit.inputs import read_regular
from edgekit.limits import check
from edgekit.types import Array

RATES = (1000, 768_000)
"""Sampling rates that are believed, Hz."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MOST_CHUNKS = 1000
_UNKNOWN_LENGTH = 0xFFFFFFFF
"""What programs write that do not know the length yet (a pipe): the data go to the end of the file."""
_OTHERS = {b"ID3": "MP3", b"\xff\xfb": "MP3", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF", b"RF64": "RF64"}


@dataclass(frozen=True, slots=True)
class Waveform:
    """One raw sample of the kind ``audio``: it knows its own rate, so that it cannot be taken for one of another.

    Attributes:
        samples: float32 (samples,), -1..1, one channel.
        rate: samples a second.
        origin: file or data set, for messages.
        channels: how many the file had; they are mixed down.
    """

    samples: Array
    rate: int
    origin: str = ""
    channels: int = 1


def read_wav(source: Path | bytes, name: str = "") -> Waveform:
    """One WAV file, its channels averaged.

    Raises:
        DataError: missing, empty, cut short, no WAV file, of a coding that is not read, or without a sample.
    """
    name = name or str(source if isinstance(source, Path) else "the recording")
    content = source
    if isinstance(content, Path):
        content = read_regular(content, DataError, "a .wav file", "SAMPLE_BYTES")
    coding, channels, rate, bits, data = _chunks(content, name)
    frame = channels * bits // 8
    check("AUDIO_SAMPLES", len(data) // frame * channels, name)
    samples = _decode(data[: len(data) // frame * frame], coding, bits).reshape(-1, channels)
    if samples.size == 0:
        raise DataError(f"{name} holds no sound (0 samples); record it again")
    if not np.isfinite(samples).all():
        raise DataError(f"{name} holds NaN or infinite samples; write it again")
    return Waveform(samples.mean(1, dtype=np.float32), rate, name, channels)


def _chunks(content: bytes, name: str) -> tuple[int, int, int, int, memoryview]:
    """Coding, channels, rate, bits of a sample, and the data."""
    if not content:
        raise DataError(f"{name} is empty (0 bytes); record or copy it again")
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        told = next((f", it is {kind}" for start, kind in _OTHERS.items() if content.startswith(start)), "")
        raise DataError(f"{name} is not a WAV file{told}; convert it, for example: ffmpeg -i {Path(name).name} out.wav")
    described: tuple[int, int, int, int] | None = None
    place = 12
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(content):
            break
        kind, length = struct.unpack_from("<4sI", content, place)
        body = memoryview(content)[place + 8 : place + 8 + length]
        if kind == b"fmt ":
            described = _format(body, name)
        elif kind == b"data":
            if described is None:
                raise DataError(f"{name} has its samples before the chunk that describes them ('fmt '); write it again")
            if len(body) < length != _UNKNOWN_LENGTH:
                raise DataError(
                    f"{name} is cut short: {length:,} bytes of sound were expected, {len(body):,} are there; copy it "
                    "again"
                )
            return *described, body
        place += 8 + length + length % 2
    raise DataError(f"{name} is cut short: it ends before its {'data' if described else 'description'}; copy it again")


def _format(body: memoryview, name: str) -> tuple[int, int, int, int]:
    if len(body) < 16:
        raise DataError(f"{name} is damaged: its description has {len(body)} bytes, 16 or more are needed")
    coding, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if coding == _EXTENSIBLE and len(body) >= 26:
        (coding,) = struct.unpack_from("<H", body, 24)  # the first two bytes of the sub-format
    if (coding, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise DataError(
            f"{name} has coding {coding} with {bits} bits a sample; PCM of 8, 16, 24 or 32 bits and floats of 32 or 64 "
            f"are supported. Convert it, for example: ffmpeg -i {Path(name).name} -c:a pcm_s16le out.wav"
        )
    if channels < 1 or not RATES[0] <= rate <= RATES[1]:
        raise DataError(
            f"{name} has {channels} channels at {rate:,} Hz; 1 or more at {RATES[0]:,} to {RATES[1]:,} Hz are supported"
        )
    return coding, channels, rate, bits


def _decode(data: memoryview, coding: int, bits: int) -> Array:
    """Interleaved samples as float32, full scale = 1."""
    if coding == _FLOAT:
        with np.errstate(over="ignore"):  # beyond float32 they are infinite, which is refused
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    if bits == 8:
        return _scaled(np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128), 128)
    if bits == 24:  # into the upper three bytes of 32
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return _scaled(wide.reshape(-1).view("<i4").astype(np.float32), 2**31)
    return _scaled(np.frombuffer(data, f"<i{bits // 8}").astype(np.float32), 2 ** (bits - 1))


def _scaled(values: Array, largest: int) -> Array:
    values /= np.float32(largest)
    return values
