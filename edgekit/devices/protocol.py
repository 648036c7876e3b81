"""Frames between this process and a worker: a JSON header and raw array bytes, over two pipes.

    4 bytes  magic ``EKW1``          8 bytes  length of the body (little endian)
    4 bytes  length of the header    header: UTF-8 JSON, an object; ``arrays`` lists name, dtype and shape of what
                                     follows; body: the arrays' bytes in that order, C order, little endian

Nothing is pickled and nothing is executed: a frame holds numbers and text. Whatever does not parse, is not strict JSON
(NaN, Infinity), or is larger than the limits, is a :class:`~edgekit.errors.ProtocolError`, before memory is laid out.
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
VALUES_LIMIT: Final = 2_000_000
"""Values in a header: small ones take thirty times their text as objects of Python."""
BODY_LIMIT_BYTES: Final = 8 << 30
_DTYPES: Final = {text: np.dtype(text) for text in (np.dtype(c).newbyteorder("<").str for c in "?bhilqBHILQefdFD")}
"""Spelling -> what it means. numpy would read programs into other texts: records, arrays in arrays, objects."""
_MOST, _MOST_ARRAYS, _MOST_AXES = 1 << 48, 100_000, 32


@dataclass(frozen=True, slots=True)
class Message:
    """One frame: JSON values and arrays by name."""

    header: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)


def encode(message: Message) -> list[memoryview]:
    """The frame in parts, the arrays' memory not copied where it already lies in C order.

    Raises:
        ProtocolError: an array of objects or text, or a frame over the limits.
        ValueError: NaN or an infinity in the header.
    """
    rows, parts = [], []
    for name, array in message.arrays.items():
        if array.dtype.newbyteorder("<").str not in _DTYPES:
            raise ProtocolError(f"array {name!r} has dtype {array.dtype}; only numbers can be sent to a worker")
        plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        rows.append({"name": name, "dtype": plain.dtype.str, "shape": list(plain.shape)})
        if plain.size:
            parts.append(plain.reshape(-1).view(np.uint8).data)
    header = json.dumps({**message.header, "arrays": rows}, allow_nan=False).encode()
    body = sum(part.nbytes for part in parts)
    _check_sizes(len(header), body, HEADER_LIMIT_BYTES, BODY_LIMIT_BYTES)
    return [memoryview(PREFIX.pack(MAGIC, len(header), body) + header), *parts]


def decode(
    read: Callable[[int], bytearray], header_limit: int = HEADER_LIMIT_BYTES, body_limit: int = BODY_LIMIT_BYTES
) -> Message:
    """The next frame. ``read(n)`` gives exactly n bytes, or raises.

    Raises:
        ProtocolError: what came is not a frame, or larger than these limits; the message shows how it begins.
    """
    prefix = read(PREFIX.size)
    magic, header_bytes, body_bytes = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(
            f"got {bytes(prefix)!r}, wanted a frame that begins with {MAGIC!r}: something else writes to the pipe; "
            "see the log with --debug"
        )
    _check_sizes(header_bytes, body_bytes, header_limit, body_limit)
    text = bytes(read(header_bytes))
    if sum(map(text.count, b",[{")) > VALUES_LIMIT:
        raise ProtocolError(f"the header of a frame holds more than {VALUES_LIMIT:,} values")
    try:
        header = json.loads(text, parse_constant=_refuse)
        rows = _rows(header.pop("arrays"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(
            f"the header of a frame is not valid: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    expected = sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in rows)
    if expected != body_bytes:
        raise ProtocolError(f"a frame announces arrays of {expected:,} bytes and a body of {body_bytes:,}")
    arrays = {}
    for name, dtype, shape in rows:
        data = read(dtype.itemsize * math.prod(shape))
        arrays[name] = np.frombuffer(data, dtype=dtype).reshape(shape)  # writable: its memory is the bytearray's
    return Message(header, arrays)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _rows(rows: Any) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    if not isinstance(rows, list) or len(rows) > _MOST_ARRAYS:
        raise ValueError(f"wanted a list of at most {_MOST_ARRAYS:,} arrays")
    read = [_row(row) for row in rows]
    if len({name for name, _, _ in read}) < len(read):
        raise ValueError("two arrays have one name")
    return read


def _row(row: Mapping[str, Any]) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    name, dtype, shape = row["name"], _DTYPES[row["dtype"]], row["shape"]
    if not isinstance(name, str) or not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise ValueError(f"an array has a name, a dtype and a shape of at most {_MOST_AXES} axes")
    if (
        not all(type(size) is int and size >= 0 for size in shape)
        or math.prod(max(size, 1) for size in shape) >= 1 << 48
    ):
        raise ValueError(f"an array cannot have the shape {str(shape)[:100]}")
    return name, dtype, tuple(shape)


def _check_sizes(header_bytes: int, body_bytes: int, header_limit: int, body_limit: int) -> None:
    if header_bytes > header_limit or body_bytes > body_limit:
        raise ProtocolError(
            f"a frame with a header of {header_bytes:,} bytes and a body of {body_bytes:,} is over the limits of "
            f"{header_limit:,} and {body_limit:,}; send less at once"
        )
