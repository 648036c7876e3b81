"""An ONNX model of an old opset as one of a newer: converted by onnx, mended where onnx forgets, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import contract_of
from edgekit.converters.newer_opset import opset_of, raised
from edgekit.data.seeded import seeded_feed
from edgekit.errors import ModelError
from edgekit.types import Array, Artifact, Feed, Format, InputSpec, Signature, TensorSpec

TOLERANCE = 1e-5
"""Largest change of an output, as a share of its largest value: both are run without rewriting, on the same kernels."""
SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256)
"""Sizes of free dimensions that are tried in turn until the file runs."""
_SEED = 0


def converted(model: Any, opset: int, path: Path) -> Any:
    """``model`` in ``opset``, with the same outputs on seeded inputs.

    Raises:
        ModelError: onnx cannot convert it, the result computes something else, or neither can be run.
    """
    found = opset_of(model)
    advice = f"export it again with --opset {opset}"
    try:
        made = raised(model, opset)
    except Exception as error:  # of C++, without a class of its own
        raise ModelError(
            f"{path} has opset {found}, and onnx cannot bring it to {opset}, which quantization needs: {error}; "
            f"{advice}"
        ) from error
    changed = _largest_change(model, made, path)
    if not changed <= TOLERANCE:
        raise ModelError(
            f"{path} has opset {found}; brought to {opset} by onnx it computes something else: an output differs by "
            f"{changed:.2g} of its largest value; {advice}"
        )
    return made


def _largest_change(before: Any, after: Any, path: Path) -> float:
    """Largest difference of an output between two models, as a share of that output's largest value."""
    old, new = _session(before, path), _session(after, path)
    bounds = contract_of(Artifact(path, Format.ONNX))
    error: Exception | None = None
    for size in SIZES:
        feed = _feed(old, bounds, size)
        try:
            wanted = old.run(None, feed)
        except Exception as failure:  # a size that the graph does not take
            error = failure
            continue
        try:
            found = new.run(None, feed)
        except Exception as failure:
            raise ModelError(f"{path}: brought to another opset by onnx it does not run: {failure}") from failure
        return max((_apart(a, b) for a, b in zip(wanted, found, strict=True)), default=0.0)
    raise ModelError(
        f"{path} is of an old opset, and cannot be compared with its conversion, because it does not run on seeded "
        f"inputs: {error}"
    )


def _session(model: Any, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {path}: {error}") from error


def _feed(session: Any, bounds: Mapping[str, InputSpec], size: int) -> Feed:
    types = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    specs = tuple(
        TensorSpec(
            value.name,
            types.get(value.type, value.type.removeprefix("tensor(").removesuffix(")")),
            tuple(dim if isinstance(dim, int) else size for dim in value.shape),
        )
        for value in session.get_inputs()
    )
    return seeded_feed(Signature(specs, ()), bounds, _SEED)


def _apart(one: Array, other: Array) -> float:
    if one.shape != other.shape or one.dtype.kind not in "fiub":
        return float(one.shape != other.shape or bool((one != other).any()))
    wanted, found = one.astype(np.float64), other.astype(np.float64)
    same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    if same.all():
        return 0.0
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    change = np.abs(wanted - found)[~same].max()
    return float(change / scale) if scale > 0 else float("inf")
