"""A network of another framework than torch, seen as a torch module: it is run, and cannot be looked into."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekit.errors import UnsupportedError
from edgekit.types import Array, Artifact, Feed, Format, Network

if TYPE_CHECKING:
    from edgekit.runtime.base import Runner

KINDS = {Format.SAVED_MODEL: "a SavedModel", Format.ONNX: "an ONNX file"}
CONVERTS_TO = {Format.SAVED_MODEL: (Format.TFLITE,), Format.ONNX: (Format.TFLITE, Format.ONNX)}


class RunnerModule(torch.nn.Module):
    """Calls ``runner`` with the inputs in the order of its signature; the runner is closed with the module."""

    def __init__(self, runner: Runner, artifact: Artifact) -> None:
        super().__init__()
        self.runner, self.artifact = runner, artifact
        weakref.finalize(self, runner.close)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        names = [spec.name for spec in self.runner.signature.inputs]
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        exact = any(tensor.dtype == torch.float64 for tensor in inputs)
        outputs = self._in_double(feed) if exact else self.runner.run(feed)
        return tuple(torch.from_numpy(outputs[spec.name]) for spec in self.runner.signature.outputs)

    def _in_double(self, feed: Feed) -> Mapping[str, Array]:
        """An ONNX file in float64, by the reference implementation of its operators; numpy, and slow.

        Raises:
            RuntimeError: an operator fails, or is not in the reference.
        """
        from onnx.reference import ReferenceEvaluator

        from edgekit.graph.onnx import load_onnx
        from edgekit.source.onnx_double import in_double
        from edgekit.source.serial_means import SERIAL, serial_operators

        try:
            operators = serial_operators() if SERIAL.get() else None
            evaluator = ReferenceEvaluator(in_double(load_onnx(self.artifact.path)), new_ops=operators)
            outputs = evaluator.run(None, dict(feed))
        except Exception as error:  # each operator raises what it likes
            raise RuntimeError(f"ONNX's reference implementation fails: {type(error).__name__}: {error}") from error
        return {name: np.asarray(one) for name, one in zip(evaluator.output_names, outputs, strict=True)}


def foreign_file(module: Any) -> Artifact | None:
    """The file whose own runtime runs a network, behind changes of layout as well; None for one of torch."""
    while getattr(module, "is_adapter", False):
        module = module.module
    return module.artifact if isinstance(module, RunnerModule) else None


def is_foreign(module: Any) -> bool:
    """Whether a network is run by its own runtime, not by torch."""
    return foreign_file(module) is not None


def is_onnx(module: Any) -> bool:
    """Whether a network is an ONNX file, run by onnxruntime."""
    file = foreign_file(module)
    return file is not None and file.format is Format.ONNX


def sizes_of_file(network: Network) -> dict[str, int]:
    """Sizes above 1 that free axes have in the examples of a file of others, which takes no smaller ones; empty for a
    network of torch."""
    if not is_foreign(network.module):
        return {}
    sizes = {
        dim: size
        for spec in network.signature.inputs
        for dim, size in zip(spec.shape, network.example_inputs[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }
    return {dim: size for dim, size in sizes.items() if size > 1}


def require_torch(network: Network, doing: str) -> None:
    """Raises UnsupportedError where ``network`` is not a torch module."""
    file = foreign_file(network.module)
    if file is not None:
        formats = " or ".join(CONVERTS_TO[file.format])
        raise UnsupportedError(
            f"{network.name} is {KINDS[file.format]}: edgekit can run it and export it to {formats}, but not {doing} "
            "it; name the network in torch for that, or a .keras file"
        )
