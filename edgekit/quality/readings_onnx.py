"""Readings of an ONNX file quantized by edgekit: QuantizeLinear/DequantizeLinear, onnxruntime's own integer operators,
and weights held in fewer bits. See :mod:`edgekit.quality.readings`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, numeric_attributes
from edgekit.graph.ops import Family
from edgekit.quality.readings import Constant, Loop, Operator, Reading, Steps, given_key, hybrid_inputs, switch
from edgekit.types import Array, Feed, Format

_FLOAT = 1
_REAL = "/real"
"""Behind the name of a tensor of integers: that of its real values in the file that is shown."""
_LOOPS = frozenset(
    op.name
    for op in ops.of(Format.ONNX, Family.LOOP, Family.BRANCH, Family.RECURRENT)
    if op.integer or op.family is not Family.RECURRENT
)
_BIASED = {op.name: op.bias for op in ops.of(Format.ONNX) if op.bias is not None}
"""Operators whose third input is added to each channel."""


@dataclass(frozen=True)
class Held:
    """A constant of a file: its real values, and how far rounding may have moved them (0: real numbers)."""

    values: Array
    allowed: Array


class OnnxPair:
    """A prepared float model and the model quantized from it; see :class:`edgekit.quality.readings.Pair`."""

    suffix = "onnx"

    def __init__(self, parent: Any, made: Any) -> None:
        self.parent, self.made = parent, made
        self._wanted, self.constant = _constants(parent.graph), _constants(made.graph)
        self.maker, self.readers = (graph := OnnxGraph(made.graph)).makers, graph.readers
        self._float = _float_tensors(parent)
        self._inputs = [value.name for value in parent.graph.input if value.name not in self._wanted]
        named = {node.name: node for node in made.graph.node}
        operators, self.readings, self.constants = [], [], []  # type: ignore[var-annotated]
        for number, node in enumerate(parent.graph.node):
            partner, taken = _partner(node, named)
            operators.append(self._operator(node, partner))
            for place, name in enumerate(node.input):
                if name and partner is not None and place in taken:
                    self._read(number, node, place, taken[place](self, node, partner))
        self.operators: Sequence[Operator] = operators
        outputs = [value.name for value in made.graph.output]
        self.results = {
            value.name: (value.name, other, self._steps(other))
            for value, other in zip(parent.graph.output, outputs, strict=True)
        }

    def simulated(self, steps: Mapping[int, Steps]) -> bytes:
        from onnx import ModelProto, TensorProto, helper, numpy_helper

        model = ModelProto()
        model.CopyFrom(self.parent)
        graph = model.graph
        del model.metadata_props[:], graph.value_info[:]
        nodes, before = list(graph.node), [[] for _ in graph.node]  # type: ignore[var-annotated]

        def switched(operator: int, place: int, on: str, rounded: str) -> None:
            graph.input.append(helper.make_tensor_value_info(on, TensorProto.BOOL, [1]))
            node = nodes[operator]
            before[operator].append(helper.make_node("Where", [on, rounded, node.input[place]], [f"{on}/read"]))
            node.input[place] = f"{on}/read"

        for number, own in steps.items():
            reading, on = self.readings[number], switch("reading", number)
            for name, value in (("step", own.step), ("low", own.low), ("high", own.high)):
                graph.initializer.append(numpy_helper.from_array(np.float32(value), f"{on}/{name}"))
            names = [reading.tensor, *(f"{on}/{part}" for part in ("steps", "whole", "real", "clipped"))]
            operands = {"Div": [f"{on}/step"], "Round": [], "Mul": [f"{on}/step"], "Clip": [f"{on}/low", f"{on}/high"]}
            for kind, source, result in zip(operands, names, names[1:], strict=False):
                before[reading.operator].append(helper.make_node(kind, [source, *operands[kind]], [result]))
            switched(reading.operator, reading.place, on, names[-1])
        for number, constant in enumerate(self.constants):
            on = switch("constant", number)
            graph.initializer.append(numpy_helper.from_array(constant.found, f"{on}/held"))
            switched(constant.operator, constant.place, on, f"{on}/held")
        del graph.node[:]
        graph.node.extend(one for number, node in enumerate(nodes) for one in (*before[number], node))
        return bytes(model.SerializeToString())

    def held(self, name: str) -> Array:
        """The values of a constant of the file."""
        return self.constant[name].values

    @property
    def loops(self) -> Sequence[Loop]:
        """None: no loop of an ONNX file is quantized inside."""
        return ()

    def shown(self) -> bytes:
        from onnx import ModelProto, helper

        model = ModelProto()
        model.CopyFrom(self.made)
        del model.metadata_props[:]  # the card tells of other outputs
        there = {value.name for value in (*model.graph.output, *model.graph.input)}
        for other in dict.fromkeys(reading.other for reading in self.readings):
            integers = other.removesuffix(_REAL)
            scale = self._levels(integers)
            if scale is not None and integers != other:
                model.graph.node.append(helper.make_node("DequantizeLinear", [integers, *scale], [other]))
            if other not in there:
                model.graph.output.append(helper.make_tensor_value_info(other, _FLOAT, None))
        return bytes(model.SerializeToString())

    def shown_feed(self, feed: Feed) -> dict[str, Array]:
        made = {}
        for name, value in zip([v.name for v in self.made.graph.input], _ordered(feed, self._inputs), strict=True):
            steps = next((self._steps(r.output[0]) for r in self.readers.get(name, ())), None)
            kind = {2: np.uint8, 3: np.int8}.get(_type_of(self.made, name))
            if kind is not None and steps is not None:
                least = np.iinfo(kind).min
                value = (np.rint((steps.nearest(value) - steps.low) / steps.step) + least).astype(kind)
            made[name] = value
        return made

    def cut(self, given: Mapping[str, Array], *, own_constants: bool = False) -> bytes:
        from onnx import ModelProto, helper, numpy_helper

        model = ModelProto()
        model.CopyFrom(self.parent)
        graph = model.graph
        del model.metadata_props[:], graph.value_info[:]
        for reading in self.readings:
            if reading.other in given:
                graph.node[reading.operator].input[reading.place] = given_key(reading.other)
        for other, value in given.items():
            graph.input.append(helper.make_tensor_value_info(given_key(other), _FLOAT, value.shape))
        for number, constant in enumerate(() if own_constants else self.constants):
            name = f"held/{number}"
            graph.node[constant.operator].input[constant.place] = name
            graph.initializer.append(numpy_helper.from_array(constant.found, name))
        there = {value.name for value in (*graph.output, *graph.input)}
        for name in dict.fromkeys((*(r.tensor for r in self.readings), *self._biased())):
            if name not in there:
                graph.output.append(helper.make_tensor_value_info(name, _FLOAT, None))
        return bytes(model.SerializeToString())

    def cut_feed(self, feed: Feed, given: Mapping[str, Array]) -> dict[str, Array]:
        own = dict(zip(self._inputs, _ordered(feed, self._inputs), strict=True))
        return own | {given_key(other): value for other, value in given.items()}

    def rounded_while_running(self) -> frozenset[str]:
        return hybrid_inputs(self, self._float_inputs())

    def channels(self, values: Array) -> Array:
        axis = 1 if values.ndim > 2 else -1
        return np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])

    def _float_inputs(self) -> Iterator[str]:
        return (name for name in self._inputs if name in self._float)

    def _biased(self) -> Iterator[str]:
        """What operators with a bias write."""
        for constant in self.constants:
            if constant.bias:
                yield self.operators[constant.operator].outputs[0]

    def _operator(self, node: Any, partner: Any | None) -> Operator:
        inexact = ""
        if partner is not None:
            looping = partner.op_type in _LOOPS
            few = numeric_attributes(partner).get("accuracy_level") == 4
            hybrid = partner.op_type == "MatMulInteger" or (partner.op_type == "MatMulNBits" and few)
            inexact = "loop" if looping else "hybrid" if hybrid else ""
        integers = partner is not None and any(self._steps(name) for name in partner.input if name)
        return Operator(node.op_type, node.name, tuple(name for name in node.output if name), inexact, integers)

    def _read(self, number: int, node: Any, place: int, source: str | Held | None) -> None:
        """Notes what the file's operator has in place of one input of the parent's."""
        tensor = node.input[place]
        if tensor in self._wanted:
            held = self.constant.get(source) if isinstance(source, str) else source
            wanted = self._wanted[tensor].values
            if held is not None and wanted.dtype == np.float32:
                bias = _BIASED.get(node.op_type) == place and wanted.ndim == 1
                self.constants.append(Constant(number, place, tensor, wanted, held.values, held.allowed, bias))
        elif isinstance(source, str) and tensor in self._float and source not in self.constant:
            other = source if self._levels(source) is None else _real(source)
            self.readings.append(Reading(number, place, tensor, other, self._steps(source)))

    def _steps(self, name: str) -> Steps | None:
        """What the integers say that a tensor is made of; None for a real one."""
        levels, node = self._levels(name), self.maker.get(name)
        if levels is None and node is not None and node.op_type == "DequantizeLinear":
            levels = node.input[1:]
        if levels is None or len(levels) != 2 or any(one not in self.constant for one in levels):
            return None
        scale, zero = (self.constant[one].values for one in levels)
        return Steps.of(float(scale), int(zero), zero.dtype.name) if scale.size == 1 else None

    def _levels(self, name: str) -> Sequence[str] | None:
        """Names of the scale and the zero point of a tensor of integers that a QuantizeLinear makes."""
        node = self.maker.get(name)
        return node.input[1:] if node is not None and node.op_type == "QuantizeLinear" else None


Taken = Callable[[OnnxPair, Any, Any], "str | Held | None"]
"""(pair, node of the parent, node of the file) -> the tensor that stands for one input of the first, or its value."""
_MADE_BY_THE_TOOL = ("_quant", "_MatMul_quant")
"""What onnxruntime's tool puts behind the name of a product that it quantizes as it runs, of a Gemm too."""


def _partner(node: Any, named: Mapping[str, Any]) -> tuple[Any | None, Mapping[int, Taken]]:
    """The node of the file that computes what ``node`` of the parent does, and where its inputs are found in it."""
    found = named.get(node.name)
    if found is not None and (found.op_type, found.domain) == (node.op_type, node.domain):
        return found, {place: _at(place) for place in range(min(len(node.input), len(found.input)))}
    if found is not None and found.op_type in _REPLACED:
        return found, _REPLACED[found.op_type]
    for suffix in _MADE_BY_THE_TOOL:
        dynamic = named.get(f"{node.name}{suffix}")
        if dynamic is not None and dynamic.op_type == "MatMulInteger":
            return dynamic, {0: _quantized_as_it_runs, 1: _integer_weights}
    return None, {}


def _at(place: int) -> Taken:
    return lambda pair, node, made: str(made.input[place]) if place < len(made.input) else None


def _columns(node: Any, values: Array, step: Array) -> Held:
    """A matrix (K, N) of the file as the parent has it: turned where its Gemm takes (N, K)."""
    turned = bool(numeric_attributes(node).get("transB"))
    allowed = np.broadcast_to(np.abs(step) / 2, values.shape)
    return Held(np.asarray(values.T, order="C"), allowed.T) if turned else Held(values, allowed)


def _scaled(pair: OnnxPair, node: Any, made: Any) -> Held:
    """MatMulIntegerToFloat: int8 (K, N) with a scale a column."""
    integers, step = (pair.held(made.input[k]).astype(np.float32) for k in (1, 3))
    return _columns(node, integers * step, step)


def _lstm_weights(values: int, scale: int) -> Taken:
    """int8 (D, I, 4 H) with a scale a direction (D,), or a row (D, 4 H)."""

    def taken(pair: OnnxPair, node: Any, made: Any) -> Held:
        integers, step = (pair.held(made.input[k]).astype(np.float32) for k in (values, scale))
        step = step.reshape(len(step), -1, 1)
        return Held(integers.transpose(0, 2, 1) * step, step / 2)

    return taken


def _blocks(pair: OnnxPair, node: Any, made: Any) -> Held:
    """MatMulNBits: 4-bit weights (N, K), two a byte, from 0 to 15 around 8, a scale for each block of a row.

    The largest of a block is at -8 steps; one as large of the other sign has 7 at most, a whole step off.
    """
    numbers = numeric_attributes(made)
    packed, scale = (pair.held(made.input[k]).reshape(numbers["N"], -1) for k in (1, 2))
    integers = np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)[:, : numbers["K"]]
    step = np.repeat(scale.astype(np.float32), numbers["block_size"], axis=1)[:, : numbers["K"]]
    return _columns(node, ((integers.astype(np.float32) - 8) * step).T, 2 * step.T)


def _table(pair: OnnxPair, node: Any, made: Any) -> Held:
    """GatherBlockQuantized: 4-bit integers (rows, columns), a scale for each block of a row; see :func:`_blocks`."""
    numbers = numeric_attributes(made)
    integers, scale = (pair.held(made.input[k]).astype(np.float32) for k in (0, 2))
    step = np.repeat(scale, numbers["block_size"], axis=1)[:, : integers.shape[1]]
    return Held(integers * step, np.abs(step))


def _quantized_as_it_runs(pair: OnnxPair, node: Any, made: Any) -> str | None:
    maker = pair.maker.get(made.input[0])
    return str(maker.input[0]) if maker is not None and maker.op_type == "DynamicQuantizeLinear" else None


def _integer_weights(pair: OnnxPair, node: Any, made: Any) -> Held | None:
    """MatMulInteger: int8 (K, N); the sums are multiplied by its scale, and by that of the input."""
    integers, zero = (pair.held(made.input[k]).astype(np.float32) for k in (1, 3))
    name = made.output[0]
    for _ in range(2):  # MatMulInteger -> Cast -> Mul
        (reader,) = pair.readers[name]
        name = reader.output[0]
    factors = [pair.maker[one] for one in pair.maker[name].input if one in pair.maker]
    scales = [one for factor in factors for one in factor.input if factor.op_type == "Mul" and one in pair.constant]
    step = pair.held(scales[0]).astype(np.float32)
    return _columns(node, (integers - zero) * step, step)


_REPLACED: Mapping[str, Mapping[int, Taken]] = {
    "MatMulIntegerToFloat": {0: _at(0), 1: _scaled, 2: _at(6)},
    "MatMulNBits": {0: _at(0), 1: _blocks},
    "GatherBlockQuantized": {0: _table, 1: _at(1)},
    "DynamicQuantizeLSTM": {
        0: _at(0), 1: _lstm_weights(1, 8), 2: _lstm_weights(2, 10), **{place: _at(place) for place in range(3, 8)},
    },
}  # fmt: skip


def _constants(graph: Any) -> dict[str, Held]:
    """Every constant of a graph in real values: initializers, Constant nodes, and what quantizers put behind them."""
    from onnx import numpy_helper

    exact = np.zeros((), np.float32)
    found = {tensor.name: Held(np.asarray(numpy_helper.to_array(tensor)), exact) for tensor in graph.initializer}
    for node in graph.node:
        given = {a.name: a for a in node.attribute}
        if node.op_type == "Constant" and "value" in given:
            found[node.output[0]] = Held(np.asarray(numpy_helper.to_array(given["value"].t)), exact)
        elif node.input and all(name in found for name in node.input if name):
            made = _folded(node, given, [found[name] for name in node.input if name])
            if made is not None:
                found[node.output[0]] = made
    return found


def _folded(node: Any, given: Mapping[str, Any], inputs: Sequence[Held]) -> Held | None:
    first = inputs[0]
    if node.op_type == "Identity":
        return first
    if node.op_type == "Cast" and given["to"].i == _FLOAT:
        values = first.values.astype(np.float32)
        half = first.values.dtype == np.float16
        error = np.spacing(np.abs(first.values)).astype(np.float32) / 2 if half else np.full((), 0.5, np.float32)
        return Held(values, error)
    if node.op_type == "Mul":
        second = inputs[1]
        allowed = np.abs(first.allowed * second.values) + np.abs(second.allowed * first.values)
        return Held(first.values * second.values, allowed)
    if node.op_type == "DequantizeLinear":
        axis = given["axis"].i if "axis" in given else 1
        shape = [-1 if k == axis % max(first.values.ndim, 1) else 1 for k in range(first.values.ndim)]
        parts = [part.values.reshape(shape) if part.values.size > 1 else part.values for part in inputs[1:]]
        step, zero = (np.asarray(part, np.float32) for part in (*parts, np.float32(0))[:2])
        return Held((first.values.astype(np.float32) - zero) * step, step / 2)
    return None


def _float_tensors(model: Any) -> set[str]:
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == _FLOAT}


def _type_of(model: Any, name: str) -> int:
    return next((int(v.type.tensor_type.elem_type) for v in model.graph.input if v.name == name), 0)


def _ordered(feed: Feed, names: Sequence[str]) -> list[Array]:
    """Arrays in the order of the file's inputs; by position where a card names what the file leaves nameless."""
    return [feed[name] for name in names] if set(feed) == set(names) else list(feed.values())


def _real(integers: str) -> str:
    return f"{integers}{_REAL}"
