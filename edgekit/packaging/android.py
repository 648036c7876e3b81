"""``--for android``: Kotlin and assets for an app module, on LiteRT or onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

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


def _unicode(char: str) -> str:
    code = char.encode("utf-16-be")
    return "".join(f"\\u{code[k]:02x}{code[k + 1]:02x}" for k in range(0, len(code), 2))


KOTLIN = Language(_unicode, '\\"$', "floatArrayOf({})", "doubleArrayOf({})", "f")
_RUNTIMES = {
    Format.TFLITE: ("com.google.ai.edge.litert:litert:1.4.0", "import org.tensorflow.lite.Interpreter\n"),
    Format.ONNX: (
        "com.microsoft.onnxruntime:onnxruntime-android:1.22.0",
        "import ai.onnxruntime.OnnxJavaType\nimport ai.onnxruntime.OnnxTensor\nimport ai.onnxruntime.OrtEnvironment\n"
        "import ai.onnxruntime.OrtSession\n",
    ),
}
_RESET = "        interpreter.resetVariableTensors()\n"


class Android(Mobile):
    """``Model.kt`` and what it stands on."""

    name: ClassVar[str] = "android"
    title: ClassVar[str] = "Android"
    language: ClassVar[str] = "Kotlin"
    suffix: ClassVar[str] = "kt"
    speech: ClassVar[Language] = KOTLIN
    resources: ClassVar[str] = "src/main/assets"
    project: ClassVar[str] = "build.gradle.kts"

    def _names(self, subject: Subject) -> dict[str, str]:
        return {"PACKAGE": _package(subject), "DEPENDENCY": _RUNTIMES[subject.artifact.format][0]}

    def _sources(self, subject: Subject) -> str:
        return f"src/main/java/{_package(subject).replace('.', '/')}"

    def _infos(self, tensors: Iterable[Tensor]) -> str:
        return "".join(map(_info, tensors))

    def _rule(self, one: Tensor, rule: InputSpec) -> str:
        fields = "".join(f"        {name} = {value},\n" for name, value in rule_fields(one, rule, KOTLIN).items())
        return f"\n    val {rule_name(one)} = {CLASSES[rule.kind]}(\n{fields}    )\n"

    def _model(self, subject: Subject) -> dict[str, str]:
        one, format_ = single(subject), subject.artifact.format
        predict, imports = "", _RUNTIMES[format_][1]
        if one is not None and one.rule is not None:
            kind = "columns" if one.rule.kind in ("table", "series") else one.rule.kind
            answer = "Spec.answer" if answer_facts(subject) is not None else ""
            predict = self._template(f"predict_{kind}.kt", RULE=rule_name(one), ANSWER=answer)
            imports = ("import android.graphics.Bitmap\n" if kind == "image" else "") + imports
        reset = {"RESET": _RESET if subject.card.stateful is None else ""} if format_ is Format.TFLITE else {}
        return {"IMPORTS": imports, "RUNNER": self._template(f"{format_}.kt", **reset), "PREDICT": predict}

    def _call(self, subject: Subject) -> str:
        one = single(subject)
        if one is None or one.rule is None:
            return f"model.run(listOf({', '.join(tensor.name for tensor in subject.inputs)}))"
        given = {"image": "bitmap", "audio": "samples, rate", "text": "sentence"}
        return f"model.predict({given.get(one.rule.kind, 'rows')})"

    def _compared(self, title: str, made: str, blob: Blob, tolerance: float) -> str:
        return f"        lines += compare({title}, {made}, {values(blob)}, {tolerance!r})\n"

    def _bytes(self, start: int, count: int) -> str:
        return f"bytes(blobs, {start}, {count})"

    def _picture(self, blob: Blob) -> str:
        height, width, channels = blob.shape
        return f"Picture(blobs.copyOfRange({blob.offset}, {blob.offset + blob.count}), {height}, {width}, {channels})"

    def _rate(self, rate: int) -> str:
        return f", {rate}"


def _package(subject: Subject) -> str:
    return f"com.example.{subject.identifier}"


def _info(one: Tensor) -> str:
    how = one.quantization
    scale = "" if how is None else f", {KOTLIN.number(how.scale)}, {how.zero_point}"
    shape = ", ".join(map(str, one.shape))
    names = f"{KOTLIN.text(one.name)}, {KOTLIN.text(one.file_name)}"
    type_ = f"Type.{TYPES[one.dtype].upper()}"
    return f"\n        TensorInfo({names}, {one.position}, {type_}, intArrayOf({shape}){scale}),\n    "


TARGET = Android()
