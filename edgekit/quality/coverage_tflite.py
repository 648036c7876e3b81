"""Quantization coverage of TFLite files, by their tensor types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.flatbuffer_reader import graphs, loop_rounds
from edgekit.graph import ops
from edgekit.graph.macs import Tensor, share, total
from edgekit.graph.ops import Family, Kernel
from edgekit.graph.tflite import enum_names, held_bytes, holds_data, kind_of, read_tflite, text
from edgekit.results.compressed import CoverageReport, LeftFloat
from edgekit.types import Format

INTEGER_WEIGHTS = frozenset(("int8", "uint8", "int4", "uint4", "int16", "int32"))

HYBRID = ops.names(Format.TFLITE, kernel=Kernel.DYNAMIC)
"""Operators with a kernel for integer weights and real inputs."""
_CONTROL = ops.names(Format.TFLITE, Family.LOOP, Family.BRANCH, Family.CALL, Family.VARIABLE)
"""Run other subgraphs, whose operators are counted, or move a value in and out of a variable."""
_PLAIN = frozenset(("int32", "int64", "bool", "uint32", "uint64", "resource", "variant", "string"))
_REAL = "its inputs are float"
IN_LOOP = ", inside a loop or branch"
"""How the reason ends of an operator that a loop runs."""


def tflite_coverage(path: Path, reasons: Mapping[str, str]) -> CoverageReport:
    """The coverage of a TFLite file; see :func:`edgekit.quality.coverage.coverage`.

    Operators in loops and branches count like any other.
    """
    model = read_tflite(path)
    types = {value: name.lower() for value, name in enum_names("TensorType").items()}
    conversions = hybrid = 0
    left: list[LeftFloat] = []
    plumbing: Counter[str] = Counter()
    rounds = loop_rounds(graphs(path.read_bytes()))
    products: list[int | None] = []
    integers: list[int | None] = []
    for number, graph in enumerate(model.subgraphs):
        for op in graph.operators or ():
            kind = kind_of(model, op)
            if kind in ops.plumbing():
                plumbing[kind] += 1
            if kind in ops.conversions():
                conversions += not all(holds_data(model, graph.tensors[i]) for i in op.inputs if i >= 0)
                continue
            if kind in _CONTROL or _counts(graph, op, types):
                continue
            products.append(_macs(model, graph, op, kind, rounds.get(number, 1)))
            name = text(graph.tensors[op.outputs[0]].name) if len(op.outputs) else kind
            if _hybrid(model, graph, op, kind, types):
                hybrid += 1
                integers.append(products[-1])
                continue
            reason = _float_reason(model, graph, op, kind, types)
            if reason == _REAL and number:
                reason = f"{_REAL}{IN_LOOP}"
            if reason:
                left.append(LeftFloat(kind, name, reasons.get(name) or reasons.get(kind) or reason))
            else:
                integers.append(products[-1])
    return CoverageReport(
        operators=len(products),
        integer_operators=len(integers),
        hybrid_operators=hybrid,
        weight_bytes_integer_share=_tflite_integer_share(model, types),
        integer_macs_share=share(integers, products),
        macs=total(products),
        conversions=conversions,
        left_float=tuple(left),
        plumbing=plumbing,
    )


def hybrid_products(path: Path) -> tuple[str, ...]:
    """Types of the operators of a TFLite file that multiply integers by real inputs, each once. A look-up in a table of
    integers, which gives real rows, multiplies nothing."""
    model = read_tflite(path)
    types = {value: name.lower() for value, name in enum_names("TensorType").items()}
    found = [
        kind_of(model, op)
        for graph in model.subgraphs
        for op in graph.operators or ()
        if _hybrid(model, graph, op, kind_of(model, op), types)
        and any(types[graph.tensors[i].type].startswith("float") for i in op.inputs if i >= 0)
    ]
    return tuple(dict.fromkeys(found))


def _counts(graph: Any, op: Any, types: Mapping[int, str]) -> bool:
    """True for an operator on plain integers or handles: steps of a loop, shapes. A quantized tensor has a scale."""
    tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    return all(types[t.type] in _PLAIN and not _scaled(t) for t in tensors)


def _scaled(tensor: Any) -> bool:
    how = tensor.quantization
    return how is not None and how.scale is not None and len(how.scale) > 0


def _hybrid(model: Any, graph: Any, op: Any, kind: str, types: Mapping[int, str]) -> bool:
    """Real results of integer weights: the kernel quantizes its input as it runs, and multiplies integers."""
    weights = [
        types[graph.tensors[i].type]
        for i in op.inputs
        if i >= 0 and holds_data(model, graph.tensors[i]) and _scaled(graph.tensors[i])
    ]
    real = any(types[graph.tensors[i].type].startswith("float") for i in op.outputs)
    return real and kind in HYBRID and any(w in INTEGER_WEIGHTS for w in weights)


def _float_reason(model: Any, graph: Any, op: Any, kind: str, types: Mapping[int, str]) -> str:
    """Why an operator runs in float; the empty string for one on integers."""
    activations = [graph.tensors[i] for i in op.inputs if i >= 0 and not holds_data(model, graph.tensors[i])]
    results = [graph.tensors[i] for i in op.outputs if i >= 0]
    if not any(types[t.type].startswith("float") for t in (*activations, *results)):
        return ""
    if _dequantized_weight(model, graph, op):
        return "weight-only: its weights are held in fewer bits and turned into float when the model runs"
    own = any(i >= 0 and holds_data(model, graph.tensors[i]) for i in op.inputs[1:])
    return "not quantized in this file" if kind in HYBRID and own else _REAL


def _dequantized_weight(model: Any, graph: Any, op: Any) -> bool:
    makers = {int(i): maker for maker in graph.operators for i in maker.outputs}
    for index in op.inputs:
        maker = makers.get(int(index))
        if maker is None or not len(maker.inputs):  # a handle of a variable has none
            continue
        if holds_data(model, graph.tensors[maker.inputs[0]]) and kind_of(model, maker) == "DEQUANTIZE":
            return True
    return False


def _tflite_integer_share(model: Any, types: Mapping[int, str]) -> float:
    total = integer = 0
    seen: set[int] = set()
    for graph in model.subgraphs:
        shapes = _shape_inputs(model, graph)
        for index, tensor in enumerate(graph.tensors):
            if tensor.buffer in seen or index in shapes or not holds_data(model, tensor):
                continue
            seen.add(tensor.buffer)
            size = held_bytes(model, tensor)
            total += size
            integer += size if types[tensor.type] in INTEGER_WEIGHTS else 0
    return integer / total if total else 0.0


def _shape_inputs(model: Any, graph: Any) -> set[int]:
    """Tensors that hold shapes, axes or paddings: int32 constants without quantization parameters."""
    found = set()
    for index, tensor in enumerate(graph.tensors):
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        if tensor.type == _INT32 and not scaled and holds_data(model, tensor):
            found.add(index)
    return found


_INT32 = 2


def _macs(model: Any, graph: Any, op: Any, kind: str, rounds: int | None) -> int | None:
    """Multiply-accumulates of one operator of a TFLite model that runs ``rounds`` times (None: not known)."""

    def tensor(index: int) -> Tensor:
        raw = graph.tensors[index]
        shape = () if raw.shape is None else tuple(int(size) for size in raw.shape)
        return Tensor(shape, constant=holds_data(model, raw))

    inputs, outputs = (tuple(tensor(i) for i in side if i >= 0) for side in (op.inputs, op.outputs))
    once = ops.macs(kind, inputs, outputs)
    if once == 0:
        return 0
    return None if once is None or rounds is None else once * rounds
