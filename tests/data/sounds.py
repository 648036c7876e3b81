"""WAV files for tests: by the module wave where it can, byte by byte where it cannot."""

import struct
import wave

import numpy as np


def write_wav(path, samples, rate=8000, bits=16):
    """PCM by the standard library; ``samples`` (N,) or (N, channels) in -1..1."""
    samples = np.asarray(samples, np.float64)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(pcm(samples.ravel(), bits))
    return path


def pcm(samples, bits):
    whole = np.rint(np.clip(samples, -1, 1 - 2.0 ** (1 - bits)) * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    return b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)


def riff(*chunks, kind=b"RIFF", form=b"WAVE"):
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return kind + struct.pack("<I", 4 + len(body)) + form + body


def described(coding=1, channels=1, rate=8000, bits=16, extra=b""):
    block = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", coding, channels, rate, rate * block, block, bits) + extra


def tone(seconds=0.5, rate=8000, hz=440.0, loud=0.5):
    return loud * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
