"""``--for cpp``: one header with all that is the model's own, on onnxruntime's C API or TFLite's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.packaging import unicode
from edgekit.packaging.base import (
    Package,
    Subject,
    Target,
    Tensor,
    fixed_sizes,
    head,
    identifier,
    score_map,
    template,
)
from edgekit.packaging.blobs import FILE, Blob, blobs_of
from edgekit.packaging.c import image_size, number, numbers, preprocessing, quoted, rules
from edgekit.packaging.readme import readme
from edgekit.taskfields import gives_logits
from edgekit.types import Format, InputSpec

TYPES: Mapping[str, str] = {
    "float32": "float32", "int8": "int8", "uint8": "uint8", "int16": "int16", "int32": "int32", "int64": "int64",
    "bool": "boolean",
}  # fmt: skip
"""numpy dtype -> what the header calls it."""
_C_TYPES = {"float32": "float", "uint8": "uint8_t", "int32": "int32_t"}
_USAGE = {
    "image": "a picture as .ppm or .pgm", "audio": "a .wav file of 16-bit samples", "text": "a sentence",
    "table": "a .csv file with a row of numbers", "series": "a .csv file of numbers, the newest row last",
}  # fmt: skip
_RUNTIMES = {
    Format.ONNX: {
        "RUNTIME": "onnxruntime with its C API", "INCLUDE": "#include <onnxruntime_c_api.h>", "SDK": "ONNXRUNTIME",
        "HEADER": "onnxruntime_c_api.h", "LIBRARIES": "onnxruntime",
    },
    Format.TFLITE: {
        "RUNTIME": "TensorFlow Lite with its C API", "INCLUDE": "#include <tensorflow/lite/c/c_api.h>", "SDK": "TFLITE",
        "HEADER": "tensorflow/lite/c/c_api.h", "LIBRARIES": "tensorflowlite_c tensorflow-lite",
    },
}  # fmt: skip
_EXPERIMENTAL = "\n#include <tensorflow/lite/c/c_api_experimental.h> // TfLiteInterpreterResetVariableTensors"
_RESET = '    check(TfLiteInterpreterResetVariableTensors(interpreter_), "begin anew");\n'


class Cpp(Target):
    """``model.h``, a program, CMake."""

    formats: ClassVar[tuple[Format, ...]] = (Format.ONNX, Format.TFLITE)
    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "text", "table", "series")
    language: ClassVar[str] = "C++"

    def check(self, subject: Subject) -> None:
        fixed_sizes(subject, "cpp")
        for one in (*subject.inputs, *subject.outputs):
            if one.dtype not in TYPES:
                raise UnsupportedError(
                    f"{one.name!r} holds {one.dtype}, and --for cpp passes {', '.join(TYPES)}; package it --for python"
                )

    def make(self, subject: Subject) -> Package:
        names = {"HEAD": head(subject, "cpp"), "NAME": subject.identifier, "MODEL": subject.model_file}
        names |= {"FIRST": identifier(subject.inputs[0].name), **_RUNTIMES[subject.artifact.format]}
        names["USAGE"] = _usage(subject)
        blobs = blobs_of(subject)
        usage = template("cpp/README.md", CALL=_call(subject), **{**names, "ANSWER": _shown_answer(subject)})
        files = {
            subject.model_file: subject.content,
            "labels.txt": "".join(f"{label}\n" for label in subject.labels).encode(),
            FILE: blobs.content,
            "model.h": _header(subject, names).encode(),
            "main.cpp": _main(subject, names).encode(),
            "CMakeLists.txt": template("cpp/CMakeLists.txt", **names).encode(),
            "README.md": readme(subject, "C++", usage),
        }
        return Package({name: data for name, data in files.items() if data})


def _single(subject: Subject) -> Tensor | None:
    """The only input, where it is made of a raw sample."""
    return subject.made[0] if len(subject.inputs) == len(subject.made) == 1 else None


def _usage(subject: Subject) -> str:
    one = _single(subject)
    return "nothing else: its inputs are arrays" if one is None or one.rule is None else _USAGE[one.rule.kind]


def _header(subject: Subject, names: Mapping[str, str]) -> str:
    format_ = subject.artifact.format
    parts = [preprocessing(subject, resizes=True)]
    if any(one.rule is not None and one.rule.kind == "text" for one in subject.made):
        parts.append(_text())
    reset = format_ is Format.TFLITE and subject.card.stateful is None
    run = template("cpp/run.h")
    runner = template(f"cpp/{format_}.h", NAME=names["NAME"], RUN=run.rstrip("\n"), RESET=_RESET if reset else "")
    values = {
        **names,
        "GUARD": f"EDGEKIT_{names['NAME'].upper()}_H",
        "INCLUDE": names["INCLUDE"] + (_EXPERIMENTAL if reset else ""),
        "INPUTS": ", ".join(_info(one) for one in subject.inputs),
        "OUTPUTS": ", ".join(_info(one) for one in subject.outputs),
        "LABELS": numbers(quoted(label) for label in subject.labels),
        "PARTS": "\n".join([*parts, rules(subject)]),
        "ENCODERS": "\n".join(_encoder(one, one.rule) for one in subject.made if one.rule is not None),
        "ANSWER": _answer(subject),
        "RUNNER": runner,
    }
    return template("cpp/model.h", **values)


def _text() -> str:
    def pairs(runs: tuple[tuple[int, ...], ...]) -> str:
        return numbers("{" + ", ".join(map(str, run)) + "}" for run in runs)

    return template(
        "cpp/text.h", UNICODE=unicode.VERSION, LETTERS=pairs(unicode.letters()), NUMERALS=pairs(unicode.numerals()),
        CAPITALS=pairs(unicode.capitals()),
    )  # fmt: skip


def _info(one: Tensor) -> str:
    how = one.quantization
    quantized = f"true, {number(how.scale)}, {how.zero_point}" if how is not None else "false, 1.0f, 0"
    shape = ", ".join(map(str, one.shape))
    names = f"{quoted(one.name)}, {quoted(one.file_name)}"
    return f"\n  {{{names}, {one.position}, Type::{TYPES[one.dtype]}, {{{shape}}}, {quantized}}}"


def _encoder(one: Tensor, rule: InputSpec) -> str:
    """The function that makes the values of an input of a raw sample."""
    values: dict[str, Any] = {"NAME": identifier(one.name), "COUNT": math.prod(one.shape)}
    kind = "columns" if rule.kind in ("table", "series") else rule.kind
    if kind == "image":
        values["HEIGHT"], values["WIDTH"] = image_size(one, rule)
    elif kind == "audio":
        values["RATE"] = rule.params["rate"]
    elif kind == "columns":
        listed = "".join(c if c.isprintable() and c != "\\" else "?" for c in ", ".join(rule.columns[:20]))
        values |= {"COLUMNS": one.shape[-1], "LISTED": listed or f"{one.shape[-1]}"}
    return template(f"cpp/encode_{kind}.h", **{key: str(value) for key, value in values.items()})


def _answer(subject: Subject) -> str:
    task = subject.card.task
    if task.kind in ("classification", "multilabel"):
        return template(f"cpp/{task.kind}.h", **_scores(subject))
    found = score_map(subject)
    if found is not None:
        one, axis = found
        classes, rest = one.shape[axis], [size for k, size in enumerate(one.shape[1:], 1) if k != axis]
        step = rest[0] * rest[1] if axis == 1 else 1
        values = {"CLASSES": classes, "HEIGHT": rest[0], "WIDTH": rest[1], "STEP": step}
        values |= {"PIXEL": 1 if axis == 1 else classes, "OUTPUT": subject.outputs.index(one)}
        return template("cpp/segmentation.h", **{key: str(value) for key, value in values.items()})
    if task.kind == "forecasting":
        mean, std = (number(float(task.params.get(key, usual))) for key, usual in (("mean", 0.0), ("std", 1.0)))
        return template("cpp/forecasting.h", MEAN=mean, STD=std)
    return ""


def _scores(subject: Subject) -> dict[str, str]:
    if subject.card.task.kind == "classification":
        return {}
    params = subject.card.task.params
    logits = gives_logits(params)
    return {
        "PROBABILITY": "1.0 / (1.0 + std::exp(-(double)scores[k]))" if logits else "(double)scores[k]",
        "THRESHOLD": repr(float(params.get("threshold", 0.5))),
    }


def _call(subject: Subject) -> str:
    calls = {"image": "pixels, height, width, 3", "audio": "samples, rate", "text": "sentence"}
    return ", ".join(
        f"{subject.identifier}::encode_{identifier(one.name)}({calls.get(one.rule.kind, 'rows')})"
        if one.rule is not None
        else f"values of {one.name}"
        for one in subject.inputs
    )


def _shown_answer(subject: Subject) -> str:
    return f"auto answer = {subject.identifier}::answer(outputs);\n" if _answer(subject) else ""


def _main(subject: Subject, names: Mapping[str, str]) -> str:
    blobs, one = blobs_of(subject), _single(subject)
    samples = "".join(_sample_test(subject, k) for k in range(len(blobs.samples)))
    feed = "".join(
        f"  feed.push_back(array<uint8_t>(blobs, {{{blob.offset}, {blob.count * _width(blob)}}}));\n"
        for blob in blobs.feed
    )
    expected = "".join(
        f"  failed += compare({quoted('output ' + subject.outputs[k].name)}, real(made[{k}], kOutputs[{k}]), "
        f"{_array(blob)}, {blobs.tolerance!r});\n"
        for k, blob in enumerate(blobs.expected)
        if blob.count
    )
    reader = answer = ""
    if one is not None and one.rule is not None:
        kind = "columns" if one.rule.kind in ("table", "series") else one.rule.kind
        reader = template(f"cpp/read_{kind}.cpp", FIRST=names["FIRST"])
        answer = f'    Model model(folder + "/{subject.model_file}");\n'
        answer += "    const auto outputs = model.run({read(given[0])});\n"
        answer += _printing(subject)
    return template(
        "cpp/main.cpp", SAMPLES=samples, FEED=feed, EXPECTED=expected, READERS=reader, **{**names, "ANSWER": answer}
    )


def _width(blob: Blob) -> int:
    return np.dtype(blob.dtype).itemsize


def _array(blob: Blob) -> str:
    return f"array<{_C_TYPES[blob.dtype]}>(blobs, {{{blob.offset}, {blob.count}}})"


def _sample_test(subject: Subject, k: int) -> str:
    sample = blobs_of(subject).samples[k]
    one = next(tensor for tensor in subject.inputs if tensor.name == sample.input)
    assert one.rule is not None
    name = identifier(one.name)
    if sample.text is not None:
        given = quoted(sample.text)
    else:
        assert sample.raw is not None
        given = _array(sample.raw)
        if one.rule.kind == "image":
            height, width, channels = sample.raw.shape
            given = f"{given}.data(), {height}, {width}, {channels}"
        elif one.rule.kind == "audio":
            given = f"{given}, {one.rule.params['rate']}"
    wanted = _array(sample.tensor) if sample.tensor.dtype == "float32" else _integers(sample.tensor)
    title = quoted("preprocessing of " + one.name)
    return f"  failed += compare({title}, encode_{name}({given}), {wanted}, {sample.tolerance!r});\n"


def _integers(blob: Blob) -> str:
    """The integers of a text as real values."""
    kind = {"int32": "int32_t", "int64": "int64_t"}[blob.dtype]
    values = f"array<{kind}>(blobs, {{{blob.offset}, {blob.count}}})"
    return f"[&] {{ auto row = {values}; return Values(row.begin(), row.end()); }}()"


def _printing(subject: Subject) -> str:
    kind = subject.card.task.kind
    if kind in ("classification", "multilabel"):
        return '    for (const auto &one : answer(outputs)) std::printf("%s %.4f\\n", one.first.c_str(), one.second);\n'
    if score_map(subject) is not None:
        return "    for (int c : answer(outputs)) std::cout << c << ' ';\n    std::cout << '\\n';\n"
    first = "answer(outputs)" if kind == "forecasting" else "outputs[0]"
    return f"    for (float v : {first}) std::cout << v << '\\n';\n"


TARGET = Cpp()
