"""Small ONNX files of kinds that other exporters write, quantized and judged by bare onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.passes import PassContext
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.runtime import load
from edgekit.types import Array, Feed

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def normal(seed: int, *shape: int, by: float = 1.0) -> Array:
    """Normal float32 values."""
    return (np.random.default_rng(seed).standard_normal(shape) * by).astype(np.float32)


def onnx_file(
    path: Path,
    nodes: list[Any],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Iterable[str],
    constants: Mapping[str, Any],
    opset: int = 17,
    domains: Iterable[str] = (),
) -> Path:
    """A model of ``nodes``; ``inputs``: name -> (type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *given) for name, given in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), str(path))
    return path


def run_onnx(model: Path | onnx.ModelProto, feed: Feed) -> list[Array]:
    """All outputs, by onnxruntime alone."""
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, dict(feed))
    return outputs


def quantized_onnx(path: Path, scheme: str, feeds: Iterable[Feed], **options: Any) -> Path:
    """The file quantized by ``scheme``, with ranges found on ``feeds``."""
    artifact, target = open_artifact(path), path.with_suffix(f".{scheme}.onnx")
    if scheme == "int8":
        with load(path) as runner:
            signature = runner.signature
        options["calibration"] = calibrate(path, feeds, signature, format=artifact.format)
    QuantizeOnnx(scheme, **options).run(artifact, PassContext(target))
    return target


def decibels(wanted: Iterable[Array], found: Iterable[Array]) -> float:
    """Signal to noise of the worst of some outputs."""
    worst = 200.0
    for one, other in zip(wanted, found, strict=True):
        assert one.shape == other.shape
        noise, signal = float(((one - other) ** 2).sum()), float((one.astype(np.float64) ** 2).sum())
        worst = min(worst, 10 * np.log10(signal / noise)) if noise else worst
    return worst
