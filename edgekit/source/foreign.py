"""A network of another framework than torch, seen as a torch module: it is run, and cannot be looked into."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from edgekit.errors import UnsupportedError
from edgekit.types import Artifact, Network

if TYPE_CHECKING:
    from edgekit.runtime.base import Runner


class RunnerModule(torch.nn.Module):
    """Calls ``runner`` with the inputs in the order of its signature; the runner is closed with the module."""

    def __init__(self, runner: Runner, artifact: Artifact) -> None:
        super().__init__()
        self.runner, self.artifact = runner, artifact
        weakref.finalize(self, runner.close)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        names = [spec.name for spec in self.runner.signature.inputs]
        outputs = self.runner.run({name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
        return tuple(torch.from_numpy(outputs[spec.name]) for spec in self.runner.signature.outputs)


def is_foreign(module: Any) -> bool:
    """Whether a network is run by its own runtime, not by torch."""
    return isinstance(module, RunnerModule)


def require_torch(network: Network, doing: str) -> None:
    """Raises UnsupportedError where ``network`` is not a torch module."""
    if is_foreign(network.module):
        raise UnsupportedError(
            f"{network.name} is a SavedModel: edgekit can run it and export it to tflite, but not {doing} it; name the "
            "network in torch for that, or a .keras file"
        )
