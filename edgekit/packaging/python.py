"""``--for python``: a folder that runs with numpy and one runtime, without edgekit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from edgekit.data.kind import affine
from edgekit.packaging.base import Package, Subject, Target, Tensor, head, score_map, template
from edgekit.packaging.blobs import FILE, blobs_of
from edgekit.packaging.readme import readme
from edgekit.quality.detections import DetectionReader, row_widths
from edgekit.taskfields import gives_logits
from edgekit.types import Array, Format, InputSpec

_RUNTIMES: Mapping[Format, tuple[str, str]] = {
    Format.ONNX: ("onnxruntime", "`onnxruntime`"),
    Format.TFLITE: ("ai-edge-litert", "`ai-edge-litert` or `tflite-runtime`"),
}


_FIELDS = ("boxes", "normalized", "activation", "background", "threshold", "iou_threshold")


class Python(Target):
    """A class ``Model``, its preprocessing, a self-test."""

    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "text", "table", "series")
    language: ClassVar[str] = "Python"

    def make(self, subject: Subject) -> Package:
        blobs, title = blobs_of(subject), head(subject, "python")
        runtime, either = _RUNTIMES[subject.artifact.format]
        pictures = any(one.rule is not None and one.rule.kind == "image" for one in subject.inputs)
        needs = ["numpy", runtime, *(["pillow"] if pictures else [])]
        spec = _spec(subject)
        spec["detection"] = _detection(subject)
        spec["selftest"] = {
            "feed": [blob.to_json() for blob in blobs.feed],
            "expected": [blob.to_json() for blob in blobs.expected],
            "tolerance": blobs.tolerance,
            "samples": [
                {
                    "input": one.input,
                    **({"text": one.text} if one.raw is None else {"raw": one.raw.to_json()}),
                    "tensor": one.tensor.to_json(),
                    "tolerance": one.tolerance,
                }
                for one in blobs.samples
            ],
        }
        usage = template("python/README.md", RUNTIME=either, PILLOW=_PILLOW if pictures else "")
        files = {
            subject.model_file: subject.content,
            "labels.txt": "".join(f"{label}\n" for label in subject.labels).encode(),
            "spec.json": (json.dumps(spec, ensure_ascii=False, indent=1) + "\n").encode(),
            FILE: blobs.content,
            "model.py": template("python/model.py.in", HEAD=title).encode(),
            "preprocess.py": template("python/preprocess.py.in", HEAD=title).encode(),
            "selftest.py": template("python/selftest.py.in", HEAD=title).encode(),
            "detect.py": template("python/detect.py.in", HEAD=title).encode() if spec["detection"] else b"",
            "requirements.txt": "".join(f"{name}\n" for name in needs).encode(),
            "README.md": readme(subject, "python", usage),
        }
        return Package({name: data for name, data in files.items() if data})


_PILLOW = " Pillow is needed for pictures from files, or of another size."


def _detection(subject: Subject) -> dict[str, Any] | None:
    """Which output of a detector is what; None for another task."""
    card = subject.card
    if card.task.kind != "detection":
        return None
    reader = DetectionReader.of(card.signature, card)
    tensors, fields = reader.tensors, reader.fields
    return {
        "boxes_output": tensors.boxes,
        "scores_output": tensors.scores,
        "classes_output": tensors.classes,
        "count_output": tensors.count,
        "rows": tensors.rows,
        "width": row_widths(fields, reader.classes)[tensors.rows] if tensors.rows else 4,
        "suppresses": reader.suppresses,
        **{name: getattr(fields, name) for name in _FIELDS},
    }


def _spec(subject: Subject) -> dict[str, Any]:
    task, scores = subject.card.task, score_map(subject)
    return {
        "name": subject.card.name,
        "model": subject.model_file,
        "task": task.kind,
        "params": dict(task.params),
        "labels": len(subject.labels),
        "logits": gives_logits(task.params),
        "score_map": None if scores is None else [scores[0].name, scores[1]],
        "reset": subject.artifact.format is Format.TFLITE and subject.card.stateful is None,
        "inputs": [_tensor(one) for one in subject.inputs],
        "outputs": [_tensor(one) for one in subject.outputs],
        "versions": dict(subject.versions),
    }


def _tensor(one: Tensor) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": one.name, "file_name": one.file_name, "position": one.position, "dtype": one.dtype,
        "shape": list(one.shape), "rule": None if one.rule is None else _rule(one, one.rule),
    }  # fmt: skip
    if one.quantization is not None:
        row |= {"scale": one.quantization.scale, "zero_point": one.quantization.zero_point}
    return row


def _rule(one: Tensor, rule: InputSpec) -> dict[str, Any]:
    factor, offset = factors(one)
    return {
        "kind": rule.kind,
        "layout": rule.layout,
        "size": rule.size,
        "channels": rule.channels,
        "columns": list(rule.columns),
        "factor": [float(value) for value in factor],
        "offset": [float(value) for value in offset],
        "params": {"tokenizer": tokenizer(rule), **rule.params} if rule.kind == "text" else dict(rule.params),
        "dtype": one.dtype,
    }


def factors(one: Tensor) -> tuple[Array, Array]:
    """``value = raw * factor + offset`` of each channel, band or column of an input; empty for a text."""
    rule = one.rule
    assert rule is not None
    if rule.kind == "text":
        return affine(InputSpec("text"), 0)
    if rule.kind == "image":
        width = rule.channels or (one.shape[1] if rule.layout == "NCHW" else one.shape[-1])
    else:
        width = int(rule.params["bands"]) if rule.kind == "audio" else one.shape[-1]
    return affine(rule, width)


def tokenizer(rule: InputSpec) -> str:
    """The name of a text's tokenizer; a card may give its pattern instead."""
    from edgekit.data.text import TOKENIZERS

    name = rule.params.get("tokenizer", "english")
    if "tokenizer" not in rule.params and "pattern" in rule.params:
        name = next((key for key, one in TOKENIZERS.items() if one.pattern == rule.params["pattern"]), "")
    return str(name)


TARGET = Python()
