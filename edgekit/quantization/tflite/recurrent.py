"""Recurrent operators of TFLite files in fewer bits, which Google's quantizer leaves in float.

Sources: TensorFlow Lite, ``kernels/lstm_eval.cc``, ``kernels/unidirectional_sequence_rnn.cc``. Three forms:

- *stored*: int8 weights, or float16 ones, behind DEQUANTIZE, which runtimes compute once, when a file is opened; the
  operator computes in float. One scale a matrix: one a row needs a sixth more bytes in layers of 64 units. Matrices of
  an LSTM whose rows differ much (:data:`ROWS_GAIN`) have one a row.
- *hybrid*: int8 weights with one scale a matrix, float activations; the kernel quantizes input and state at every step
  with a scale of their own. For LSTM and RNN, in one or both directions.
- *integer* (``EvalInteger8x8_16``), for UNIDIRECTIONAL_SEQUENCE_LSTM only: int8 input, output and state, int32 biases
  of scale input * weight, an int16 cell state whose scale is a power of two, gates in Q3.12, which holds -8 to 8:
  beyond, a sigmoid is within 4e-4 of its end. Of the five intermediates only the last is read, the hidden state's,
  which is the output where there is no projection.

Compact loops, which GRU and RNN are where all is to be integers, have the form of
:mod:`edgekit.quantization.tflite.integer_loops`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.graph.tflite_editor import NONE, Editor, Graph
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.onnx.weights import fits_half, symmetric_int8
from edgekit.quantization.tflite.compact_loops import is_compact
from edgekit.quantization.tflite.integer_loops import IntegerStep, turned
from edgekit.quantization.tflite.integers import (
    INT_LIMITS,
    Scale,
    constant,
    constant_by_row,
    half,
    made,
    rescaled,
    scale_of,
)
from edgekit.types import Array, Format

INTEGER = "UNIDIRECTIONAL_SEQUENCE_LSTM"
"""The only recurrent operator with an integer kernel."""
_RECURRENT = ops.layers(Format.TFLITE, Family.RECURRENT)
_GATES, _BIASES, _H, _C = 4, 12, 18, 19
"""Of an LSTM: gates, first bias, hidden and cell state. Weights of the input stand from 1, of the state from 5."""
_SPECIAL = (*range(9, 12), 16, 17, *range(20, 24))
"""Peepholes, projection, layer norm: not in the integer form that is written here."""
_GATE = Scale(2.0**-12, 0, "int16")
MOST_BITS = 6
"""Integer bits of a cell state that the kernel's tanh takes: it holds 64."""
ROWS_GAIN = 4.0
"""How many times the power of the rounding error of one scale a row that of one scale for the matrix has to be for the
rows to get theirs. Rows of one distribution give 2 to 3; one weight of 61 left nothing of those of 0.2."""
_BY_ROW_VERSION = 5
"""Of DEQUANTIZE."""
_TURNED = "_dequant"
"""What Google's quantizer puts behind the name of a tensor whose integers it turns into reals, or that it wants so."""
_HYBRID_VERSION = 2
_HYBRID = "it is hybrid (int8 weights, input and state quantized at every step)"
NOTES = {
    "integer": "integer LSTM runs on TFLite's reference kernel on x86: 8 times the time of float there. It is for "
    "microcontrollers and NPUs; int8-weights takes the time of float in as few bytes",
    "int8-dynamic": "LSTM and RNN are hybrid; other operators hold int8 weights and compute in float, because beside "
    "XNNPACK's dynamic products hybrid LSTM and RNN took 4 times as long (LiteRT 2.3, x86)",
    "int4": "recurrent operators are left at int8: TFLite's take no 4-bit weights",
    "int16": "TFLite has no recurrent operator with 16-bit activations: they compute in float, with int8 weights",
}
"""What to know of a form; times of 2 layers of 64 units, 64 steps, LiteRT 2.3 on x86 with AVX512."""


@dataclass(frozen=True)
class Recurrent:
    """What became of a file: its bytes, and what the user should know."""

    content: bytes
    notes: tuple[str, ...] = ()


def quantize_recurrent(
    content: bytes,
    scheme: str,
    ranges: Mapping[str, Range],
    keep_float: frozenset[str] = frozenset(),
    not_integer: str = "",
) -> Recurrent:
    """A TFLite file with its recurrent operators quantized; one without any is returned as it is.

    Args:
        content: the file, of which the rest is quantized already.
        scheme: ``int8`` (integer where there is a kernel, else hybrid), ``int8-dynamic`` (hybrid), ``fp16`` or another
            (stored).
        ranges: of the float file's tensors, the cell states among them, for ``int8``.
        keep_float: operators left as they are, by the name of their first output.
        not_integer: why none is integer throughout; empty where it may be.
    """
    editor = Editor(content)
    edits = [_Edit(graph, scheme, ranges, keep_float, not_integer) for graph in editor.graphs()]
    edits = [edit for edit in edits if edit.recurrent()]
    for edit in edits:
        edit.run()
    said = [f"{', '.join(layers)}: {why}" for edit in edits for why, layers in edit.reasons.items()]
    notes = dict.fromkeys([*said, *(note for edit in edits for note in edit.notes)])
    return Recurrent(editor.content() if edits else content, tuple(notes))


def holds_recurrent(content: bytes) -> bool:
    """Whether :func:`quantize_recurrent` has anything to do in a file."""
    return any(_Edit(graph, "", {}).recurrent() for graph in Editor(content).graphs())


def cell_scale(found: Range) -> Scale | None:
    """The int16 scale of a cell state, a power of two; None where it leaves what the kernel's tanh takes."""
    reach = max(-found.low, found.high)
    bits = max(0, math.ceil(math.log2(reach))) if reach > 0 else 0
    return Scale(2.0 ** (bits - 15), 0, "int16") if bits <= MOST_BITS else None


class _Edit:
    """One subgraph, read once from its first operator to its last."""

    def __init__(
        self,
        graph: Graph,
        scheme: str,
        ranges: Mapping[str, Range],
        keep_float: frozenset[str] = frozenset(),
        not_integer: str = "",
    ) -> None:
        self.graph, self.scheme, self.ranges, self.keep_float = graph, scheme, ranges, keep_float
        self.not_integer = not_integer
        self.integer_of: dict[int, int] = {}
        """float tensor -> the int8 tensor that it is read from."""
        self.now_called: dict[int, int] = {}
        """int8 tensor -> the equal one that took its place."""
        self.notes: list[str] = []
        self.reasons: dict[str, list[str]] = {}
        """Why layers are not integer throughout -> their names."""

    def recurrent(self) -> bool:
        """Whether there is anything to do: a recurrent operator with float weights in the file."""
        return any(self._is_float(node) or self._is_loop(node) for node in self.graph.raw.operators)

    def _is_loop(self, node: Any) -> bool:
        """Whether an operator is a loop whose step is to compute on integers."""
        return self.scheme == "int8" and self.graph.kind(node) == "WHILE" and is_compact(self.graph.editor, node)

    def _is_float(self, node: Any) -> bool:
        if self.graph.kind(node) not in _RECURRENT:
            return False
        kept = self.graph.name(node.outputs[0]) in self.keep_float
        return not kept and self.graph.data(int(node.inputs[2])) is not None

    def run(self) -> None:
        """Rewrites the operators."""
        operators: list[Any] = []
        self.graph.insert_at(operators)
        for node in list(self.graph.raw.operators):
            kind = self.graph.kind(node)
            node.inputs = [self.now_called.get(int(k), int(k)) for k in node.inputs]
            if self._is_float(node):
                self._recurrent(node, operators)
            elif self._is_loop(node):
                self._loop(node, operators)
            elif kind == "REVERSE_V2" and node.inputs[0] in self.integer_of:
                self._reverse(node, operators)
            elif kind == "QUANTIZE":
                self._quantize(node, operators)
            else:
                if kind == "DEQUANTIZE" and scale_of(self.graph, node.inputs[0]):
                    self.integer_of[int(node.outputs[0])] = node.inputs[0]
                operators.append(node)
        self.graph.raw.operators = operators
        self._drop_unread()

    def _recurrent(self, node: Any, operators: list[Any]) -> None:
        if self.scheme not in ("int8", "int8-dynamic"):
            self._stored(node, operators)
            return
        why = self._not_integer(node) if self.scheme == "int8" else ""
        if why:
            self.reasons.setdefault(why, []).append(self._layer(node))
        if self.scheme == "int8" and not why:
            self._integer(node, operators)
            self.notes.append(NOTES["integer"])
        else:
            self._hybrid(node, operators)
            self.notes += [NOTES[self.scheme]] if self.scheme in NOTES else []

    def _stored(self, node: Any, operators: list[Any]) -> None:
        graph = self.graph
        for place in self._weights_of(node):
            value = graph.data(node.inputs[place])
            assert value is not None
            name = graph.name(node.inputs[place])
            half_wide = self.scheme == "fp16"
            if half_wide and not fits_half(value, (0,)):
                self.reasons.setdefault("half precision is too coarse or too small for its weights", []).append(name)
                continue
            real, version = graph.tensor(f"{name}_real", value.shape), 3 if half_wide else 2
            if half_wide:
                held = half(graph, name, value)
            elif "LSTM" in graph.kind(node) and _rows_differ(value):
                integers, steps = symmetric_int8(value, (0,))
                held, version = constant_by_row(graph, name, integers, steps.reshape(-1)), _BY_ROW_VERSION
            else:
                held = self._weight(node.inputs[place])[0]
            graph.operator("DEQUANTIZE", [held], [real], version=version)
            node.inputs[place] = real
        operators.append(node)
        self.notes += [NOTES[form] for form in ("int4", "int16") if self.scheme.startswith(form)]

    def _hybrid(self, node: Any, operators: list[Any]) -> None:
        for place in self._weights_of(node):
            node.inputs[place] = self._weight(node.inputs[place])[0]
        node.opcodeIndex = self.graph.editor.code(_code(self.graph.kind(node)), _HYBRID_VERSION)
        operators.append(node)

    def _layer(self, node: Any) -> str:
        """What a layer is called, by its state's tensor: its output may have taken the name of what reads it."""
        state = {INTEGER: _H, "UNIDIRECTIONAL_SEQUENCE_RNN": 4}.get(self.graph.kind(node))
        name = self.graph.name(int(node.outputs[0]) if state is None else node.inputs[state])
        return name.rpartition("/")[0] or name

    def _weights_of(self, node: Any) -> list[int]:
        """Places of the inputs that hold weights."""
        op = ops.get(Format.TFLITE, self.graph.kind(node))
        return [k for k in (op.weights if op else ()) if k < len(node.inputs) and node.inputs[k] != NONE]

    def _not_integer(self, node: Any) -> str:
        """Why an operator cannot be integer throughout; the empty string when it can."""
        kind, inputs, ranges = self.graph.kind(node), node.inputs, self.ranges
        if kind != INTEGER:
            return f"TFLite has no integer kernel of {kind}: {_HYBRID}"
        if self.not_integer:
            return f"{self.not_integer}: {_HYBRID}"
        if any(k < len(inputs) and inputs[k] != NONE for k in _SPECIAL) or NONE in inputs[1:9]:
            return f"it has peepholes, a projection, layer norm or coupled gates: {_HYBRID}"
        names = [self.graph.name(k) for k in (inputs[0], inputs[_C], node.outputs[0])]
        if inputs[0] in self.integer_of:
            names.pop(0)
        missing = [name for name in names if name not in ranges]
        if missing:
            return f"the calibration has no range of {', '.join(missing)}: {_HYBRID}"
        cell = ranges[self.graph.name(inputs[_C])]
        if cell_scale(cell) is None:
            reach = max(-cell.low, cell.high)
            return f"its cell state reaches {reach:.0f}, TFLite's integer kernel takes up to {2**MOST_BITS}: {_HYBRID}"
        return ""

    def _integer(self, node: Any, operators: list[Any]) -> None:
        graph, ranges, inputs, output = self.graph, self.ranges, node.inputs, int(node.outputs[0])
        x = self._as_integer(inputs[0])
        taken, given = scale_of(graph, x), self._wanted(output) or Scale.of(ranges[graph.name(output)])
        cell = cell_scale(ranges[graph.name(inputs[_C])])
        assert taken is not None and cell is not None
        for gate in range(_GATES):
            weight, step = self._weight(inputs[1 + gate])
            inputs[1 + gate], inputs[5 + gate] = weight, self._weight(inputs[5 + gate])[0]
            inputs[_BIASES + gate] = self._bias(inputs[_BIASES + gate], Scale(taken.step * step, 0, "int32"))
        inputs[0] = x
        rescaled(graph, inputs[_H], given)
        rescaled(graph, inputs[_C], cell)
        name = graph.name(output)
        # without values: kernels read their scales alone, and TensorFlow Lite for Microcontrollers takes no others
        gates = [made(graph, f"{name}/gate_{k}", [0], _GATE) for k in range(_GATES)]
        node.intermediates = [*gates, made(graph, f"{name}/hidden", [0], given)]
        result = made(graph, f"{name}_quantized", graph.shape(output), given)
        node.outputs = [result]
        node.opcodeIndex = graph.editor.code(_code(INTEGER), _HYBRID_VERSION)
        operators.append(node)
        self._dequantize(result, output)

    def _loop(self, node: Any, operators: list[Any]) -> None:
        """A compact loop on integers: its variables here, its step by :class:`IntegerStep`."""
        graph, editor = self.graph, self.graph.editor
        options = node.builtinOptions
        body, check = (
            Graph(editor, editor.model.subgraphs[number])
            for number in (options.bodySubgraphIndex, options.condSubgraphIndex)
        )
        step = IntegerStep(body, node, self.ranges)
        why = step.why_not()
        if why:
            self.reasons.setdefault(why, []).append(graph.name(node.outputs[1]))
            operators.append(node)
            return
        inputs, outputs, scales = list(map(int, node.inputs)), list(map(int, node.outputs)), dict[int, Scale]()
        node.outputs = list(outputs)
        for place in filter(step.is_real, range(len(inputs))):
            node.inputs[place], scales[place] = self._variable(step, place, inputs[place], outputs[place])
        step.write(scales)
        operators.append(node)
        for place, scale in scales.items():
            rescaled(check, int(check.raw.inputs[place]), scale)
            result = made(graph, f"{graph.name(outputs[place])}_quantized", graph.shape(outputs[place]), scale)
            node.outputs[place] = result
            if not graph.users(outputs[place]):
                continue
            if scale.dtype != "int8":
                near = self._wanted(outputs[place]) or Scale.of(self._range(outputs[place]))
                result = turned(graph, result, near)
            self._dequantize(result, outputs[place])

    def _variable(self, step: IntegerStep, place: int, tensor: int, output: int) -> tuple[int, Scale]:
        """The integers that a variable of a loop begins with, and their scale, which it keeps."""
        graph, value = self.graph, self.graph.data(tensor)
        if step.is_state(place):
            ends = (0.0, 0.0) if value is None else (float(value.min(initial=0)), float(value.max(initial=0)))
            start = self._range(tensor) if value is None else Range(*ends)
            scale = step.state_scale(place, start)
            given = turned(graph, self._as_integer(tensor), scale) if value is None else None
        elif step.is_room(place):
            scale = self._wanted(output) or Scale.of(self._range(output))
            given = None if value is not None else self._as_integer(tensor)
        else:
            given = self._as_integer(tensor)
            found = scale_of(graph, given)
            assert found is not None
            scale = found
        if given is None:
            assert value is not None
            integers = np.clip(np.round(value / scale.step) + scale.zero, *INT_LIMITS[scale.dtype])
            given = constant(graph, graph.name(tensor), integers, scale)
        return given, scale

    def _as_integer(self, tensor: int) -> int:
        if tensor not in self.integer_of:
            graph, name = self.graph, self.graph.name(tensor)
            found = made(graph, f"{name}_int8", graph.shape(tensor), Scale.of(self._range(tensor)))
            graph.operator("QUANTIZE", [tensor], [found])
            self.integer_of[tensor] = found
        return self.integer_of[tensor]

    def _range(self, tensor: int) -> Range:
        """The range of a tensor, which the library may have given another name."""
        name = self.graph.name(tensor)
        return self.ranges[name if name in self.ranges else name.removesuffix(_TURNED)]

    def _wanted(self, tensor: int) -> Scale | None:
        """The scale that all readers of a float tensor turn it to, itself or reversed; None where they differ."""
        readers = [node for node in self.graph.raw.operators if tensor in map(int, node.inputs)]
        if tensor in map(int, self.graph.raw.outputs) or not readers:
            return None
        wanted = set()
        for node in readers:
            kind, result = self.graph.kind(node), int(node.outputs[0])
            found = self._wanted(result) if kind == "REVERSE_V2" else None
            wanted.add(scale_of(self.graph, result) if kind == "QUANTIZE" else found)
        return wanted.pop() if len(wanted) == 1 else None

    def _reverse(self, node: Any, operators: list[Any]) -> None:
        """A sequence turned round as integers."""
        graph, source, output = self.graph, self.integer_of[node.inputs[0]], int(node.outputs[0])
        scale = scale_of(graph, source)
        assert scale is not None
        node.inputs[0] = source
        result = made(graph, f"{graph.name(output)}_int8", graph.shape(output), scale)
        node.outputs = [result]
        operators.append(node)
        self._dequantize(result, output)

    def _quantize(self, node: Any, operators: list[Any]) -> None:
        """A conversion of what was integers before: none at all, or one from scale to scale."""
        source, result = self.integer_of.get(node.inputs[0]), int(node.outputs[0])
        if source is None:
            if scale_of(self.graph, result):
                self.integer_of[node.inputs[0]] = result
        elif scale_of(self.graph, source) == scale_of(self.graph, result) and result not in self.graph.raw.outputs:
            self.now_called[result] = source
            return
        else:
            node.inputs[0] = source
        operators.append(node)

    def _dequantize(self, integers: int, real: int) -> None:
        self.graph.operator("DEQUANTIZE", [integers], [real])
        self.integer_of[real] = integers

    def _drop_unread(self) -> None:
        """Conversions to float that nothing reads any more."""
        graph = self.graph.raw
        read = {int(k) for node in graph.operators for k in node.inputs} | set(map(int, graph.outputs))
        graph.operators = [
            node for node in graph.operators if self.graph.kind(node) != "DEQUANTIZE" or int(node.outputs[0]) in read
        ]

    def _weight(self, tensor: int) -> tuple[int, float]:
        """An int8 constant with one scale for a float one, and the scale."""
        value = self.graph.data(tensor)
        assert value is not None
        integers, scale = symmetric_int8(value, ())
        step = float(scale.reshape(-1)[0])
        return constant(self.graph, self.graph.name(tensor), integers, Scale(step, 0)), step

    def _bias(self, tensor: int, scale: Scale) -> int:
        value = self.graph.data(tensor)
        assert value is not None
        most = 2**31 - 1
        integers = np.clip(np.round(value.astype(np.float64) / scale.step), -most, most)
        return constant(self.graph, self.graph.name(tensor), integers, scale)


def _rows_differ(value: Array) -> bool:
    """Whether a matrix with one scale is rounded much more coarsely than with one a row."""
    if value.ndim != 2 or not np.isfinite(value).all():
        return False
    errors = []
    for axes in ((), (0,)):
        integers, scale = symmetric_int8(value, axes)
        errors.append(float(np.square(integers * scale.astype(np.float64) - value).sum()))
    return errors[0] > ROWS_GAIN * errors[1]


def _code(kind: str) -> int:
    from ai_edge_litert import schema_py_generated as schema

    return int(getattr(schema.BuiltinOperator, kind))
