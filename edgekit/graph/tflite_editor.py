"""Edits of a TFLite flatbuffer through the schema's object API: tensors, constants, operators, subgraphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.graph import ops
from edgekit.graph.tflite import enum_names, text
from edgekit.types import Format

IDENTIFIER = b"TFL3"
ALIGNMENT = 16
"""Of constant data, as schema.fbs asks (``data:[ubyte] (force_align: 16)``), which the Python object API ignores."""
NONE = -1
"""An input that an operator goes without."""
PLAN = "OfflineMemoryAllocation"
"""Metadata with a place in memory for every tensor, by its number: of this very file, not of one that is edited."""
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int64": schema.TensorType.INT64,
    "int32": schema.TensorType.INT32,
    "int16": schema.TensorType.INT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data is written aligned."""

    def Pack(self, builder: Any) -> Any:
        if self.data is None or not len(self.data):
            return super().Pack(builder)
        raw = np.asarray(self.data, order="C").view(np.uint8).tobytes()
        builder.StartVector(1, len(raw), ALIGNMENT)
        builder.head -= len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class Editor:
    """A model taken apart; :meth:`content` puts it together again, without what is no longer used."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        for code in self.model.operatorCodes:  # files of before 2020 have the number in the old field only
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
        for buffer in self.model.buffers:
            if buffer.offset > 1:  # data behind the flatbuffer, as large files and Google's quantizer have it
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        self.model.metadata = [entry for entry in self.model.metadata or [] if text(entry.name) != PLAN] or None

    @classmethod
    def empty(cls) -> Editor:
        """Of a file without subgraphs."""
        model = schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [], [schema.BufferT()]
        builder = flatbuffers.Builder(64)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return cls(bytes(builder.Output()))

    def graph(self, name: str) -> tuple[int, Graph]:
        """A new subgraph and its number."""
        made = schema.SubGraphT()
        made.name, made.tensors, made.operators, made.inputs, made.outputs = name, [], [], [], []
        self.model.subgraphs.append(made)
        return len(self.model.subgraphs) - 1, Graph(self, made)

    def main(self) -> Graph:
        """The first subgraph, which is the one that runs."""
        return Graph(self, self.model.subgraphs[0])

    def graphs(self) -> list[Graph]:
        """Every subgraph, the main one first; those of loops and branches behind it."""
        return [Graph(self, raw) for raw in self.model.subgraphs]

    def holds(self, kind: str) -> bool:
        """Whether an operator of the schema's name ``kind`` stands in one of the subgraphs."""
        return any(graph.kind(operator) == kind for graph in self.graphs() for operator in graph.raw.operators)

    def drop_graphs(self) -> None:
        """Leaves out subgraphs that nothing runs any more, and numbers the others anew."""
        model, waiting = self.model, [0, *(signature.subgraphIndex for signature in self.model.signatureDefs or [])]
        used: set[int] = set()
        while waiting:
            number = waiting.pop()
            if number not in used:
                used.add(number)
                waiting += [called for _, _, called in _called(model.subgraphs[number])]
        place = _places(used)
        for number in used:
            for options, field, called in _called(model.subgraphs[number]):
                setattr(options, field, place[called])
        for signature in model.signatureDefs or []:
            signature.subgraphIndex = place[signature.subgraphIndex]
        model.subgraphs = [model.subgraphs[old] for old in place]

    def code(self, builtin: int, version: int) -> int:
        """The number of an operator code, added when new."""
        for number, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == builtin and known.version == version and not known.customCode:
                return number
        made = schema.OperatorCodeT()
        made.builtinCode, made.version = builtin, version
        made.deprecatedBuiltinCode = min(builtin, 127)  # older runtimes read this field; 127 sends them to the other
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1

    def buffer(self, data: np.ndarray[Any, Any]) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(np.asarray(data).tobytes(), np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def content(self) -> bytes:
        """The file: unused tensors, buffers and operator codes left out."""
        for number, graph in enumerate(self.model.subgraphs):
            self._drop_tensors(number, graph)
        self._drop_codes()
        self._drop_buffers()
        return self._packed()

    def content_with_plan(self, orders: Sequence[Sequence[int | None]], plan: np.ndarray[Any, Any]) -> bytes:
        """The file as it stands with the metadata :data:`PLAN`.

        Args:
            orders: of each subgraph, the tensors in their new order; None for an empty one that nothing reads.
            plan: int32, what the metadata hold.
        """
        for number, order in enumerate(orders):
            self._renumber(number, order)
        entry = schema.MetadataT()
        entry.name, entry.buffer = PLAN, self.buffer(plan)
        self.model.metadata = [*(self.model.metadata or []), entry]
        return self._packed()

    def _packed(self) -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        for buffer in self.model.buffers:
            buffer.__class__ = _Buffer
        builder.Finish(self.model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _drop_tensors(self, number: int, graph: Any) -> None:
        used = {*map(int, graph.inputs), *map(int, graph.outputs)}
        used |= {int(entry.tensorIndex) for entry in self._entries(number)}
        for operator in graph.operators:
            used.update(int(k) for part in _operands(operator) for k in part)
        used.discard(NONE)
        self._renumber(number, sorted(used))

    def _entries(self, number: int) -> list[Any]:
        """Those of the signatures of a subgraph."""
        signatures = [s for s in self.model.signatureDefs or [] if s.subgraphIndex == number]
        return [entry for s in signatures for entry in (*(s.inputs or []), *(s.outputs or []))]

    def _renumber(self, number: int, order: Sequence[int | None]) -> None:
        """Leaves a subgraph the tensors of ``order``, in that order; None makes an empty one."""
        graph = self.model.subgraphs[number]
        place = {old: new for new, old in enumerate(order) if old is not None}
        place[NONE] = NONE
        graph.tensors = [_empty() if old is None else graph.tensors[old] for old in order]
        graph.inputs = [place[int(k)] for k in graph.inputs]
        graph.outputs = [place[int(k)] for k in graph.outputs]
        for entry in self._entries(number):
            entry.tensorIndex = place[int(entry.tensorIndex)]
        for operator in graph.operators:
            operator.inputs = [place[int(k)] for k in operator.inputs]
            operator.outputs = [place[int(k)] for k in operator.outputs]
            if operator.intermediates is not None and len(operator.intermediates):
                operator.intermediates = [place[int(k)] for k in operator.intermediates]

    def _drop_codes(self) -> None:
        operators = [operator for graph in self.model.subgraphs for operator in graph.operators]
        place = _places({operator.opcodeIndex for operator in operators})
        self.model.operatorCodes = [self.model.operatorCodes[old] for old in place]
        for operator in operators:
            operator.opcodeIndex = place[operator.opcodeIndex]

    def _drop_buffers(self) -> None:
        """Buffer 0 is the empty one that every tensor without data refers to."""
        tensors = [tensor for graph in self.model.subgraphs for tensor in graph.tensors]
        metadata = self.model.metadata or []
        listed = self.model.metadataBuffer
        extra = () if listed is None else map(int, listed)
        place = _places({0, *(t.buffer for t in tensors), *(entry.buffer for entry in metadata), *extra})
        self.model.buffers = [self.model.buffers[old] for old in place]
        for tensor in tensors:
            tensor.buffer = place[tensor.buffer]
        for entry in metadata:
            entry.buffer = place[entry.buffer]
        if listed is not None:
            self.model.metadataBuffer = [place[int(k)] for k in listed]


class Graph:
    """One subgraph under edit."""

    def __init__(self, editor: Editor, graph: Any) -> None:
        self.editor, self.raw = editor, graph
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], int] = {}
        self._into: Callable[[Any], None] = graph.operators.append

    def insert_at(self, operators: list[Any]) -> None:
        """New operators go to ``operators`` instead of the end of the graph."""
        self._into = operators.append

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32", *, variable: bool = False) -> int:
        """A tensor without data; sizes of -1 are left open."""
        made = schema.TensorT()
        made.name, made.type, made.buffer, made.isVariable = name, TYPES[dtype], 0, variable
        made.shape = [1 if size < 0 else int(size) for size in shape]
        if any(size < 0 for size in shape):
            made.shapeSignature = [int(size) for size in shape]
        made.hasRank = True
        self.raw.tensors.append(made)
        return len(self.raw.tensors) - 1

    def constant(self, name: str, value: Any, dtype: str = "float32") -> int:
        """A tensor with data, shared with an equal one of this graph."""
        array = np.asarray(value, dtype)
        key = (dtype, array.tobytes(), array.shape)
        if key not in self._constants:
            self._constants[key] = self.tensor(name, array.shape, dtype)
            self.raw.tensors[-1].buffer = self.editor.buffer(array)
        return self._constants[key]

    def operator(
        self, builtin: str, inputs: Iterable[int], outputs: Iterable[int], version: int = 1, **options: Any
    ) -> None:
        """Adds an operator of the schema's name ``builtin``, for example ``ADD``; ``options`` by the schema's names."""
        made = schema.OperatorT()
        made.opcodeIndex = self.editor.code(getattr(schema.BuiltinOperator, builtin), version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        known = ops.get(Format.TFLITE, builtin)
        if known is not None and known.options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, known.options)
            made.builtinOptions = getattr(schema, f"{known.options}T")()
            for name, value in options.items():
                setattr(made.builtinOptions, name, value)
        self._into(made)

    def made(self, builtin: str, inputs: Iterable[int], name: str, shape: Sequence[int], **options: Any) -> int:
        """As :meth:`operator`, with one new output of ``shape`` and the first input's type, which is returned."""
        sources = list(inputs)
        result = self.tensor(name, shape, options.pop("dtype", self.dtype(sources[0])))
        self.operator(builtin, sources, [result], **options)
        return result

    def kind(self, operator: Any) -> str:
        """The schema's name of an operator; the empty string for a custom one."""
        code = self.editor.model.operatorCodes[operator.opcodeIndex]
        return "" if code.customCode else enum_names("BuiltinOperator")[code.builtinCode]

    def name(self, tensor: int) -> str:
        """A tensor's name."""
        return text(self.raw.tensors[int(tensor)].name)

    def makers(self) -> dict[int, Any]:
        """Tensor -> the operator that writes it, as the graph stands now."""
        return {int(tensor): operator for operator in self.raw.operators for tensor in operator.outputs}

    def users(self, tensor: int) -> int:
        """How many operators and outputs of the graph take ``tensor``."""
        found = sum(int(k) == tensor for operator in self.raw.operators for k in operator.inputs)
        return found + sum(int(k) == tensor for k in self.raw.outputs)

    def shape(self, tensor: int) -> list[int]:
        """Sizes of a tensor, -1 where open."""
        raw = self.raw.tensors[tensor]
        sizes = raw.shape if raw.shapeSignature is None or not len(raw.shapeSignature) else raw.shapeSignature
        return [int(size) for size in (() if sizes is None else sizes)]

    def free(self, tensor: int, axis: int) -> None:
        """Leaves a size of a tensor open."""
        raw, shape = self.raw.tensors[tensor], self.shape(tensor)
        shape[axis] = -1
        raw.shapeSignature = shape
        raw.shape = [1 if size < 0 else size for size in shape]

    def dtype(self, tensor: int) -> str:
        """numpy's name of a tensor's type."""
        return next(name for name, code in TYPES.items() if code == self.raw.tensors[tensor].type)

    def data(self, tensor: int) -> np.ndarray[Any, Any] | None:
        """The value of a float32 constant; None for any other tensor."""
        return self.values(tensor) if self.raw.tensors[tensor].type == schema.TensorType.FLOAT32 else None

    def held(self, tensor: int) -> bool:
        """Whether a tensor is a constant, whose values stand in the file."""
        data = self.editor.model.buffers[self.raw.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def values(self, tensor: int) -> np.ndarray[Any, Any] | None:
        """The numbers of a constant as they are held; None for a tensor that is computed."""
        raw = self.raw.tensors[tensor]
        if not self.held(tensor):
            return None
        data = self.editor.model.buffers[raw.buffer].data
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), self.dtype(tensor)).reshape(self.shape(tensor))


def alone(content: bytes, number: int) -> bytes:
    """A subgraph that runs no other, as a file of its own."""
    editor = Editor(content)
    editor.model.subgraphs = [editor.model.subgraphs[number]]
    editor.model.signatureDefs, editor.model.metadata, editor.model.metadataBuffer = [], [], None
    return editor.content()


def _called(graph: Any) -> list[tuple[Any, str, int]]:
    """Options of the operators that run other subgraphs, the field that says which, and its number."""
    both = [own for operator in graph.operators for own in (operator.builtinOptions, operator.builtinOptions2)]
    return [
        (own, field, number)
        for own in both
        for field, number in (() if own is None else vars(own).items())
        if field == "subgraph" or field.endswith("ubgraphIndex")
    ]


def _empty() -> Any:
    """A tensor without values that nothing reads."""
    made = schema.TensorT()
    made.name, made.shape, made.hasRank, made.type = "", [0], True, TYPES["int8"]
    return made


def _operands(operator: Any) -> list[Any]:
    extra = operator.intermediates
    return [operator.inputs, operator.outputs, () if extra is None else extra]


def _places(used: set[int]) -> dict[int, int]:
    """Old number -> new number, in the old order."""
    return {old: new for new, old in enumerate(sorted(int(k) for k in used))}
