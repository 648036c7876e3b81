"""TFLite Metadata, the standard schema that MediaPipe Tasks, ML Kit, Android Studio and Netron read, from a card.

It says of each input how a picture becomes it (colour, size, mean and std in units of 0..255) and of each output what
its numbers mean (labels, thresholds, the activation still to be applied). It lies in the metadata buffer :data:`NAME`
of the file, and label files in a zip archive behind the model. Source: ``metadata_schema.fbs`` of
TensorFlow and MediaPipe (version 1.5), whose field numbers stand below.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from edgekit.flatbuffer_writer import Number, Numbers, Table, encode
from edgekit.taskfields import CENTRED, SCORES, gives_logits
from edgekit.types import Card, InputSpec, TensorSpec
from edgekit.version import __version__

NAME: Final = "TFLITE_METADATA"
IDENTIFIER: Final = b"M001"
_PARSER: Final = "1.0.0"
"""The version of the schema that has all fields used here; custom metadata came with 1.5."""
_CUSTOM_PARSER: Final = "1.5.0"
_FEATURES, _IMAGE, _BOXES = 1, 2, 3
"""ContentProperties: FeatureProperties, ImageProperties, BoundingBoxProperties."""
_NORMALISATION, _THRESHOLD = 1, 3
"""ProcessUnitOptions: NormalizationOptions, ScoreThresholdingOptions."""
_AXIS_LABELS = 2
"""AssociatedFileType."""
_RGB, _GREY = 1, 2
_SOFTMAX, _SIGMOID, _NONE = 2, 1, 0
"""Activation of image_segmenter_metadata_schema.fbs."""
_CUSTOM_IDENTIFIER: Final = b"V001"
_BYTE: Final = 255.0
LABELS: Final = "labels.txt"


@dataclass(frozen=True, slots=True)
class Standard:
    """The metadata of a file and the files that it names, by name."""

    metadata: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)

    def archive(self) -> bytes:
        """The files as a zip archive, stored and without a date: equal files give equal bytes; empty for none."""
        if not self.files:
            return b""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        return buffer.getvalue()


def standard_metadata(card: Card, inputs: Sequence[str], outputs: Sequence[str]) -> Standard | None:
    """What ``card`` says in the standard schema; None where it says nothing of inputs and outputs.

    Args:
        inputs, outputs: names in the order of the file's main graph, which is that of the schema's lists.
    """
    specs = {spec.name: spec for spec in (*card.signature.inputs, *card.signature.outputs)}
    if not (card.contract or card.task.labels) or not all(name in specs for name in (*inputs, *outputs)):
        return None
    given = [_input(specs[name], card.contract.get(name, InputSpec())) for name in inputs]
    results = [specs[name] for name in outputs]
    detector = _detector(card, results, [specs[name] for name in inputs])
    answers = [_output(spec, card) for spec in results] if detector is None else detector.outputs
    custom = _segmenter(card, results) if detector is None else [detector.options]
    graph: dict[int, Table | Sequence[Table] | None] = {2: given, 3: answers, 9: custom or None}
    root: Table = {
        0: card.name,
        1: f"{card.task.kind} ({card.family})" if card.task.kind != "none" else card.family,
        2: next((step.versions.get("edgekit") for step in card.steps if "edgekit" in step.versions), __version__),
        3: [graph],
        7: _CUSTOM_PARSER if custom else _PARSER,
    }
    labels = card.task.labels if detector is not None or any(_labelled(spec, card) for spec in results) else ()
    files = {LABELS: "".join(f"{label}\n" for label in labels).encode()} if labels else {}
    return Standard(encode(root, IDENTIFIER), files)


def _input(spec: TensorSpec, rule: InputSpec) -> Table:
    """TensorMetadata of an input."""
    if rule.kind != "image":
        return {0: spec.name, 1: str(rule), 3: {1: {}, 0: Number("B", _FEATURES)}}
    size = None if rule.size is None else {0: Number("I", rule.size[1]), 1: Number("I", rule.size[0])}
    other = rule.params.get("color", "RGB") != "RGB"  # the schema has no name for another order
    properties = {0: Number("B", 0 if other else _GREY if rule.channels == 1 else _RGB), 1: size}
    mean, std = normalisation(rule)
    unit: Table = {0: Number("B", _NORMALISATION), 1: {0: Numbers("f", mean), 1: Numbers("f", std)}}
    lows = [(0 - m) / s for m, s in zip(mean, std, strict=True)]
    highs = [(_BYTE - m) / s for m, s in zip(mean, std, strict=True)]
    return {
        0: spec.name,
        1: rule.formula(),
        2: list(_AXES[rule.layout]) if rule.layout in _AXES else None,
        3: {0: Number("B", _IMAGE), 1: properties},
        4: [unit],
        5: {0: Numbers("f", highs), 1: Numbers("f", lows)},
    }


_AXES: Final = {"NCHW": ("batch", "channels", "height", "width"), "NHWC": ("batch", "height", "width", "channels")}


def normalisation(rule: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of ``(pixel - mean) / std`` with pixels of 0..255: one number where all channels have the same."""
    width = max(len(rule.mean), len(rule.std), 1)
    means, stds = rule.mean or (0.0,) * width, rule.std or (1.0,) * width
    mean, std = tuple(value / rule.scale for value in means), tuple(value / rule.scale for value in stds)
    if len(set(mean)) == 1 and len(set(std)) == 1:
        return mean[:1], std[:1]
    return mean, std


def _labelled(spec: TensorSpec, card: Card) -> bool:
    """Whether the last axis of an output, or that of classes in a map, has one place a label."""
    return bool(card.task.labels) and bool(spec.shape) and len(card.task.labels) in spec.shape[1:]


def _output(spec: TensorSpec, card: Card) -> Table:
    """TensorMetadata of an output."""
    files = [_label_file(_AXIS_LABELS)] if _labelled(spec, card) else None
    units = _threshold(card) if card.task.kind == "multilabel" else None
    content: Table = {0: Number("B", _FEATURES), 1: {}}
    if card.task.kind == "segmentation" and len(spec.shape) == len("NHWC"):
        content = {0: Number("B", _IMAGE), 1: {0: Number("B", _GREY)}, 2: {0: Number("i", 1), 1: Number("i", 2)}}
    return {0: spec.name, 1: _meaning(card), 3: content, 4: units, 6: files}


def _threshold(card: Card) -> list[Table] | None:
    """ProcessUnit: the least score that is shown."""
    least = card.task.params.get("threshold")
    if not isinstance(least, int | float):
        return None
    return [{0: Number("B", _THRESHOLD), 1: {0: Number("f", float(least))}}]


def _meaning(card: Card) -> str:
    """What the numbers of an output are, for people."""
    scores = SCORES[not gives_logits(card.task.params)]
    said = {
        "classification": "one logit a class; the largest is the answer",
        "multilabel": f"one score a class, {scores}",
        "segmentation": f"one score a class and pixel, {scores}",
    }
    return said.get(card.task.kind, "" if card.task.kind == "none" else card.task.kind)


def _label_file(kind: int) -> Table:
    return {0: LABELS, 1: "class names in the order of the outputs, one a line", 2: Number("B", kind)}


def _segmenter(card: Card, outputs: Sequence[TensorSpec]) -> list[Table]:
    """CustomMetadata: the activation that MediaPipe's segmenter has to apply."""
    maps = [spec for spec in outputs if len(spec.shape) == len("NHWC")]
    if card.task.kind != "segmentation" or not maps:
        return []
    logits = gives_logits(card.task.params)
    activation = (_SIGMOID if maps[0].shape[-1] == 1 else _SOFTMAX) if logits else _NONE
    options = encode({0: Number("B", activation), 1: _PARSER}, _CUSTOM_IDENTIFIER)
    return [{0: "SEGMENTER_METADATA", 1: options}]


class _Detector(NamedTuple):
    """TensorMetadata of boxes and scores, and CustomMetadata."""

    outputs: list[Table]
    options: Table


_OF_KEYPOINT: Final = 2
"""Values of a key point: MediaPipe ends the process on another number, though there are no key points here."""


def _detector(card: Card, outputs: Sequence[TensorSpec], inputs: Sequence[TensorSpec]) -> _Detector | None:
    """What MediaPipe's detector has to know; None for a file that it does not take.

    It adds an anchor's centre to what the file gives, after dividing by a scale, and multiplies sizes by the anchor's:
    anchors of size 1 at 0 leave boxes as they are, in shares of the picture.
    """
    params, shapes = card.task.params, [spec.shape for spec in outputs]
    fits = card.task.kind == "detection" and params.get("boxes") == CENTRED and [len(s) for s in shapes] == [3, 3]
    rule = next((card.contract[spec.name] for spec in inputs if spec.name in card.contract), InputSpec())
    if not fits or rule.size is None or shapes[0][1] != shapes[1][1]:
        return None
    named = params.get("boxes_output")
    place = next((k for k, spec in enumerate(outputs) if (spec.name == named if named else spec.shape[2] == 4)), None)
    boxes, classes = shapes[0][1], None if place is None else shapes[1 - place][2]
    if place is None or not isinstance(boxes, int) or not isinstance(classes, int):
        return None
    height, width = (1.0, 1.0) if params.get("normalized") else map(float, rule.size)
    corners: Table = {0: Numbers("I", (1, 0, 3, 2)), 1: Number("B", 1), 2: Number("B", 0)}  # BOUNDARIES, RATIO
    location: Table = {0: "location", 1: "boxes of centre and size", 3: {0: Number("B", _BOXES), 1: corners}}
    files = [_label_file(_AXIS_LABELS)] if card.task.labels else None
    features: Table = {0: Number("B", _FEATURES), 1: {}}
    score: Table = {0: "score", 1: "one score a class", 3: features, 4: _threshold(card), 6: files}
    anchor: Table = {k: Number("f", value) for k, value in enumerate((0.0, 0.0, 1.0, 1.0))}
    scales = {k: Number("f", value) for k, value in zip(range(6, 10), (width, height, width, height), strict=True)}
    sigmoid = params.get("activation") in ("sigmoid", "logits")  # what is still to be applied
    counts = {k: Number("i", value) for k, value in enumerate((classes, boxes, 4, 0, 0, _OF_KEYPOINT))}
    decoding: Table = {**counts, **scales, 10: Number("?", False), 11: Number("?", sigmoid)}
    options = encode({0: _PARSER, 1: {0: {0: [anchor] * boxes}}, 2: decoding}, _CUSTOM_IDENTIFIER)
    ordered = [location, score] if place == 0 else [score, location]
    return _Detector(ordered, {0: "DETECTOR_METADATA", 1: options})
