"""Frames: there and back, and everything that is not a frame."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from edgekit.devices.protocol import HEADER_LIMIT_BYTES, MAGIC, PREFIX, Message, decode, encode
from edgekit.errors import ProtocolError


class Reader:
    """``read(n)`` over bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, count: int) -> bytearray:
        if count > len(self.data):
            raise EOFError
        some, self.data = self.data[:count], self.data[count:]
        return bytearray(some)


def frame(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return PREFIX.pack(MAGIC, len(text), len(body)) + text + body


ARRAYS = {
    "image": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
    "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    "foreign": np.arange(3, dtype=">i2"),
    "one": np.array(7, np.uint8),
    "none": np.zeros((0, 3), np.float64),
    "yes": np.array([True, False]),
    "half": np.array([0.5], np.float16),
}


def test_there_and_back() -> None:
    sent = Message({"command": "run", "name": "Größe", "deep": {"a": [1, None]}}, ARRAYS)
    reader = Reader(b"".join(encode(sent)))
    got = decode(reader)
    assert reader.data == b""
    assert got.header == sent.header
    assert list(got.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        back = got.arrays[name]
        assert (back.shape, back.dtype) == (array.shape, array.dtype.newbyteorder("=")) and np.array_equal(back, array)
        assert back.flags.writeable or back.size == 0


def test_arrays_in_order_are_not_copied() -> None:
    array = np.zeros(1000)
    *_, part = encode(Message({}, {"x": array}))
    assert np.shares_memory(np.frombuffer(part, np.uint8), array)


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["text"]), np.array(["2020-01-01"], "datetime64[D]")])
def test_only_numbers_travel(array: np.ndarray) -> None:
    with pytest.raises(ProtocolError, match="only numbers"):
        encode(Message({}, {"x": array}))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"Segmentation fault, or so", "wanted a frame that begins with"),
        (PREFIX.pack(MAGIC, HEADER_LIMIT_BYTES + 1, 0), "over the limits"),
        (PREFIX.pack(MAGIC, 2, 1 << 62), "over the limits"),
        (PREFIX.pack(MAGIC, 3, 0) + b"{x}", "not valid"),
        (PREFIX.pack(MAGIC, 2, 0) + b"\xff\xff", "not valid"),
        (frame([1, 2]), "not valid"),
        (frame({"no": "arrays"}), "not valid"),
        (frame({"arrays": [{"name": "x", "dtype": "|O", "shape": [1]}]}, bytes(8)), "not valid"),
        (frame({"arrays": [{"name": "x", "dtype": "<f4", "shape": [-1]}]}, bytes(4)), "not valid"),
        (frame({"arrays": [{"name": "x", "dtype": "rubbish", "shape": [1]}]}, bytes(4)), "not valid"),
        (
            frame({"arrays": [{"name": "x", "dtype": "<f4", "shape": [2]}]}, bytes(4)),
            "arrays of 8 bytes and a body of 4",
        ),
    ],
)
def test_what_is_not_a_frame_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode(Reader(data))


def test_damaged_frames_never_do_anything_else() -> None:
    """Every damage ends in a frame, a ProtocolError or the end of the input; nothing else may come out."""
    whole = b"".join(encode(Message({"id": 3}, {"x": np.arange(4, dtype=np.float32)})))
    generator = random.Random(0)
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            decode(Reader(bytes(data)))
        except ProtocolError:
            refused += 1
        except EOFError:
            continue
    assert refused > 1000


def test_integers_of_64_bits_are_those_that_runtimes_know() -> None:
    """C has two such types on Linux, and LiteRT takes arrays of one of them only."""
    data = b"".join(bytes(part) for part in encode(Message({}, {"k": np.array(3, np.int64)})))
    place = 0

    def read(count: int) -> bytearray:
        nonlocal place
        place += count
        return bytearray(data[place - count : place])

    assert decode(read).arrays["k"].dtype.char == np.dtype(np.int64).char
