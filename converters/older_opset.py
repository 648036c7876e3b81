"""ONNX below the operator set that torch's translation is written in: converted by onnx, mended where it forgets.

onnx's converter goes down from 18 with an adapter for most operators. It leaves a reduction the attribute
``noop_with_empty_axes`` that only the newer one has. For Split it has no adapter: slices are made of it before. Nor for
some that are the same from 13 on in what is used of them: they are put aside meanwhile, under a domain of their own.
What comes out is proved like every export.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, nodes, numeric_attributes
from edgekit.graph.onnx_editor import keep_origins, replace_nodes
from edgekit.graph.ops import Trait
from edgekit.types import Format

OPSETS = range(13, 26)
"""Sets that onnxscript's version converter reaches from 18, and below 18 onnx's own; onnxruntime 1.31 reads all."""
_ASIDE = "edgekit.aside"
_WIDER_TYPES = ops.names(Format.ONNX, trait=Trait.TYPES_SINCE_13)
_WITH_AXES = 4
"""Inputs of a Pad that names the axes it pads."""
_ADVICE = "use --opset 18, or an operator that the older set has"


def lowered(model: Any, opset: int) -> Any:
    """``model`` in the older set ``opset``.

    Raises:
        UnsupportedError: an operator of it has no form there.
    """
    import onnx

    made = onnx.shape_inference.infer_shapes(model)
    _splits_to_slices(made)
    made.opset_import.append(onnx.helper.make_opsetid(_ASIDE, 1))
    for node in nodes(made.graph):
        if _is_the_same(node):
            node.domain = _ASIDE
    try:
        made = onnx.version_converter.convert_version(made, opset)
    except Exception as error:  # of C++, without a class of its own
        said = str(error).rpartition("failed: ")[2] or str(error)
        raise UnsupportedError(f"this network cannot be written in ONNX opset {opset}: {said}; {_ADVICE}") from error
    for node in nodes(made.graph):
        node.domain = "" if node.domain == _ASIDE else node.domain
    kept_domains = [entry for entry in made.opset_import if entry.domain != _ASIDE]
    del made.opset_import[:]
    made.opset_import.extend(kept_domains)
    keep_origins(made, model)
    for node in nodes(made.graph):
        if node.op_type.startswith("Reduce"):
            kept = [one for one in node.attribute if one.name != "noop_with_empty_axes" or one.i]
            del node.attribute[:]
            node.attribute.extend(kept)
    made.ir_version = min(made.ir_version, onnx.helper.find_min_ir_version_for(list(made.opset_import)))
    return made


def _is_the_same(node: Any) -> bool:
    """Whether ``node`` reads the same in set 13: a Pad of all axes, a Reshape in which 0 stands for the size there is.
    An attribute that says so goes, since set 13 has none."""
    if node.op_type == "Pad":
        return len(node.input) < _WITH_AXES or not node.input[_WITH_AXES - 1]
    if node.op_type in _WIDER_TYPES:
        return True
    if node.op_type != "Reshape" or numeric_attributes(node).get("allowzero"):
        return False
    del node.attribute[:]
    return True


def _splits_to_slices(model: Any) -> None:
    """A Slice for each part of a Split whose sizes are known."""
    import onnx

    graph, helper = model.graph, onnx.helper
    asked = OnnxGraph(graph)
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    taken = {name for node in nodes(graph) for name in (*node.input, *node.output)} | {*asked.constants, *values}
    made_nodes: list[Any] = []
    for node in graph.node:
        sizes = _sizes(node, asked, values) if node.op_type == "Split" else None
        if sizes is None:
            made_nodes.append(node)
            continue
        axis = numeric_attributes(node).get("axis", 0)
        ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        for output, size, end in zip(node.output, sizes, ends, strict=True):
            inputs = [node.input[0]]
            for what, number in (("start", end - size), ("end", end), ("axis", axis)):
                name = f"{output}_{what}"
                while name in taken:
                    name += "_"
                taken.add(name)
                graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [1], [number]))
                inputs.append(name)
            made = helper.make_node("Slice", inputs, [output], name=f"{node.name}_{output}")
            made.metadata_props.extend(node.metadata_props)
            made_nodes.append(made)
    replace_nodes(graph, made_nodes)


def _sizes(node: Any, graph: OnnxGraph, values: Mapping[str, Any]) -> list[int] | None:
    """The sizes of the parts of a Split; None where they are known when the file runs only."""
    if len(node.input) > 1 and node.input[1]:
        given = graph.value(node.input[1])
        return None if given is None else list(given.tolist())
    axis = numeric_attributes(node).get("axis", 0)
    dims = values[node.input[0]].type.tensor_type.shape.dim if node.input[0] in values else []
    size = dims[axis].dim_value if -len(dims) <= axis < len(dims) else 0
    step = -(-size // len(node.output))
    return [min(step, size - k * step) for k in range(len(node.output))] if size else None
