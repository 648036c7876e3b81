"""Small TFLite files, above all of recurrent layers, written operator by operator: no conversion, milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.converters.recurrent import fused, loop
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.types import Array

FEATURES, HIDDEN = 6, 8
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def weights(cell: str, inputs: int, seed: int, reach: float = 0.5) -> list[Array]:
    """Of the input (G * H, I), of the state (G * H, H), bias (G * H)."""
    random = np.random.default_rng(seed)
    rows = GATES[cell] * HIDDEN
    shapes = ((rows, inputs), (rows, HIDDEN), (rows,))
    return [random.uniform(-reach, reach, shape).astype(np.float32) for shape in shapes]


def tflite_file(path: Path, build: Callable[[Graph], None]) -> Path:
    """A file of what ``build`` puts into its main graph."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    build(graph)
    path.write_bytes(editor.content())
    return path


def put(
    graph: Graph, kind: str, inputs: list[int], name: str, shape: list[int], options: str = "", **given: Any
) -> int:
    """An operator with one new output of ``shape``; ``options``: the schema's table, with its fields ``given``."""
    made = graph.made(kind, inputs, name, shape, dtype="float32")
    if options:
        node = graph.raw.operators[-1]
        node.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        node.builtinOptions = getattr(schema, f"{options}T")()
        for field, value in given.items():
            setattr(node.builtinOptions, field, value)
    return made


def dense_file(path: Path, weights: Array) -> Path:
    """``x`` -> ``y`` by one FULLY_CONNECTED."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    x = graph.tensor("x", [1, weights.shape[1]])
    y = graph.made("FULLY_CONNECTED", [x, graph.constant("weights", weights)], "y", [1, len(weights)])
    graph.raw.inputs, graph.raw.outputs = [x], [y]
    path.write_bytes(editor.content())
    return path


def transposed_file(path: Path) -> Path:
    """``x`` (1, 4, 4, 3) -> ``y`` (1, 8, 8, 5) by one TRANSPOSE_CONV."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    x = graph.tensor("x", [1, 4, 4, 3])
    value = np.random.default_rng(0).standard_normal((5, 2, 2, 3))
    operands = [graph.constant("size", [1, 8, 8, 5], "int32"), graph.constant("weights", value), x]
    y = graph.made("TRANSPOSE_CONV", operands, "y", [1, 8, 8, 5], dtype="float32")
    options = schema.TransposeConvOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 2, 2
    node = graph.raw.operators[-1]
    node.builtinOptionsType, node.builtinOptions = schema.BuiltinOptions.TransposeConvOptions, options
    graph.raw.inputs, graph.raw.outputs = [x], [y]
    path.write_bytes(editor.content())
    return path


def swish_file(path: Path, tail: str = "CONV_2D") -> Path:
    """``x`` (1, 4, 4, 3) -> CONV_2D -> HARD_SWISH -> ``tail`` -> ``y``; a MEAN and a product with it lie in between.

    ``tail``: CONV_2D, ADD (with something else); ``squared``: the product of two HARD_SWISH before a convolution;
    ``shared``, ``half shared``: two convolutions with the same weights behind two, or one of them behind none.
    """
    random = np.random.default_rng(0)
    editor = Editor.empty()
    _, graph = editor.graph("main")
    graph.raw.inputs = [graph.tensor("x", [1, 4, 4, 3])]
    before = _convolved(graph, int(graph.raw.inputs[0]), "before", random.standard_normal((8, 1, 1, 3)))
    swish = graph.made("HARD_SWISH", [before], "swish", [1, 4, 4, 8])
    if tail in ("squared", "shared", "half shared"):
        graph.raw.outputs = [_two(graph, tail, before, swish)]
        path.write_bytes(editor.content())
        return path
    axes = graph.constant("axes", [1, 2], "int32")
    mean = graph.tensor("mean", [1, 1, 1, 8])
    graph.operator("MEAN", [swish, axes], [mean], keepDims=True)
    gate = _convolved(graph, mean, "gate", random.standard_normal((8, 1, 1, 8)))
    product = graph.made("MUL", [swish, gate], "product", [1, 4, 4, 8])
    if tail == "CONV_2D":
        graph.raw.outputs = [_convolved(graph, product, "y", random.standard_normal((2, 1, 1, 8)))]
    else:
        graph.raw.outputs = [graph.made(tail, [product, before], "y", [1, 4, 4, 8])]
    path.write_bytes(editor.content())
    return path


def padded_file(path: Path, axis: int = 1, *, twice: bool = False, kernel: int = 3) -> Path:
    """``x`` (1, 4, 4, 3) -> PAD of two on ``axis`` -> CONV_2D ``y``; ``twice``: the PAD is an output, too."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    shape, sizes = [1, 4, 4, 3], np.zeros((4, 2), np.int32)
    shape[axis], sizes[axis] = shape[axis] + 2, (1, 1)
    graph.raw.inputs = [graph.tensor("x", [1, 4, 4, 3])]
    padded = graph.made("PAD", [int(graph.raw.inputs[0]), graph.constant("sizes", sizes, "int32")], "padded", shape)
    weights = np.random.default_rng(0).standard_normal((2, kernel, kernel, shape[3]))
    y = _convolved(graph, padded, "y", weights)
    graph.raw.operators[-1].builtinOptions.padding = schema.Padding.VALID
    graph.raw.tensors[y].shape = [1, shape[1] - kernel + 1, shape[2] - kernel + 1, 2]
    graph.raw.outputs = [y, padded] if twice else [y]
    path.write_bytes(editor.content())
    return path


def _two(graph: Graph, tail: str, before: int, swish: int) -> int:
    weights = np.random.default_rng(3).standard_normal((64, 1, 1, 8))
    other = graph.made("TANH" if tail == "half shared" else "HARD_SWISH", [before], "other", [1, 4, 4, 8])
    if tail == "squared":
        return _convolved(graph, graph.made("MUL", [swish, other], "square", [1, 4, 4, 8]), "y", weights)
    both = [_convolved(graph, source, name, weights) for source, name in ((swish, "left"), (other, "right"))]
    return graph.made("ADD", both, "y", [1, 4, 4, 64])


def _convolved(graph: Graph, x: int, name: str, weights: Array) -> int:
    shape = [*graph.shape(x)[:3], len(weights)]
    operands = [x, graph.constant(f"{name}/weights", weights), graph.constant(f"{name}/bias", np.zeros(len(weights)))]
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    y = graph.made("CONV_2D", operands, name, shape)
    node = graph.raw.operators[-1]
    node.builtinOptionsType, node.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    return y


def recurrent_file(
    path: Path, cell: str, layers: list[list[Array]], *, steps: int = 20, batch_first: bool = True, both: bool = False
) -> Path:
    """``x`` -> ``y``, every step of the last of some layers; both: two directions side by side, in the first one."""
    editor = Editor.empty()
    _, graph = editor.graph("main")
    front = [1, steps] if batch_first else [steps, 1]
    x = graph.tensor("x", [*front, FEATURES])
    graph.raw.inputs = [x]
    for k, own in enumerate(layers):
        last = k + 1 == len(layers)
        width = HIDDEN * (2 if both and k == 0 else 1)
        y = graph.tensor("y" if last else f"y{k}", [*front, width])
        parts = [graph.tensor(f"y{k}_{n}", [*front, HIDDEN]) for n in range(2)] if both and k == 0 else [y]
        for reverse, part in enumerate(parts):
            _layer(graph, cell, f"l{k}{'_reverse' if reverse else ''}", x, own, part, batch_first, bool(reverse))
        if len(parts) > 1:
            graph.operator("CONCATENATION", parts, [y])
            concatenation = graph.raw.operators[-1]
            concatenation.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
            concatenation.builtinOptions = schema.ConcatenationOptionsT()
            concatenation.builtinOptions.axis = 2
        x = y
    graph.raw.outputs = [x]
    path.write_bytes(editor.content())
    return path


def _layer(
    graph: Graph, cell: str, name: str, x: int, own: list[Array], y: int, batch_first: bool, reverse: bool
) -> None:
    if cell != "gru":
        fused.emit(graph, cell, name, x, own, [y, None], batch_first=batch_first, reverse=reverse)
        return
    w_input, w_state, bias = own
    given = [w_input, bias, w_state, np.zeros_like(bias)]
    state = graph.tensor(f"{name}/end", [1, HIDDEN])
    loop.emit(graph, cell, name, x, given, [], [y, state], sequence=True, reverse=reverse)
