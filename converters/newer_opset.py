"""ONNX in a newer operator set: converted by onnx, mended where it forgets."""

from __future__ import annotations

from typing import Any

from edgekit.graph.onnx import OnnxGraph, nodes
from edgekit.graph.onnx_editor import keep_origins

_FIRST_WITH_COORDINATES = 11
"""Opset from which Resize has ``coordinate_transformation_mode``; before, coordinates were asymmetric."""


def opset_of(model: Any) -> int:
    """The version of ONNX's own operators in ``model``; 0 where it names none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def raised(model: Any, opset: int) -> Any:
    """``model`` in the newer set ``opset``. What it computes is for the caller to compare.

    Raises:
        Exception: of onnx's converter, without a class of its own: it cannot convert an operator.
    """
    import onnx

    found = opset_of(model)
    made = onnx.version_converter.convert_version(model, opset)
    keep_origins(made, model)
    if found < _FIRST_WITH_COORDINATES <= opset:
        for node in nodes(made.graph):
            if node.op_type == "Resize":
                _asymmetric(made, node)
    return made


def _asymmetric(model: Any, node: Any) -> None:
    """Gives a Resize the coordinates that it had before it could name them."""
    import onnx

    scales = OnnxGraph(model.graph).value(node.input[2]) if len(node.input) > 2 else None
    smaller = scales is not None and bool((scales < 1).any())
    wanted = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil" if smaller else "floor"}
    kept = [attribute for attribute in node.attribute if attribute.name not in wanted]
    del node.attribute[:]
    node.attribute.extend([*kept, *(onnx.helper.make_attribute(*entry) for entry in wanted.items())])
