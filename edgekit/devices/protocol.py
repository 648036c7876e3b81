"""Frames between this process and a worker: a JSON header and raw array bytes, over two pipes.

    4 bytes  magic ``EKW1``          8 bytes  length of the body (little endian)
    4 bytes  length of the header    header: UTF-8 JSON, an object; ``arrays`` lists name, dtype and shape of what
                                     follows; body: the arrays' bytes in that order, C order, little endian

Nothing is pickled and nothing is executed: a frame holds numbers and text. Whatever does not parse, or is larger than
the limits, is a :class:`~edgekit.errors.ProtocolError`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edgekit.errors import ProtocolError
from edgekit.types import Array

VERSION: Final = 1
MAGIC: Final = b"EKW1"
PREFIX: Final = struct.Struct("<4sIQ")
HEADER_LIMIT_BYTES: Final = 16 << 20
BODY_LIMIT_BYTES: Final = 8 << 30
_KINDS: Final = "biufc"


@dataclass(frozen=True, slots=True)
class Message:
    """One frame: JSON values and arrays by name."""

    header: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)


def encode(message: Message) -> list[memoryview]:
    """The frame in parts, the arrays' memory not copied where it already lies in C order.

    Raises:
        ProtocolError: an array of objects or text, or a frame over the limits.
    """
    rows, parts = [], []
    for name, array in message.arrays.items():
        if array.dtype.kind not in _KINDS:
            raise ProtocolError(f"array {name!r} has dtype {array.dtype}; only numbers can be sent to a worker")
        plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        rows.append({"name": name, "dtype": plain.dtype.str, "shape": list(plain.shape)})
        if plain.size:
            parts.append(plain.reshape(-1).view(np.uint8).data)
    header = json.dumps({**message.header, "arrays": rows}).encode()
    body = sum(part.nbytes for part in parts)
    _check_sizes(len(header), body)
    return [memoryview(PREFIX.pack(MAGIC, len(header), body) + header), *parts]


def decode(read: Callable[[int], bytearray]) -> Message:
    """The next frame. ``read(n)`` gives exactly n bytes, or raises.

    Raises:
        ProtocolError: what came is not a frame; the message shows how it begins.
    """
    prefix = read(PREFIX.size)
    magic, header_bytes, body_bytes = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(
            f"got {bytes(prefix)!r}, wanted a frame that begins with {MAGIC!r}: something else writes to the pipe; "
            "see the log with --debug"
        )
    _check_sizes(header_bytes, body_bytes)
    try:
        header = json.loads(bytes(read(header_bytes)))
        rows = [_row(row) for row in header.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"the header of a frame is not valid: {type(error).__name__}: {error}") from error
    expected = sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in rows)
    if expected != body_bytes:
        raise ProtocolError(f"a frame announces arrays of {expected:,} bytes and a body of {body_bytes:,}")
    arrays = {}
    for name, dtype, shape in rows:
        data = read(dtype.itemsize * math.prod(shape))
        arrays[name] = np.frombuffer(data, dtype=dtype).reshape(shape)  # writable: its memory is the bytearray's
    return Message(header, arrays)


def _row(row: Mapping[str, Any]) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    dtype = np.dtype(str(row["dtype"]))
    shape = tuple(int(size) for size in row["shape"])
    if dtype.kind not in _KINDS or any(size < 0 for size in shape):
        raise ValueError(f"an array of {dtype} and shape {shape}")
    return str(row["name"]), dtype, shape


def _check_sizes(header_bytes: int, body_bytes: int) -> None:
    if header_bytes > HEADER_LIMIT_BYTES or body_bytes > BODY_LIMIT_BYTES:
        raise ProtocolError(
            f"a frame with a header of {header_bytes:,} bytes and a body of {body_bytes:,} is over the limits of "
            f"{HEADER_LIMIT_BYTES:,} and {BODY_LIMIT_BYTES:,}; send less at once"
        )
