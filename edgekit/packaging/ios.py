"""``--for ios``: Swift and resources for an app, on TensorFlow Lite or onnxruntime."""

from __future__ import annotations

from typing import ClassVar

from edgekit.errors import UnsupportedError
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

SWIFT = Language(lambda char: f"\\u{{{ord(char):x}}}", '\\"', "[{}]", "[{}]", "")
_RUNTIMES = {
    Format.TFLITE: ("TensorFlowLiteSwift", "~> 2.17", "import TensorFlowLite\n"),
    Format.ONNX: ("onnxruntime-objc", "~> 1.22", "import onnxruntime_objc\n"),
}
_ANSWERS = {
    "classification": "[(label: String, probability: Double)]", "multilabel": "[(label: String, probability: Double)]",
    "segmentation": "[Int]", "forecasting": "[Float]",
}  # fmt: skip
_RESET = "        try interpreter.allocateTensors()  // states begin at zero\n"


class Ios(Target):
    """``Model.swift`` and what it stands on."""

    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "text", "table", "series")
    language: ClassVar[str] = "Swift"

    def check(self, subject: Subject) -> None:
        fixed_sizes(subject, "ios")
        check_types(subject, "ios")
        lacking = {"bool", "int16"} if subject.artifact.format is Format.ONNX else {"int8", "int64"}
        for one in (*subject.inputs, *subject.outputs):
            if one.dtype in lacking:
                pod = _RUNTIMES[subject.artifact.format][0]
                raise UnsupportedError(
                    f"{one.name!r} holds {one.dtype}, and {pod} passes no such tensor; quantize with inputs and "
                    "outputs in float (without --integer-io), or package the other format"
                )

    def make(self, subject: Subject) -> Package:
        blobs = blobs_of(subject)
        pod, version, imports = _RUNTIMES[subject.artifact.format]
        names = {
            "HEAD": head(subject, "ios"), "POD": pod, "VERSION": version, "SUFFIX": str(subject.artifact.format),
        }  # fmt: skip
        code = {
            "Spec.swift": template("ios/Spec.swift", **names, **_spec(subject)),
            "Preprocess.swift": template("ios/Preprocess.swift", **names),
            "Model.swift": template("ios/Model.swift", **names, **_model(subject, imports)),
            "SelfTest.swift": template("ios/SelfTest.swift", **names, **_selftest(subject)),
        }
        resources = {
            subject.model_file: subject.content,
            "labels.txt": "".join(f"{label}\n" for label in subject.labels).encode(),
            FILE: blobs.content,
        }
        files = {f"Resources/{name}": data for name, data in resources.items() if data}
        files |= {f"Sources/{name}": text.encode() for name, text in code.items()}
        files["Podfile"] = template("ios/Podfile", **names).encode()
        usage = template("ios/README.md", CALL=_call(subject), **names)
        files["README.md"] = readme(subject, "iOS", usage)
        return Package(files)


def _spec(subject: Subject) -> dict[str, str]:
    facts = answer_facts(subject)
    return {
        "MODEL": SWIFT.text(subject.model_file),
        "INPUTS": ", ".join(map(_info, subject.inputs)),
        "OUTPUTS": ", ".join(map(_info, subject.outputs)),
        "LABELS": ", ".join(map(SWIFT.text, subject.labels)),
        "RULES": "".join(_rule(one, one.rule) for one in subject.made if one.rule is not None),
        "ANSWER": "" if facts is None else template(f"ios/{facts.pop('kind')}.swift", **facts),
    }


def _info(one: Tensor) -> str:
    how = one.quantization
    scale, zero = ("0", 0) if how is None else (SWIFT.number(how.scale), how.zero_point)
    names = f"name: {SWIFT.text(one.name)}, fileName: {SWIFT.text(one.file_name)}"
    return (
        f"\n        TensorInfo(\n            {names}, position: {one.position}, type: .{TYPES[one.dtype]}, "
        f"shape: {list(one.shape)},\n            scale: {scale}, zeroPoint: {zero})"
    )


def _rule(one: Tensor, rule: InputSpec) -> str:
    fields = ",\n        ".join(f"{name}: {value}" for name, value in rule_fields(one, rule, SWIFT).items())
    return f"\n    public static let {rule_name(one)} = {CLASSES[rule.kind]}(\n        {fields})\n"


def _model(subject: Subject, imports: str) -> dict[str, str]:
    one, format_ = single(subject), subject.artifact.format
    predict, facts = "", answer_facts(subject)
    if one is not None and one.rule is not None:
        kind = "columns" if one.rule.kind in ("table", "series") else one.rule.kind
        answer = "" if facts is None else "Spec.answer"
        type_ = "[[Float]]" if facts is None else _ANSWERS[facts["kind"]]
        predict = template(f"ios/predict_{kind}.swift", RULE=rule_name(one), ANSWER=answer, TYPE=type_)
        imports = ("import CoreGraphics\n" if kind == "image" else "") + imports
    reset = {"RESET": _RESET if subject.card.stateful is None else ""} if format_ is Format.TFLITE else {}
    return {"IMPORTS": imports, "RUNNER": template(f"ios/{format_}.swift", **reset), "PREDICT": predict}


def _call(subject: Subject) -> str:
    one = single(subject)
    if one is None or one.rule is None:
        return f"model.run([{', '.join(tensor.name for tensor in subject.inputs)}])"
    given = {"image": "image", "audio": "samples, samplingRate: rate", "text": "sentence"}
    return f"model.predict({given.get(one.rule.kind, 'rows')})"


def _selftest(subject: Subject) -> dict[str, str]:
    blobs = blobs_of(subject)
    feed = [f"part(blobs, {blob.offset}, {array.nbytes})" for blob, array in zip(blobs.feed, subject.feed, strict=True)]
    expected = "".join(
        f"        lines.append(try compare({SWIFT.text('output ' + subject.outputs[k].name)}, made[{k}], "
        f"floats(blobs, {blob.offset}, {blob.count}), {blobs.tolerance!r}))\n"
        for k, blob in enumerate(blobs.expected)
        if blob.count
    )
    samples = ""
    for one in blobs.samples:
        tensor = next(tensor for tensor in subject.inputs if tensor.name == one.input)
        assert tensor.rule is not None
        given = SWIFT.text(one.text) if one.text is not None else _raw(tensor.rule, one.raw)
        trying = "" if tensor.rule.kind == "image" else "try "
        samples += (
            f"        lines.append(try compare({SWIFT.text('preprocessing of ' + one.input)}, "
            f"{trying}Spec.{rule_name(tensor)}.encode({given}), {_values(one.tensor)}, {one.tolerance!r}))\n"
        )
    return {"FEED": ", ".join(feed), "EXPECTED": expected, "SAMPLES": samples}


def _raw(rule: InputSpec, blob: Blob | None) -> str:
    assert blob is not None
    if rule.kind == "image":
        height, width, channels = blob.shape
        pixels = f"[UInt8](part(blobs, {blob.offset}, {blob.count}))"
        return f"Picture(pixels: {pixels}, height: {height}, width: {width}, channels: {channels})"
    rate = f", samplingRate: {rule.params['rate']}" if rule.kind == "audio" else ""
    return f"{_values(blob)}{rate}"


def _values(blob: Blob) -> str:
    if blob.dtype == "float32":
        return f"floats(blobs, {blob.offset}, {blob.count})"
    return f"integers(blobs, {blob.offset}, {blob.count}, {8 if blob.dtype == 'int64' else 4})"


TARGET = Ios()
