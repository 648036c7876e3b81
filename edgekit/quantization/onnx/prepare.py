"""Puts an ONNX graph into the form that quantizes well: constants as initializers, batch norms folded, one opset,
means as pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.newer_opset import opset_of
from edgekit.errors import ModelError
from edgekit.graph.onnx import OnnxGraph, graphs, load_onnx, nodes, numeric_attributes, reads, with_shapes
from edgekit.graph.onnx_editor import Names, drop_unused, replace_nodes
from edgekit.leftovers import scratch_folder
from edgekit.quantization.onnx.attention import around_attention
from edgekit.quantization.onnx.gelu import fuse_gelus
from edgekit.quantization.onnx.opset import converted
from edgekit.quantization.onnx.weights import use_of, weights
from edgekit.types import Array

OPSET = 17
"""Lowest opset that is worked on; QuantizeLinear per channel came with 13, and converters below 17 are well trodden."""
_IR_VERSION = 8
"""That of opset 17; from 4 on constants need not be listed among the inputs."""


def prepared(path: Path, *, between_integers: bool = False) -> Any:
    """The ONNX model at ``path``, self-contained, with shapes inferred, ready to be quantized.

    Args:
        between_integers: its operators will stand between QuantizeLinear and DequantizeLinear, where a GELU in parts is
            slow (:mod:`edgekit.quantization.onnx.gelu`); around attention they do not.

    Raises:
        ModelError: onnx cannot bring it to opset 17 (:func:`edgekit.quantization.onnx.opset.converted`), or onnxruntime
            cannot fold it.
    """
    model = load_onnx(path)
    if opset_of(model) < OPSET:
        model = converted(model, OPSET, path)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    held = OnnxGraph(model.graph).constants
    inputs = [value for value in model.graph.input if value.name not in held]  # old files list constants as well
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        model = _folded(model, path)
    for graph in graphs(model.graph):
        _constants_to_initializers(graph)
    _mean_to_pooling(model)
    drop_unused(model)
    _name_nodes(model)
    if between_integers:
        model = fuse_gelus(model, path, around_attention(model))
    del model.graph.value_info[:]  # rewritten nodes change shapes; stale ones stop the quantizer
    inferred = with_shapes(model)
    model.graph.value_info.extend(inferred.value_info)
    for value, known in zip(model.graph.output, inferred.output, strict=True):
        value.CopyFrom(known)
    return model


def _folded(model: Any, path: Path) -> Any:
    """Batch norms folded into convolutions by onnxruntime's basic optimizer, which uses standard operators only."""
    import onnx
    import onnxruntime

    with scratch_folder() as folder:
        target = folder / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"onnxruntime cannot load {path}: {error}") from error
        folded = onnx.load(str(target))
    used = {node.domain for node in nodes(folded.graph)} | {""}
    kept = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    return folded


def _constants_to_initializers(graph: Any) -> None:
    """Constant nodes -> initializers, and what Identity and Transpose make of initializers -> initializers as well:
    weights are looked for among them."""
    import onnx

    asked, readers = OnnxGraph(graph), reads(graph)
    held, given = dict(asked.constants), set(asked.outputs)
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        source = same.get(node.input[0], node.input[0]) if node.input else ""
        if given.intersection(node.output) or (source and source not in held):
            kept.append(node)
        elif node.op_type == "Identity":
            same[node.output[0]] = source
        elif (value := _constant(node, held.get(source), readers[source])) is not None:
            held[node.output[0]] = onnx.numpy_helper.from_array(value, node.output[0])
        else:
            kept.append(node)
    replace_nodes(graph, kept)
    del graph.initializer[:]
    graph.initializer.extend(held.values())
    for node in nodes(graph):
        node.input[:] = [same.get(name, name) for name in node.input]


def _constant(node: Any, source: Any, readers: int) -> Array | None:
    """What a Constant gives, or a Transpose of the initializer ``source``, which has so many readers: turned round for
    one of several it would stand in the file twice; or what widens a float16 one."""
    import onnx

    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Transpose" and source is not None and readers == 1:
        axes = list(attributes["perm"].ints) if "perm" in attributes else None
        return np.asarray(onnx.numpy_helper.to_array(source).transpose(axes), order="C")
    if node.op_type == "Cast" and source is not None and attributes["to"].i == onnx.TensorProto.FLOAT:
        half = source.data_type == onnx.TensorProto.FLOAT16
        return onnx.numpy_helper.to_array(source).astype(np.float32) if half else None
    name = next((name for name in _CONSTANTS if node.op_type == "Constant" and name in attributes), "")
    if not name:
        return None
    value = onnx.helper.get_attribute_value(attributes[name])
    return np.asarray(value, _CONSTANTS[name]) if _CONSTANTS[name] else onnx.numpy_helper.to_array(value)


_CONSTANTS = {
    "value": "",
    "value_float": "float32",
    "value_floats": "float32",
    "value_int": "int64",
    "value_ints": "int64",
}
"""Attribute of Constant -> the type of its numbers; the empty one for a tensor, which has its own."""


def _mean_to_pooling(model: Any) -> None:
    """ReduceMean over height and width -> GlobalAveragePool, for which onnxruntime has an integer kernel."""
    import onnx

    if all(node.op_type != "ReduceMean" for node in model.graph.node):
        return
    inferred = with_shapes(model)
    values = [
        v for v in [*inferred.value_info, *inferred.input] if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ]
    images = {v.name for v in values if len(v.type.tensor_type.shape.dim) == 4}
    graph, names = OnnxGraph(model.graph), Names(model)
    changed = []
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or node.input[0] not in images or _axes(node, graph) not in _PLANES:
            changed.append(node)
            continue
        keep = numeric_attributes(node).get("keepdims", 1)
        pooled = node.output[0] if keep else names.fresh(f"{node.output[0]}_pooled")
        changed.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name))
        if not keep:
            flat = names.fresh(f"{node.name}_flat") if node.name else ""
            changed.append(onnx.helper.make_node("Flatten", [pooled], [node.output[0]], name=flat, axis=1))
    replace_nodes(model.graph, changed)


_PLANES = ([2, 3], [-2, -1])
"""Height and width."""


def _axes(node: Any, graph: OnnxGraph) -> list[int] | None:
    for attribute in node.attribute:
        if attribute.name == "axes":
            return sorted(attribute.ints)
    axes = graph.value(node.input[1]) if len(node.input) > 1 else None
    return None if axes is None else sorted(map(int, np.atleast_1d(axes)))


def unshare(model: Any, apart: frozenset[str]) -> None:
    """Gives each kind of use a copy of its own of weights that operators of the main graph use in several.

    What quantizes them has one axis of scales a constant: a table that is the last product as well has rows in one and
    columns in the other, and a table stays in float where the product does not. ``apart``: names of operators that are
    one kind whatever they do, because something else quantizes them.
    """
    shared: dict[str, dict[tuple[object, ...], list[tuple[Any, int]]]] = {name: {} for name in weights(model.graph)}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in shared:
                use = ("apart",) if node.name in apart else use_of(node, place)
                shared[name].setdefault(use, []).append((node, place))
    held, names = OnnxGraph(model.graph).constants, Names(model)
    for name, uses in shared.items():
        for readers in list(uses.values())[1:]:
            copy = names.fresh(f"{name}_again")
            model.graph.initializer.add().CopyFrom(held[name])
            model.graph.initializer[-1].name = copy
            for node, place in readers:
                node.input[place] = copy


def plain_gemms(model: Any) -> None:
    """Turns the second input of every Gemm that wants it turned round, weights of several uses once for each.

    The quantizer would turn a weight in its place, for whoever else reads it as well, and once for each Gemm.
    """
    import onnx

    names = Names(model)
    for graph in list(graphs(model.graph)):
        held = OnnxGraph(graph).constants
        turned: dict[str, str] = {}
        for node in nodes(graph):
            transposed = [a for a in node.attribute if a.name == "transB" and a.i]
            if node.op_type != "Gemm" or not transposed or node.input[1] not in held:
                continue
            name = node.input[1]
            if name not in turned:
                turned[name] = names.fresh(f"{name}_turned")
                value = np.asarray(onnx.numpy_helper.to_array(held[name]).T, order="C")
                graph.initializer.append(onnx.numpy_helper.from_array(value, turned[name]))
            node.input[1] = turned[name]
            node.attribute.remove(transposed[0])
    drop_unused(model)


def _name_nodes(model: Any) -> None:
    """Gives every node a name of its own: quantizers exclude, and the account reports, by name."""
    names = Names(model)
    seen: set[str] = set()
    for index, node in enumerate(nodes(model.graph)):
        if not node.name or node.name in seen:
            node.name = names.fresh(f"{node.op_type}_{index}")
        seen.add(node.name)
