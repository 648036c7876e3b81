"""What a detector found in one picture of ``run``: for people, and drawn into the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.draw_boxes import drawn
from edgekit.data.images import SUFFIXES, decode, picture_size
from edgekit.errors import DataError
from edgekit.quality.average_precision import fed_size
from edgekit.quality.detections import DetectionReader
from edgekit.results.inspect import FoundObject
from edgekit.types import Array, Card, Feed, Signature


def objects_in(
    name: str, feed: Feed, outputs: dict[str, Array], signature: Signature, card: Card
) -> tuple[FoundObject, ...]:
    """The objects whose score reaches the card's threshold, the highest score first; boxes are in the picture ``name``,
    or in the input where that is not an image file.

    Raises:
        ModelError, UnsupportedError: the outputs are not what the card says.
    """
    reader = DetectionReader.of(signature, card)
    size = fed_size(feed, card.contract)
    picture = picture_size(Path(name)) if _is_image(name) else size
    found = reader.read(outputs, 0, picture, size, best_class=True).above(reader.fields.threshold)
    return tuple(
        FoundObject(card.task.labels[label], float(score), (float(box[0]), float(box[1]), float(box[2]), float(box[3])))
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    )


def picture_with(name: str, objects: tuple[FoundObject, ...], classes: tuple[str, ...]) -> bytes:
    """A PNG of the picture ``name`` with the objects drawn into it.

    Raises:
        DataError: it is not an image file.
    """
    if not _is_image(name):
        raise DataError(f"{name} is not an image file, so that boxes cannot be drawn into it; write -o OUT.npz")
    boxes = np.array([one.box for one in objects], np.float64).reshape(-1, 4)
    texts = [f"{one.label}: {one.score:.2f}" for one in objects]
    return drawn(decode(Path(name)), boxes, [classes.index(one.label) for one in objects], texts)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES
