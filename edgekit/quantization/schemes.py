"""The schemes of ``quantize``: what each is, and the pass that makes its file.

Each value of ``--scheme`` is a name of the registry's table ``passes`` whose object is a :class:`Scheme`; packages add
theirs with an entry point of the group ``edgekit.passes``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgekit import registry
from edgekit.errors import UnsupportedError
from edgekit.passes import Pass
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.onnx import quantize as quantize_onnx
from edgekit.quantization.tflite import quantize as quantize_tflite
from edgekit.types import Artifact, Format


@dataclass(frozen=True, slots=True)
class SchemeRequest:
    """What a scheme's pass is made from.

    Attributes:
        model: the user's float file.
        ranges: of its tensors, of calibrated schemes.
        integer_io: inputs and outputs are to be integers.
        unsigned, signed: of 8 bits without a sign, or with one; without either as the format's activations are, int8 in
            TFLite, uint8 in ONNX.
        stateful: recurrent layers keep their state between calls.
        keep_float: operators that stay in float.
        float_kernels: operators whose integer kernels are slow on the target; None where nobody has looked.
        products: HARD_SWISH that become products.
    """

    model: Artifact
    ranges: Calibration | None = None
    integer_io: bool = False
    stateful: bool = False
    keep_float: frozenset[str] = frozenset()
    float_kernels: frozenset[str] | None = None
    products: frozenset[str] = frozenset()
    unsigned: bool = False
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Scheme:
    """One scheme.

    Attributes:
        name: the value of ``--scheme``.
        make: the pass that quantizes a file.
        formats: of the files it takes.
        refused: format -> why it is not supported there.
        calibrated: activations are integers, whose ranges come from samples.
        computes_on_integers: so that outputs may move by a step from one CPU to another.
        for_speed: a file that is slower than its parent is not published.
        adapts: operators that ruin the outputs stay in float by themselves.
        floor_db: decibels each output has to reach beside the parent's.
    """

    name: str
    make: Callable[[SchemeRequest], Pass]
    formats: tuple[Format, ...] = (Format.ONNX, Format.TFLITE)
    refused: Mapping[Format, str] = field(default_factory=dict)
    calibrated: bool = False
    computes_on_integers: bool = False
    for_speed: bool = False
    adapts: bool = False
    floor_db: float = 15.0


def scheme(name: str) -> Scheme:
    """The scheme called ``name``; raises UsageError where none is, and lists those there are."""
    return registry.entry("passes", name, Scheme, "scheme", "auto")


def schemes(format_: Format) -> list[Scheme]:
    """Every scheme for files of ``format_``."""
    return [one for one in registry.entries("passes", Scheme).values() if format_ in one.formats]


def check_scheme(name: str, format_: Format) -> Scheme:
    """The scheme called ``name``, for a file of ``format_``.

    Raises:
        UsageError: no scheme has this name.
        UnsupportedError: it does not take such files; with the reason and what there is.
    """
    found = scheme(name)
    if format_ in found.formats:
        return found
    there = ", ".join(one.name for one in schemes(format_))
    reason = found.refused.get(format_, "not for this format")
    raise UnsupportedError(f"scheme {name!r} is not supported for .{format_} files: {reason}. There are: {there}")


def _built_in(name: str, **facts: object) -> Scheme:
    def make(request: SchemeRequest) -> Pass:
        keep = request.keep_float
        if request.model.format is Format.ONNX:
            given = (name, request.ranges, request.integer_io)
            return quantize_onnx.QuantizeOnnx(
                *given,
                keep_float=keep,
                float_kernels=request.float_kernels or frozenset(),
                signed=request.signed,
            )
        return quantize_tflite.QuantizeTflite(
            name,
            request.ranges,
            request.integer_io,
            keep_float=keep,
            stateful=request.stateful,
            products=request.products - keep,
            float_kernels=request.float_kernels,
            unsigned=request.unsigned,
        )

    known = {Format.ONNX: quantize_onnx.SCHEMES, Format.TFLITE: quantize_tflite.SCHEMES}
    formats = tuple(format_ for format_, names in known.items() if name in names)
    return Scheme(name, make, formats, **facts)  # type: ignore[arg-type]  # its fields


INT8 = _built_in("int8", calibrated=True, computes_on_integers=True, for_speed=True, adapts=True)
INT8_DYNAMIC = _built_in("int8-dynamic", computes_on_integers=True, for_speed=True)
INT8_WEIGHTS = _built_in("int8-weights", adapts=True)
INT4_WEIGHTS = _built_in("int4-weights", floor_db=10.0)
INT16X8 = _built_in(
    "int16x8",
    refused={
        Format.ONNX: "onnxruntime's CPU provider has no 16-bit kernels and would run every operator in float; int8 is "
        "there, and .tflite files have int16x8"
    },
    calibrated=True,
    computes_on_integers=True,
    for_speed=True,
)
FP16 = _built_in("fp16", floor_db=30.0)
