"""Single operators of a TFLite file as files of their own, with integers and in float, to be timed on the target."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.graph.tflite_editor import NONE, Editor, Graph
from edgekit.quantization.kernel_choice import Pair
from edgekit.quantization.tflite.integers import Scale, made
from edgekit.types import Format

CONTROL = ("", *ops.names(Format.TFLITE, Family.LOOP, Family.BRANCH, Family.CALL))
"""Custom operators and those that run subgraphs: never cut out."""
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True, slots=True)
class Single:
    """One operator: its place in the main graph, its type, the name of its first output, and its computed tensors.

    ``signature``: equal for two operators whose kernels do the same work: type, options, types and shapes of tensors,
    and the values of small integer constants (axes, paddings), not those of weights.
    """

    place: int
    kind: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    signature: str
    weights: Mapping[str, int]


class Cutter:
    """The main graph of a file, taken apart once."""

    def __init__(self, content: bytes) -> None:
        self._graph = Editor(content).main()
        self.singles = tuple(map(self._single, range(len(self._graph.raw.operators))))

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """Names of the graph's inputs and outputs."""
        raw = self._graph.raw
        return [self._name(tensor) for tensor in raw.inputs], [self._name(tensor) for tensor in raw.outputs]

    @property
    def elements(self) -> dict[str, int]:
        """Elements of every tensor, by name; free sizes count as they stand in the file."""
        return {self._name(k): int(np.prod(_shape(raw))) for k, raw in enumerate(self._graph.raw.tensors)}

    def on_integers(self, place: int) -> bool:
        """Whether the operator at ``place`` computes on integers that stand for real values."""
        node = self._graph.raw.operators[place]
        return any(_is_quantized(self._graph.raw.tensors[tensor]) for tensor in _tensors(node))

    def folded(self) -> dict[str, Single]:
        """Name of a convolution -> the PAD that XNNPACK makes a part of it: of height and width, read by nothing else.

        A convolution of 1 x 1 becomes a matrix product, which has no padding.

        Source: XNNPACK, ``src/subgraph.c``, fusion of static constant pads.
        """
        from ai_edge_litert import schema_py_generated as schema

        graph, readers = self._graph, Counter(name for one in self.singles for name in one.reads)
        readers.update(self.sides[1])
        makers = {one.writes[0]: one for one in self.singles if one.kind == "PAD"}
        found = {}
        for one in self.singles:
            pad = makers.get(one.reads[0]) if one.kind in CONVOLUTIONS and one.reads else None
            if pad is None or readers[pad.writes[0]] > 1:
                continue
            sizes = _data(graph, int(graph.raw.operators[pad.place].inputs[1]))
            outer = None if sizes is None else np.asarray(sizes).view(np.int32).reshape(-1, 2)[[0, -1]]
            node = graph.raw.operators[one.place]
            product = one.kind == "CONV_2D" and _shape(graph.raw.tensors[int(node.inputs[1])])[1:3] == (1, 1)
            valid = node.builtinOptions.padding == schema.Padding.VALID
            if valid and not product and outer is not None and not outer.any():
                found[one.name] = pad
        return found

    def alone(self, *places: int) -> bytes:
        """The operators at ``places``, in order, as a file: what they read from others are its inputs, what they do not
        read from each other are its outputs."""
        old, editor = self._graph, Editor.empty()
        given = [old.raw.operators[place] for place in places]
        used = list(dict.fromkeys(tensor for node in given for tensor in _tensors(node)))
        _, graph = editor.graph("main")
        for tensor in used:
            raw, data = copy(old.raw.tensors[tensor]), _data(old, tensor)
            raw.buffer = 0 if data is None else editor.buffer(np.asarray(data))
            graph.raw.tensors.append(raw)
        reads = list(dict.fromkeys(tensor for node in given for tensor in _computed(old, node)))
        writes = list(dict.fromkeys(int(tensor) for node in given for tensor in node.outputs))
        graph.raw.inputs = [used.index(tensor) for tensor in reads if tensor not in writes]
        graph.raw.outputs = [used.index(tensor) for tensor in writes if tensor not in reads]
        for original in given:
            node = copy(original)
            editor.model.operatorCodes.append(copy(old.editor.model.operatorCodes[node.opcodeIndex]))
            node.opcodeIndex = len(editor.model.operatorCodes) - 1
            node.inputs = [used.index(int(tensor)) if int(tensor) >= 0 else NONE for tensor in node.inputs]
            node.outputs, node.intermediates = [used.index(int(tensor)) for tensor in node.outputs], None
            graph.raw.operators.append(node)
        return editor.content()

    def _single(self, place: int) -> Single:
        graph = self._graph
        node = graph.raw.operators[place]
        reads = tuple(self._name(tensor) for tensor in _computed(graph, node))
        writes = tuple(self._name(tensor) for tensor in node.outputs)
        data = {self._name(tensor): _data(graph, tensor) for tensor in _tensors(node) if _is_real(graph, tensor)}
        held = {name: int(np.asarray(value).nbytes) for name, value in data.items() if value is not None}
        kind, name = graph.kind(node), writes[0] if writes else ""
        return Single(place, kind, name, reads, writes, _signature(graph, node), held)

    def _name(self, tensor: int) -> str:
        return self._graph.name(tensor)


def conversion(elements: int, *, quantize: bool) -> bytes:
    """A file that converts a tensor of so many elements from float to int8, or back."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    real = graph.tensor("real", [1, elements])
    integers = made(graph, "integers", [1, elements], Scale(0.05, 3))
    if quantize:
        graph.operator("QUANTIZE", [real], [integers])
    else:
        graph.operator("DEQUANTIZE", [integers], [real], version=2)
    graph.raw.inputs = [real if quantize else integers]
    graph.raw.outputs = [integers if quantize else real]
    return editor.content()


def _tensors(node: Any) -> list[int]:
    return [int(tensor) for tensor in (*node.inputs, *node.outputs) if int(tensor) >= 0]


def _computed(graph: Graph, node: Any) -> list[int]:
    """The tensors that a node reads and that no constant is behind, each once."""
    found = dict.fromkeys(int(tensor) for tensor in node.inputs if int(tensor) >= 0)
    return [tensor for tensor in found if _data(graph, tensor) is None and not graph.raw.tensors[tensor].isVariable]


def _data(graph: Graph, tensor: int) -> Any | None:
    data = graph.editor.model.buffers[graph.raw.tensors[tensor].buffer].data
    return data if data is not None and len(data) else None


def _is_quantized(raw: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    how = raw.quantization
    held = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16)
    return raw.type in held and how is not None and how.scale is not None and len(how.scale) > 0


def _is_real(graph: Graph, tensor: int) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(graph.raw.tensors[tensor].type == schema.TensorType.FLOAT32 and _shape(graph.raw.tensors[tensor]))


def _shape(raw: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in (() if raw.shape is None else raw.shape))


def _signature(graph: Graph, node: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    parts: list[object] = [graph.kind(node), _fields(node.builtinOptions), bytes(node.customOptions or b"")]
    whole = (schema.TensorType.INT32, schema.TensorType.INT64, schema.TensorType.BOOL)
    for tensor in (*map(int, node.inputs), *map(int, node.outputs)):
        if tensor < 0:
            parts.append(None)
            continue
        raw, data = graph.raw.tensors[tensor], _data(graph, tensor)
        value = np.asarray(data).tobytes() if data is not None and raw.type in whole else data is not None
        parts.append((_shape(raw), raw.type, value))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _fields(options: Any) -> object:
    if options is None:
        return None
    return sorted(
        (key, value.tolist() if isinstance(value, np.ndarray) else value) for key, value in vars(options).items()
    )


_INSERTED = ("QUANTIZE", "DEQUANTIZE")


def pairs(
    parent: Cutter, quantized: Cutter, parts: Mapping[str, tuple[str, ...]], scaled: Mapping[str, str]
) -> list[Pair]:
    """Every operator of ``parent`` beside what became of it in ``quantized``, in which all that can be is on integers.

    Args:
        parts: operators of the parent that became several, as names of their outputs.
        scaled: name of a tensor of the parent -> its name in ``quantized``, where that is another.
    """
    made = {one.name: one for one in quantized.singles if one.kind not in _INSERTED}
    found: dict[str, Pair] = {}
    twins: dict[str, list[Single | None]] = {}
    for one in parent.singles:
        if one.kind in CONTROL or one.kind in ops.layers(Format.TFLITE, Family.RECURRENT):
            continue
        names = parts.get(one.name) or (scaled.get(one.name, one.name),)
        twins[one.name] = [_twin(made, name) for name in names]
        found[one.name] = _pair([one], parent, quantized, twins[one.name])
    singles = {one.name: one for one in parent.singles}
    for name, pad in parent.folded().items():
        both = _pair([pad, singles[name]], parent, quantized, [*twins[pad.name], *twins[name]])
        tie = {f"folded {pad.name}": 0}  # they share a side, as those do that share weights
        found[name] = replace(both, weights={**both.weights, **tie})
        found[pad.name] = replace(found[pad.name], weights=tie, folded=True)
    return list(found.values())


def _twin(made: Mapping[str, Single], name: str) -> Single | None:
    return made.get(name) or made.get(f"{name}_inside")


def _pair(singles: list[Single], parent: Cutter, quantized: Cutter, twins: list[Single | None]) -> Pair:
    """The last of ``singles``, whose files hold all of them."""
    one = singles[-1]
    there = [twin for twin in twins if twin is not None and quantized.on_integers(twin.place)]
    integer = partial(quantized.alone, *(twin.place for twin in there)) if len(there) == len(twins) else None
    signature = "+".join(single.signature for single in singles)
    signature += "" if len(twins) == len(singles) else f"/{len(twins)}"
    return Pair(
        *(one.name, one.kind, signature, one.weights),
        integer=integer,
        float=partial(parent.alone, *(single.place for single in singles)),
        reads=one.reads,
        writes=one.writes,
    )
