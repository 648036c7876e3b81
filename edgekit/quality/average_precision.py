"""Mean average precision of a detector: pycocotools matches and counts, from the outputs of any device.

The headline ``map`` is COCO's AP (mean over ten overlaps from .5 to .95 and over the classes), ``map50`` is at .5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.data.boxes import Boxes, boxes_of
from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, UnsupportedError
from edgekit.quality import curves
from edgekit.quality.detections import DetectionReader, Detections
from edgekit.quality.evaluate import Runs, model_batches
from edgekit.quality.matches import match
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.types import Card, Feed, InputSpec


def detection(
    runner: Runs, dataset: Dataset, card: Card | None, limit: int | None, *, headline: str = "map"
) -> Evaluation:
    """Mean average precision, by class too. Boxes are brought back to the picture as it was given, and those that lie
    over a better one of their class are left out where the file does not do it.

    Args:
        runner, dataset, card, limit: see :func:`edgekit.quality.evaluate.evaluate`.
        headline: ``map`` or ``map50``; the other stands in the details.

    Raises:
        DataError: the data set has no boxes, other classes than the model, or pictures of another size than it says.
        ModelError, UnsupportedError: see :class:`~edgekit.quality.detections.DetectionReader`.
    """
    labels = card.task.labels if card is not None else ()
    reader = DetectionReader.of(runner.signature, card)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    wanted = [boxes_of(dataset, k) for k in range(total)]
    wanted = _by_name(wanted, dataset, labels)
    if not sum(int((~one.crowd).sum()) for one in wanted):
        raise DataError(f"{dataset.label} holds no box to find in its first {total} pictures")
    found = detected(runner, dataset, card, reader, wanted)
    matches = match(wanted, found, len(labels))
    precision = matches.average_precision(np.ones(total))  # (overlaps, classes), NaN for a class without boxes
    values = {"map": float(np.nanmean(precision)), "map50": float(np.nanmean(precision[0]))}
    each = precision.mean(axis=0) if headline == "map" else precision[0]
    per_class = {name: float(v) for name, v in zip(labels, each, strict=True) if np.isfinite(v)}
    details = {name: value for name, value in values.items() if name != headline}
    details["boxes"] = sum(map(len, wanted))
    kept = matches if headline == "map" else matches.at_first_overlap()
    outcomes = Outcomes("detections", kept.counts, matches=kept.rows)
    return Evaluation(
        headline, values[headline], total, dataset.label, per_class=per_class, details=details,
        curves=curves.of_matches(labels, matches), outcomes=outcomes,
    )  # fmt: skip


def detected(
    runner: Runs, dataset: Dataset, card: Card | None, reader: DetectionReader, wanted: Sequence[Boxes]
) -> list[Detections]:
    """What the model finds in the first pictures of ``dataset``, one for each of ``wanted``."""
    contract = card.contract if card is not None else {}
    pictures = next(iter(dataset.arrays.values()))
    found: list[Detections] = []
    for feed, count in model_batches(runner.signature, dataset, contract, len(wanted)):
        size = fed_size(feed, contract)
        outputs = runner.run(feed)
        for row in range(count):
            index = len(found)
            picture = wanted[index].size
            if dataset.kind != "image":
                picture = size
            elif picture is None:
                picture = tuple(np.asarray(pictures[index]).shape[:2])
            found.append(reader.read(outputs, row, picture, size))
    return found


def fed_size(feed: Feed, contract: Mapping[str, InputSpec]) -> tuple[int, int]:
    """Height and width of the picture in a feed."""
    for name, values in feed.items():
        rule = contract.get(name, InputSpec())
        if values.ndim == 4:
            layout = rule.layout or ("NHWC" if values.shape[-1] in (1, 3) else "NCHW")
            return values.shape[layout.index("H")], values.shape[layout.index("W")]
    raise UnsupportedError("a detector takes a picture, and no input of the model has four axes")


def _by_name(wanted: Sequence[Boxes], dataset: Dataset, labels: Sequence[str]) -> list[Boxes]:
    """The boxes with the model's numbers of their classes, which are matched by name.

    Raises:
        DataError: the model does not know one.
    """
    if not dataset.classes or tuple(dataset.classes) == tuple(labels):
        most = max((int(one.labels.max()) for one in wanted if len(one)), default=0)
        if most >= len(labels):
            raise DataError(f"{dataset.label} has boxes of the class {most}, the model has {len(labels)} classes")
        return list(wanted)
    strange = [name for name in dataset.classes if name not in labels]
    if strange:
        raise DataError(
            f"{dataset.label} has the classes {', '.join(strange[:5])}, which the model does not know; it knows "
            f"{', '.join(labels[:5])}. Name the classes alike"
        )
    place = np.array([labels.index(name) for name in dataset.classes], np.int64)
    return [Boxes(one.boxes, place[one.labels], one.crowd, one.size) for one in wanted]
