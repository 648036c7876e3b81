"""``--for ios``: Swift and resources for an app, on TensorFlow Lite or onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from edgekit.errors import UnsupportedError
from edgekit.packaging.base import Subject, Tensor
from edgekit.packaging.blobs import Blob
from edgekit.packaging.mobile import (
    CLASSES,
    TYPES,
    Language,
    Mobile,
    answer_facts,
    rule_fields,
    rule_name,
    single,
    values,
)
from edgekit.types import Format, InputSpec

SWIFT = Language(lambda char: f"\\u{{{ord(char):x}}}", '\\"', "[{}]", "[{}]", "")
_RUNTIMES = {
    Format.TFLITE: ("TensorFlowLiteSwift", "~> 2.17", "import TensorFlowLite\n"),
    Format.ONNX: ("onnxruntime-objc", "~> 1.22", "import onnxruntime_objc\n"),
}
_LACKING = {Format.TFLITE: ("int8", "int64"), Format.ONNX: ("bool", "int16")}
"""Types that the runtime's Swift interface passes no tensors of."""
_ANSWERS = {
    "classification": "[(label: String, probability: Double)]", "multilabel": "[(label: String, probability: Double)]",
    "segmentation": "[Int]", "forecasting": "[Float]",
}  # fmt: skip
_RESET = "        try interpreter.allocateTensors()  // states begin at zero\n"


class Ios(Mobile):
    """``Model.swift`` and what it stands on."""

    name: ClassVar[str] = "ios"
    title: ClassVar[str] = "iOS"
    language: ClassVar[str] = "Swift"
    suffix: ClassVar[str] = "swift"
    speech: ClassVar[Language] = SWIFT
    resources: ClassVar[str] = "Resources"
    project: ClassVar[str] = "Podfile"

    def check(self, subject: Subject) -> None:
        super().check(subject)
        for one in (*subject.inputs, *subject.outputs):
            if one.dtype in _LACKING[subject.artifact.format]:
                pod = _RUNTIMES[subject.artifact.format][0]
                raise UnsupportedError(
                    f"{one.name!r} holds {one.dtype}, and {pod} passes no such tensor; quantize with inputs and "
                    "outputs in float (--io float), or package the other format"
                )

    def _names(self, subject: Subject) -> dict[str, str]:
        pod, version, _ = _RUNTIMES[subject.artifact.format]
        return {"POD": pod, "VERSION": version}

    def _sources(self, subject: Subject) -> str:
        return "Sources"

    def _infos(self, tensors: Iterable[Tensor]) -> str:
        return ", ".join(map(_info, tensors))

    def _rule(self, one: Tensor, rule: InputSpec) -> str:
        fields = ",\n        ".join(f"{name}: {value}" for name, value in rule_fields(one, rule, SWIFT).items())
        return f"\n    public static let {rule_name(one)} = {CLASSES[rule.kind]}(\n        {fields})\n"

    def _model(self, subject: Subject) -> dict[str, str]:
        one, format_ = single(subject), subject.artifact.format
        predict, facts, imports = "", answer_facts(subject), _RUNTIMES[format_][2]
        if one is not None and one.rule is not None:
            kind = "columns" if one.rule.kind in ("table", "series") else one.rule.kind
            answer = "" if facts is None else "Spec.answer"
            type_ = "[[Float]]" if facts is None else _ANSWERS[facts["kind"]]
            predict = self._template(f"predict_{kind}.swift", RULE=rule_name(one), ANSWER=answer, TYPE=type_)
            imports = ("import CoreGraphics\n" if kind == "image" else "") + imports
        reset = {"RESET": _RESET if subject.card.stateful is None else ""} if format_ is Format.TFLITE else {}
        return {"IMPORTS": imports, "RUNNER": self._template(f"{format_}.swift", **reset), "PREDICT": predict}

    def _call(self, subject: Subject) -> str:
        one = single(subject)
        if one is None or one.rule is None:
            return f"model.run([{', '.join(tensor.name for tensor in subject.inputs)}])"
        given = {"image": "image", "audio": "samples, samplingRate: rate", "text": "sentence"}
        return f"model.predict({given.get(one.rule.kind, 'rows')})"

    def _compared(self, title: str, made: str, blob: Blob, tolerance: float) -> str:
        return f"        lines.append(try compare({title}, {made}, {values(blob)}, {tolerance!r}))\n"

    def _bytes(self, start: int, count: int) -> str:
        return f"part(blobs, {start}, {count})"

    def _picture(self, blob: Blob) -> str:
        height, width, channels = blob.shape
        pixels = f"[UInt8](part(blobs, {blob.offset}, {blob.count}))"
        return f"Picture(pixels: {pixels}, height: {height}, width: {width}, channels: {channels})"

    def _rate(self, rate: int) -> str:
        return f", samplingRate: {rate}"

    def _encoded(self, rule: InputSpec, call: str) -> str:
        return call if rule.kind == "image" else f"try {call}"


def _info(one: Tensor) -> str:
    how = one.quantization
    scale, zero = ("0", 0) if how is None else (SWIFT.number(how.scale), how.zero_point)
    names = f"name: {SWIFT.text(one.name)}, fileName: {SWIFT.text(one.file_name)}"
    return (
        f"\n        TensorInfo(\n            {names}, position: {one.position}, type: .{TYPES[one.dtype]}, "
        f"shape: {list(one.shape)},\n            scale: {scale}, zeroPoint: {zero})"
    )


TARGET = Ios()
