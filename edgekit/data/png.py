"""Images side by side in one PNG file (ISO/IEC 15948), written without an imaging library."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

from edgekit.types import Array

GAP = 1
"""Black pixels between two images of a grid."""


def grid(images: Array) -> Array:
    """uint8 (N, H, W, C) -> one uint8 image (rows x (H + gap), columns x (W + gap), C), as square as it can be, read
    row by row; places without an image are black."""
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = np.zeros((rows * columns, height + GAP, width + GAP, channels), np.uint8)
    cells[:count, :height, :width] = images
    table = cells.reshape(rows, columns, height + GAP, width + GAP, channels).transpose(0, 2, 1, 3, 4)
    whole: Array = table.reshape(rows * (height + GAP), columns * (width + GAP), channels)
    return whole[: -GAP or None, : -GAP or None]


def encode(image: Array) -> bytes:
    """A uint8 image (H, W, 1 or 3) as the bytes of a PNG file.

    Raises:
        ValueError: another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"a PNG is made of uint8 (H, W, 1 or 3), got {image.dtype} {image.shape}")
    height, width, channels = image.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)  # filter type 0
    colour = 0 if channels == 1 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
