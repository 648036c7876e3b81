"""Quantized tensors of a TFLite flatbuffer under edit: their scales, constants, and the conversions between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.graph.tflite_editor import TYPES, Graph
from edgekit.quantization.calibrate.histogram import Range
from edgekit.types import Array

INT_LIMITS = {name: (int(np.iinfo(name).min), int(np.iinfo(name).max)) for name in ("int8", "int16")}
"""The smallest and the largest integer of a type."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the integers of a tensor stand for: ``(integer - zero) * step``."""

    step: float
    zero: int
    dtype: str = "int8"

    @classmethod
    def of(cls, found: Range) -> Scale:
        """int8 for a range, as Google's quantizer rounds it: 255 steps, zero exact."""
        step = max(found.high - found.low, 1e-12) / 255
        return cls(float(np.float32(step)), int(np.clip(round(-128 - found.low / step), -128, 127)))

    def reals(self) -> tuple[float, float]:
        """What the smallest and the largest integer of int8 stand for."""
        return (-128 - self.zero) * self.step, (127 - self.zero) * self.step


def scale_of(graph: Graph, tensor: int) -> Scale | None:
    """The scale of an int8 tensor with one for all; None for any other."""
    raw = graph.raw.tensors[tensor]
    how = raw.quantization
    if raw.type != TYPES["int8"] or how is None or how.scale is None or len(how.scale) != 1:
        return None
    return Scale(float(how.scale[0]), int(how.zeroPoint[0]))


def rescaled(graph: Graph, tensor: int, scale: Scale) -> None:
    """Makes a tensor without data one of integers."""
    from ai_edge_litert import schema_py_generated as schema

    raw = graph.raw.tensors[tensor]
    raw.type = TYPES[scale.dtype]
    raw.quantization = schema.QuantizationParametersT()
    raw.quantization.scale = np.array([scale.step], np.float32)
    raw.quantization.zeroPoint = np.array([scale.zero], np.int64)


def made(graph: Graph, name: str, shape: list[int], scale: Scale) -> int:
    """A new tensor of integers, without data."""
    tensor = graph.tensor(name, shape)
    rescaled(graph, tensor, scale)
    return tensor


def constant(graph: Graph, name: str, integers: Array, scale: Scale) -> int:
    """A new constant of integers, never shared: an equal one may have another scale."""
    tensor = made(graph, name, list(integers.shape), scale)
    graph.raw.tensors[tensor].buffer = graph.editor.buffer(integers.astype(scale.dtype))
    return tensor


def constant_by_row(graph: Graph, name: str, integers: Array, steps: Array) -> int:
    """A new int8 constant with a step for each index of its first axis."""
    tensor = constant(graph, name, integers, Scale(1.0, 0))
    how = graph.raw.tensors[tensor].quantization
    how.scale, how.zeroPoint = steps.astype(np.float32), np.zeros(len(steps), np.int64)
    how.quantizedDimension = 0
    return tensor


def steps_of(graph: Graph, tensor: int) -> Array | None:
    """The steps of an int8 tensor with one for each index of its first axis; None for any other."""
    raw = graph.raw.tensors[tensor]
    how = raw.quantization
    if raw.type != TYPES["int8"] or how is None or how.scale is None or len(how.scale) < 2 or how.quantizedDimension:
        return None
    return np.asarray(how.scale, np.float64)


def half(graph: Graph, name: str, value: Array) -> int:
    """A new float16 constant."""
    tensor = graph.tensor(name, value.shape)
    graph.raw.tensors[tensor].type = TYPES["float16"]
    graph.raw.tensors[tensor].buffer = graph.editor.buffer(value.astype(np.float16))
    return tensor
