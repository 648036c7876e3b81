"""Arithmetic with fewer bits than the file's float32: what it is called, and how far results may then be off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgekit.types import SelfTest

UNIT: Final[Mapping[str, float]] = {"fp16": 2.0**-11, "f16": 2.0**-11, "tf32": 2.0**-11, "bf16": 2.0**-8}
"""Name -> unit roundoff (IEEE 754 binary16; NVIDIA's TF32 with the same 10 bits of fraction; bfloat16 with 7)."""
GROWTH: Final = 16.0
"""How many roundoffs a result may be off. Each of n values in a row is rounded once, and errors without a common sign
grow with sqrt(n) (Higham, Accuracy and Stability, 2002, ch. 2.8): 7 for 50 layers; a wrong weight shows at 1e-1 and
more."""
_BY_ITSELF: Final[Mapping[str, str]] = {"onnxruntime:tensorrt": "tf32"}
"""Runtimes that take fewer bits where nobody asked, and offer no switch."""


def precision_of(runtime: str | None) -> str:
    """``fp16`` of ``torch:compile:fp16``; ``float32`` of a runtime that computes as the file says."""
    name = runtime or ""
    last = name.rpartition(":")[2]
    return last if last in UNIT else _BY_ITSELF.get(name, "float32")


def in_float32(runtime: str) -> str:
    """The same runtime in float32: ``openvino`` of ``openvino:bf16``; ``runtime`` itself where it is that."""
    base, _, last = runtime.rpartition(":")
    return base if last in UNIT else runtime


def allowance(precision: str) -> float:
    """Largest difference from float32, relative to the largest value of an output; 0 for ``float32``."""
    return GROWTH * UNIT[precision] if precision in UNIT else 0.0


def selftest_tolerance(test: SelfTest, runtime: str | None) -> float:
    """How far the outputs of a card's self-test may be off in ``runtime``: what the card allows, or, where it computes
    with fewer bits, what these allow of the largest value."""
    largest = max((abs(value) for values in test.outputs.values() for value in values), default=0.0)
    return max(test.tolerance, allowance(precision_of(runtime)) * largest)
