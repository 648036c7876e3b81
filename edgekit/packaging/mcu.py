"""``--for mcu``: a C array, the arena's size, the operators to register, for TensorFlow Lite for Microcontrollers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from edgekit.devices import open_worker
from edgekit.devices.mcu import measured_arena
from edgekit.environments import TFLM
from edgekit.errors import ParityError, UnsupportedError
from edgekit.flatbuffer_reader import has_outside_buffers
from edgekit.graph import micro
from edgekit.graph.tflite import held_bytes, holds_data, read_tflite
from edgekit.packaging.base import Package, Subject, Target, Tensor, fixed_sizes, head, identifier, template
from edgekit.packaging.c import image_size, number, numbers, preprocessing, quoted, rules
from edgekit.packaging.readme import readme
from edgekit.packaging.samples import sample_of
from edgekit.quality.contents import operators
from edgekit.runtime.quantization import dequantize
from edgekit.types import Array, Format, InputSpec

_TYPES: Mapping[str, str] = {
    "float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int32_t",
}  # fmt: skip
_BESIDE = 256
"""Bytes beside its values that a tensor or an operator takes of an arena: structures of 64-bit builds (measured: 60 a
tensor, 64 an operator, and what kernels prepare)."""


class Mcu(Target):
    """``model_data.cc``, ``model.h``, ``preprocess.h``, a self-test."""

    formats: ClassVar[tuple[Format, ...]] = (Format.TFLITE,)
    kinds: ClassVar[tuple[str, ...]] = ("image", "audio", "table", "series")
    language: ClassVar[str] = "C"

    def check(self, subject: Subject) -> None:
        fixed_sizes(subject, "mcu")
        if has_outside_buffers(subject.content):
            raise UnsupportedError(
                f"{subject.artifact.path} has weights behind its flatbuffer, where TensorFlow Lite for "
                "Microcontrollers does not look; quantize it again with --for mcu"
            )
        lacking = micro.missing(operators(subject.artifact))
        if lacking:
            raise UnsupportedError(
                f"{subject.artifact.path} has operators that TensorFlow Lite for Microcontrollers has not: "
                f"{', '.join(lacking)}; write these layers with others, or package the file for another target"
            )
        for one in (*subject.inputs, *subject.outputs):
            if one.dtype not in _TYPES:
                raise UnsupportedError(f"{one.name!r} holds {one.dtype}, and --for mcu passes {', '.join(_TYPES)}")

    def make(self, subject: Subject) -> Package:
        arena, words, notes = _arena(subject)
        register = [micro.method(name) for name in operators(subject.artifact)]
        names = {
            "HEAD": head(subject, "mcu"), "NAME": subject.identifier, "ARENA_WORDS": words,
            "GUARD": f"EDGEKIT_{subject.identifier.upper()}_H",
        }  # fmt: skip
        usage = template(
            "mcu/README.md", CALL=_call(subject), BYTES=f"{len(subject.content):,}", ARENA=f"{arena:,}",
            OPERATORS=", ".join(register), **names,
        )  # fmt: skip
        tests = _tests(subject)
        files = {
            "model_data.cc": _array(subject),
            "model_data.h": f"// {names['HEAD']}\n#pragma once\n{_DECLARED.format(name=subject.identifier)}",
            "model.h": template("mcu/model.h", ARENA=str(arena), **names, **_model(subject, register)),
            "preprocess.h": template(
                "mcu/preprocess.h", PARTS=preprocessing(subject, resizes=False) + "\n" + rules(subject), **names
            ),
            "selftest.cc": template("mcu/selftest.cc", **names, **tests.code),
            "selftest_data.h": tests.data,
        }
        made = {name: text.encode() for name, text in files.items()}
        made["README.md"] = readme(subject, "microcontrollers", usage, notes)
        return Package(made, notes, {"arena_bytes": arena, "operators": register})


_DECLARED = """#ifdef __cplusplus
extern "C" {{
#endif
extern const unsigned char {name}_model[];
extern const unsigned int {name}_model_bytes;
#ifdef __cplusplus
}}
#endif
"""


def _arena(subject: Subject) -> tuple[int, str, tuple[str, ...]]:
    """Bytes of the arena, where the number comes from, and what to know.

    Raises:
        ParityError: TensorFlow Lite for Microcontrollers gives other outputs than the card promises.
        InputError, DeviceError: it does not run the file.
    """
    if TFLM.python() is None:
        bound = _bound(subject)
        words = "an estimate, not measured: all tensors side by side; the target needs less, or says what it lacks"
        note = (
            f"the arena of {bound:,} bytes is an estimate (all tensors side by side), and nothing was run on "
            f"TensorFlow Lite for Microcontrollers; to measure it and run the self-test: {TFLM.install}"
        )
        return bound, words, (note,)
    with open_worker("mcu") as client:
        client.load(subject.artifact.path, raw=True, card=subject.card)
        outputs = client.run({one.name: array for one, array in zip(subject.inputs, subject.feed, strict=True)})
        arena = measured_arena(client)
    for one, wanted in zip(subject.outputs, subject.expected, strict=True):
        array = outputs[one.name]
        real = array if one.quantization is None else dequantize(array, one.quantization)
        off = np.abs(real.astype(np.float64).ravel()[: wanted.size] - wanted).max(initial=0.0)
        if not off <= subject.tolerance:
            raise ParityError(
                f"{subject.artifact.path} does not compute on TensorFlow Lite for Microcontrollers what its card "
                f"promises: {one.name!r} is off by {off:.3g}, {subject.tolerance:.3g} is allowed; nothing was "
                "published. Quantize it with --for mcu"
            )
    words = "measured with tflite-micro on a 64-bit machine, where the self-test passed; a 32-bit target needs no more"
    return arena.bytes, words, ()


def _bound(subject: Subject) -> int:
    """Bytes of all tensors that are computed, side by side, and what stands beside them."""
    model = read_tflite(subject.artifact.path)
    total = 0
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            total += _BESIDE
            if not holds_data(model, tensor) and held_bytes(model, tensor) == 0:
                size = math.prod(int(d) for d in (tensor.shape if tensor.shape is not None else ()))
                total += -(-size * 4 // 16) * 16  # at most four bytes a value, but for int64
        total += _BESIDE * len(graph.operators)
    return -(-total // 1024) * 1024


def _array(subject: Subject) -> str:
    content = subject.content
    return (
        f'// {head(subject, "mcu")}\n#include "model_data.h"\n\n'
        f'extern "C" {{\nalignas(16) const unsigned char {subject.identifier}_model[] = {{'
        f"{numbers(f'0x{byte:02x}' for byte in content)}}};\n"
        f"const unsigned int {subject.identifier}_model_bytes = {len(content)};\n}}\n"
    )


def _model(subject: Subject, register: list[str]) -> dict[str, str]:
    labels = ", ".join(quoted(label) for label in subject.labels)
    answers = subject.card.task.kind == "classification"
    return {
        "COUNT": str(len(register)),
        "REGISTER": "".join(f"  if (resolver.{one}() != kTfLiteOk) return kTfLiteError;\n" for one in register),
        "LABELS": f"constexpr const char *kLabels[] = {{{labels}}};\n\n" if labels else "",
        "PLACES": "".join(_places(subject)),
        "ENCODERS": "".join(_encoder(one, one.rule) for one in subject.made if one.rule is not None),
        "ANSWER": template("mcu/answer.h") if answers else "",
    }


def _places(subject: Subject) -> Iterator[str]:
    for role, side in (("Input", subject.inputs), ("Output", subject.outputs)):
        for one in side:
            how = one.quantization
            held = "" if how is None else f", real = {how.scale:.6g} * (integer - {how.zero_point})"
            shape = "x".join(map(str, one.shape))
            yield f"constexpr int k{role}_{identifier(one.name)} = {one.position};  // {one.dtype} {shape}{held}\n"


def _encoder(one: Tensor, rule: InputSpec) -> str:
    kind = "columns" if rule.kind in ("table", "series") else rule.kind
    values: dict[str, Any] = {"NAME": identifier(one.name), "COUNT": math.prod(one.shape)}
    if kind == "image":
        values["HEIGHT"], values["WIDTH"] = image_size(one, rule)
        values["CHANNELS"] = rule.channels or 3
        values["COLOR"] = "grey" if rule.channels == 1 else "RGB"
    elif kind == "audio":
        values["RATE"] = rule.params["rate"]
    else:
        values |= {"COLUMNS": one.shape[-1], "ROWS": math.prod(one.shape) // one.shape[-1]}
    return template(f"mcu/encode_{kind}.h", **{key: str(value) for key, value in values.items()})


def _call(subject: Subject) -> str:
    given = {"image": "pixels", "audio": "samples, count"}
    lines = []
    for one in subject.inputs:
        tensor = f"interpreter.input({subject.identifier}::kInput_{identifier(one.name)})"
        if one.rule is None:
            lines.append(f"{subject.identifier}::store({tensor}, 0, value);  // each value of {one.name}\n")
        else:
            raw = given.get(one.rule.kind, "rows")
            lines.append(f"{subject.identifier}::encode_{identifier(one.name)}({raw}, {tensor});\n")
    return "".join(lines)


class _Tests:
    """The self-test: the arrays of ``selftest_data.h``, and lines of ``selftest.cc``."""

    def __init__(self) -> None:
        self.data = ""
        self.code = {"SAMPLES": "", "FEED": "", "EXPECTED": ""}

    def array(self, name: str, values: Array) -> None:
        kind = _TYPES[values.dtype.name]
        spelled = (number(v) for v in values.ravel()) if kind == "float" else (str(v) for v in values.ravel().tolist())
        self.data += f"static const {kind} {name}[] = {{{numbers(spelled)}}};\n"


def _tests(subject: Subject) -> _Tests:
    tests = _Tests()
    tests.data = f"// {head(subject, 'mcu')}\n#pragma once\n#include <cstdint>\n\n"
    for one, array in zip(subject.inputs, subject.feed, strict=True):
        name = identifier(one.name)
        tests.array(f"feed_{name}", array)
        tests.code["FEED"] += (
            f"  std::memcpy(interpreter.input(kInput_{name})->data.raw, feed_{name}, sizeof feed_{name});\n"
        )
        if one.rule is not None:
            _sample(tests, one, one.rule)
    for one, wanted in zip(subject.outputs, subject.expected, strict=True):
        if wanted.size:
            name = identifier(one.name)
            tests.array(f"wanted_{name}", wanted.astype(np.float32))
            tests.code["EXPECTED"] += (
                f"  failed += compare({quoted('output ' + one.name)}, {wanted.size}, wanted_{name}, "
                f"{subject.tolerance!r},\n"
                f"                    [&](size_t k) {{ return load(interpreter.output(kOutput_{name}), k); }});\n"
            )
    return tests


def _sample(tests: _Tests, one: Tensor, rule: InputSpec) -> None:
    """A raw sample that the preprocessing makes the tensor of, whatever was in it before."""
    sample = sample_of(rule, one.shape, one.dtype, exact=True)
    assert sample is not None and not isinstance(sample.raw, str)
    name, raw = identifier(one.name), sample.raw
    if rule.kind == "series":
        raw = raw[len(raw) - one.shape[1] :]
    tensor, step = sample.tensor, 0.0
    if one.quantization is not None:  # what lies outside the integers is clipped
        how, limits = one.quantization, np.iinfo(one.quantization.dtype)
        step = how.scale
        low, high = ((limit - how.zero_point) * step for limit in (limits.min, limits.max))
        tensor = np.clip(tensor, low, high)
    tests.array(f"raw_{name}", raw)
    tests.array(f"tensor_{name}", tensor)
    given = f"raw_{name}, {raw.size}" if rule.kind == "audio" else f"raw_{name}"
    tests.code["SAMPLES"] += (
        f"  encode_{name}({given}, interpreter.input(kInput_{name}));\n"
        f"  failed += compare({quoted('preprocessing of ' + one.name)}, {sample.tensor.size}, tensor_{name}, "
        f"{sample.tolerance + step:.6g},\n"
        f"                    [&](size_t k) {{ return load(interpreter.input(kInput_{name}), k); }});\n"
    )


TARGET = Mcu()
