"""Puts an ONNX graph into the form that quantizes well: batch norms folded, one opset, means as pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ModelError
from edgekit.leftovers import scratch_folder

CONTRIB = "com.microsoft"
"""Domain of onnxruntime's own operators."""
OPSET = 17
"""Lowest opset that is worked on; QuantizeLinear per channel came with 13, and converters below 17 are well trodden."""


def prepared(path: Path) -> Any:
    """The ONNX model at ``path``, self-contained, with shapes inferred, ready to be quantized.

    Raises:
        ModelError: onnx cannot bring it to opset 17, or onnxruntime cannot fold it.
    """
    import onnx

    model = onnx.load(str(path))
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:
            raise ModelError(
                f"{path} has opset {opset}, and onnx cannot bring it to {OPSET}, which quantization needs: {error}; "
                f"export it again with --opset {OPSET}"
            ) from error
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        model = _folded(model, path)
    _mean_to_pooling(model)
    drop_unused(model)
    _name_nodes(model)
    del model.graph.value_info[:]  # rewritten nodes change shapes; stale ones stop the quantizer
    return onnx.shape_inference.infer_shapes(model)


def _folded(model: Any, path: Path) -> Any:
    """Batch norms folded into convolutions by onnxruntime's basic optimizer, which uses standard operators only."""
    import onnx
    import onnxruntime

    with scratch_folder() as folder:
        target = folder / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"onnxruntime cannot load {path}: {error}") from error
        folded = onnx.load(str(target))
    used = {node.domain for node in folded.graph.node} | {""}
    kept = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    return folded


def _mean_to_pooling(model: Any) -> None:
    """ReduceMean over height and width -> GlobalAveragePool, for which onnxruntime has an integer kernel."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    rank = {v.name: len(v.type.tensor_type.shape.dim) for v in [*inferred.value_info, *inferred.input]}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if (
            node.op_type != "ReduceMean"
            or rank.get(node.input[0]) != 4
            or _axes(node, constants) not in ([2, 3], [-2, -1])
        ):
            nodes.append(node)
            continue
        keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        pooled = node.output[0] if keep else f"{node.output[0]}_pooled"
        nodes.append(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name))
        if not keep:
            nodes.append(onnx.helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{node.name}_flat", axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _axes(node: Any, constants: dict[str, Any]) -> list[int] | None:
    import onnx

    for attribute in node.attribute:
        if attribute.name == "axes":
            return sorted(attribute.ints)
    if len(node.input) > 1 and node.input[1] in constants:
        return sorted(int(a) for a in np.atleast_1d(onnx.numpy_helper.to_array(constants[node.input[1]])))
    return None


def drop_unused(model: Any) -> None:
    """Removes constants that no node reads."""
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used or _has_subgraphs(model)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def allow_contrib(model: Any) -> None:
    """Lets the model hold operators of :data:`CONTRIB`."""
    import onnx

    if not any(entry.domain == CONTRIB for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))


def _has_subgraphs(model: Any) -> bool:
    return any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)


def _name_nodes(model: Any) -> None:
    """Gives every node a name of its own: quantizers exclude, and the account reports, by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
