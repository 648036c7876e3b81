"""Boxes with labels drawn into a picture, by Pillow, with the font that it brings."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from edgekit.errors import RuntimeMissingError
from edgekit.types import Array

_COLORS = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000", "#808000", "#000075",
)  # fmt: skip
"""One a class, again from the first after ten; white text can be read on each."""
_LEAST_SIDE = 256
"""Pixels of the shorter side to which a smaller picture is enlarged (by a whole number), so that labels can be read."""


def drawn(picture: Array, boxes: Array, labels: Sequence[int], texts: Sequence[str]) -> bytes:
    """A PNG of ``picture`` with boxes and their texts.

    Args:
        picture: uint8 (height, width, 1 or 3).
        boxes: (K, 4): left, top, right, bottom in its pixels.
        labels: the class of each, which says its colour.
        texts: what stands above each.

    Raises:
        RuntimeMissingError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise RuntimeMissingError("drawing boxes into a picture needs Pillow: pip install pillow") from error
    whole = Image.fromarray(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture)
    factor = max(1, -(-_LEAST_SIDE // min(whole.size)))
    whole = whole.resize((whole.width * factor, whole.height * factor), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(whole)
    width = max(2, round(min(whole.size) / 200))
    font = ImageFont.load_default(max(11, round(min(whole.size) / 32)))
    for box, label, text in zip(boxes * factor, labels, texts, strict=True):
        color = _COLORS[label % len(_COLORS)]
        left, top, right, bottom = (round(float(side)) for side in box)
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=color, width=width)
        _, _, across, down = pen.textbbox((0, 0), text, font=font)
        place = max(0, min(left, whole.width - round(across) - 4)), max(0, top - round(down) - 4)
        pen.rectangle((*place, place[0] + round(across) + 4, place[1] + round(down) + 4), fill=color)
        pen.text((place[0] + 2, place[1] + 2), text, fill="white", font=font)
    made = io.BytesIO()
    whole.save(made, "PNG")
    return made.getvalue()
