"""``--for android``: Kotlin and assets for an app module, on LiteRT or onnxruntime."""

from __future__ import annotations

from typing import ClassVar

from edgekit.packaging.base import Package, Subject, Target, Tensor, fixed_sizes, head, template
from edgekit.packaging.blobs import FILE, Blob, blobs_of
from edgekit.packaging.mobile import (
    CLASSES,
    TYPES,
    Language,
    answer_facts,
    check_types,
    rule_fields,
    rule_name,
    single,
)
from edgekit.packaging.readme import readme
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


class Android(Target):
    """``Model.kt`` and what it stands on."""

    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "text", "table", "series")
    language: ClassVar[str] = "Kotlin"

    def check(self, subject: Subject) -> None:
        fixed_sizes(subject, "android")
        check_types(subject, "android")

    def make(self, subject: Subject) -> Package:
        blobs = blobs_of(subject)
        dependency, imports = _RUNTIMES[subject.artifact.format]
        names = {
            "HEAD": head(subject, "android"), "PACKAGE": f"com.example.{subject.identifier}", "DEPENDENCY": dependency,
            "SUFFIX": str(subject.artifact.format),
        }  # fmt: skip
        code = {
            "Spec.kt": template("android/Spec.kt", **names, **_spec(subject)),
            "Preprocess.kt": template("android/Preprocess.kt", **names),
            "Model.kt": template("android/Model.kt", **names, **_model(subject, imports)),
            "SelfTest.kt": template("android/SelfTest.kt", **names, **_selftest(subject)),
        }
        assets = {
            subject.model_file: subject.content,
            "labels.txt": "".join(f"{label}\n" for label in subject.labels).encode(),
            FILE: blobs.content,
        }
        place = f"src/main/java/{names['PACKAGE'].replace('.', '/')}"
        files = {f"src/main/assets/{name}": data for name, data in assets.items() if data}
        files |= {f"{place}/{name}": text.encode() for name, text in code.items()}
        files["build.gradle.kts"] = template("android/build.gradle.kts", **names).encode()
        usage = template("android/README.md", CALL=_call(subject), **names)
        files["README.md"] = readme(subject, "Android", usage)
        return Package(files)


def _spec(subject: Subject) -> dict[str, str]:
    facts = answer_facts(subject)
    return {
        "MODEL": KOTLIN.text(subject.model_file),
        "INPUTS": "".join(map(_info, subject.inputs)),
        "OUTPUTS": "".join(map(_info, subject.outputs)),
        "LABELS": ", ".join(map(KOTLIN.text, subject.labels)),
        "RULES": "".join(_rule(one, one.rule) for one in subject.made if one.rule is not None),
        "ANSWER": "" if facts is None else template(f"android/{facts.pop('kind')}.kt", **facts),
    }


def _info(one: Tensor) -> str:
    how = one.quantization
    scale = "" if how is None else f", {KOTLIN.number(how.scale)}, {how.zero_point}"
    shape = ", ".join(map(str, one.shape))
    names = f"{KOTLIN.text(one.name)}, {KOTLIN.text(one.file_name)}"
    type_ = f"Type.{TYPES[one.dtype].upper()}"
    return f"\n        TensorInfo({names}, {one.position}, {type_}, intArrayOf({shape}){scale}),\n    "


def _rule(one: Tensor, rule: InputSpec) -> str:
    fields = "".join(f"        {name} = {value},\n" for name, value in rule_fields(one, rule, KOTLIN).items())
    return f"\n    val {rule_name(one)} = {CLASSES[rule.kind]}(\n{fields}    )\n"


def _model(subject: Subject, imports: str) -> dict[str, str]:
    one, format_ = single(subject), subject.artifact.format
    predict, reset = "", format_ is Format.TFLITE and subject.card.stateful is None
    if one is not None and one.rule is not None:
        kind = "columns" if one.rule.kind in ("table", "series") else one.rule.kind
        answer = "Spec.answer" if answer_facts(subject) is not None else ""
        predict = template(f"android/predict_{kind}.kt", RULE=rule_name(one), ANSWER=answer)
        imports = ("import android.graphics.Bitmap\n" if kind == "image" else "") + imports
    runner = template(
        f"android/{format_}.kt", **({"RESET": _RESET if reset else ""} if format_ is Format.TFLITE else {})
    )
    return {"IMPORTS": imports, "RUNNER": runner, "PREDICT": predict}


def _call(subject: Subject) -> str:
    one = single(subject)
    if one is None or one.rule is None:
        return f"model.run(listOf({', '.join(tensor.name for tensor in subject.inputs)}))"
    given = {"image": "bitmap", "audio": "samples, rate", "text": "sentence"}
    return f"model.predict({given.get(one.rule.kind, 'rows')})"


def _selftest(subject: Subject) -> dict[str, str]:
    blobs = blobs_of(subject)
    feed = [
        f"bytes(blobs, {blob.offset}, {array.nbytes})" for blob, array in zip(blobs.feed, subject.feed, strict=True)
    ]
    expected = "".join(
        f"        lines += compare({KOTLIN.text('output ' + subject.outputs[k].name)}, made[{k}], "
        f"floats(blobs, {blob.offset}, {blob.count}), {blobs.tolerance!r})\n"
        for k, blob in enumerate(blobs.expected)
        if blob.count
    )
    samples = ""
    for one in blobs.samples:
        tensor = next(tensor for tensor in subject.inputs if tensor.name == one.input)
        assert tensor.rule is not None
        given = KOTLIN.text(one.text) if one.text is not None else _raw(tensor.rule, one.raw)
        title = KOTLIN.text("preprocessing of " + one.input)
        samples += (
            f"        lines += compare({title}, Spec.{rule_name(tensor)}.encode({given}), {_values(one.tensor)}, "
            f"{one.tolerance!r})\n"
        )
    return {"FEED": ", ".join(feed), "EXPECTED": expected, "SAMPLES": samples}


def _raw(rule: InputSpec, blob: Blob | None) -> str:
    assert blob is not None
    if rule.kind == "image":
        height, width, channels = blob.shape
        end = blob.offset + blob.count
        return f"Picture(blobs.copyOfRange({blob.offset}, {end}), {height}, {width}, {channels})"
    rate = f", {rule.params['rate']}" if rule.kind == "audio" else ""
    return f"{_values(blob)}{rate}"


def _values(blob: Blob) -> str:
    if blob.dtype == "float32":
        return f"floats(blobs, {blob.offset}, {blob.count})"
    return f"integers(blobs, {blob.offset}, {blob.count}, {8 if blob.dtype == 'int64' else 4})"


TARGET = Android()
