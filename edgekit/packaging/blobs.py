"""``selftest.bin``: the arrays of a self-test one after the other, and where each lies, for every language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.packaging.base import Subject
from edgekit.types import Array

FILE = "selftest.bin"
_ALIGNED = 8
"""Offsets are multiples of it, so that a mapped file can be read in place."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Where an array lies, little-endian and in C order. ``dtype``: a name of numpy."""

    offset: int
    count: int
    dtype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``spec.json`` has it."""
        return {"offset": self.offset, "count": self.count, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class SampleBlobs:
    """A raw sample (``raw``, or ``text``) and its tensor."""

    input: str
    raw: Blob | None
    text: str | None
    tensor: Blob
    tolerance: float


@dataclass(frozen=True, slots=True)
class SelfTestBlobs:
    """The whole self-test: ``content`` of the file, and where what lies."""

    content: bytes
    feed: tuple[Blob, ...]
    expected: tuple[Blob, ...]
    tolerance: float
    samples: tuple[SampleBlobs, ...]


def blobs_of(subject: Subject) -> SelfTestBlobs:
    """The arrays of a subject's self-test, laid out."""
    content = bytearray()

    def put(array: Array) -> Blob:
        plain = np.asarray(array, order="C").astype(array.dtype.newbyteorder("<"), copy=False)
        content.extend(b"\0" * (-len(content) % _ALIGNED))
        blob = Blob(len(content), plain.size, array.dtype.name, array.shape)
        content.extend(plain.tobytes())
        return blob

    feed = tuple(put(array) for array in subject.feed)
    expected = tuple(put(array.astype(np.float32)) for array in subject.expected)
    samples = []
    for name, sample in subject.samples.items():
        text = sample.raw if isinstance(sample.raw, str) else None
        raw = None if isinstance(sample.raw, str) else put(sample.raw)
        samples.append(SampleBlobs(name, raw, text, put(sample.tensor), sample.tolerance))
    return SelfTestBlobs(bytes(content), feed, expected, subject.tolerance, tuple(samples))
