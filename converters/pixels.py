"""A network that takes pixels as they are, 0 to 255: how they were normalised becomes its first layer.

Cameras, apps and the inputs of integer files have bytes, and MediaPipe has one mean and std for all channels. The layer
is a depthwise convolution of one pixel where the channels are first, which every runtime and both quantizers know: one
operator, weights of a channel exact in int8. It cannot be folded into a convolution behind it that pads with zeros:
zero is the mean before, and black after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data.kind import affine
from edgekit.errors import UsageError
from edgekit.types import Array, InputSpec, Network, TensorSpec

if TYPE_CHECKING:
    import torch


def with_raw_pixels(network: Network) -> Network:
    """``network`` behind the normalisation of its images; their contract then says that pixels are taken as they are.

    Raises:
        UsageError: no input is an image by contract, or one takes integers.
    """
    contract = network.card.contract
    images = {spec.name: spec for spec in network.signature.inputs if _image(contract.get(spec.name))}
    if not images:
        raise UsageError(
            "--raw-pixels puts the normalisation of images into the file, and no input is said to be an image; give "
            "--mean and --std, or --layout where it takes values of 0..1"
        )
    whole = next((spec for spec in images.values() if not spec.dtype.startswith("float")), None)
    if whole is not None:
        raise UsageError(f"--raw-pixels: {whole} takes integers already; leave the option out")
    layers = {name: _numbers(spec, contract[name]) for name, spec in images.items()}
    examples = {
        name: (np.asarray(array, np.float64) - layers[name][1]) / layers[name][0] if name in layers else array
        for name, array in network.example_inputs.items()
    }
    examples = {name: array.astype(network.example_inputs[name].dtype) for name, array in examples.items()}
    plain = {name: replace(contract[name], scale=1.0, mean=(), std=()) for name in layers}
    module = _normalised(network.module, [layers.get(spec.name) for spec in network.signature.inputs])
    return Network(module, examples, replace(network.card, contract={**contract, **plain}))


def _image(rule: InputSpec | None) -> bool:
    return rule is not None and rule.kind == "image"


def _numbers(spec: TensorSpec, rule: InputSpec) -> tuple[Array, Array]:
    """``(factor, offset)`` of a pixel, shaped to be broadcast over the input."""
    channels = rule.channels or 1
    factor, offset = affine(rule, channels)
    if rule.layout == "NHW":  # the last axis holds width x channels
        repeats = int(spec.shape[-1]) // channels
        return np.tile(factor, repeats), np.tile(offset, repeats)
    shape = (1, channels, 1, 1) if rule.layout == "NCHW" else (1, 1, 1, channels)
    return factor.reshape(shape), offset.reshape(shape)


def _normalised(module: torch.nn.Module, layers: list[tuple[Array, Array] | None]) -> torch.nn.Module:
    import torch

    class Normalised(torch.nn.Module):
        is_adapter = True

        def __init__(self) -> None:
            super().__init__()
            self.module = module
            for number, layer in enumerate(layers):
                if layer is not None:
                    factor, offset = (torch.from_numpy(np.array(part, np.float32)) for part in layer)
                    first = factor.ndim == 4 and factor.shape[1] == factor.numel()
                    self.register_buffer(f"factor_{number}", factor.reshape(-1, 1, 1, 1) if first else factor)
                    self.register_buffer(f"offset_{number}", offset.reshape(-1) if first else offset)

        def forward(self, *given: torch.Tensor) -> Any:
            return self.module(*(self._taken(number, x) for number, x in enumerate(given)))

        def _taken(self, number: int, x: torch.Tensor) -> torch.Tensor:
            if layers[number] is None:
                return x
            factor, offset = self.get_buffer(f"factor_{number}"), self.get_buffer(f"offset_{number}")
            if offset.ndim == 1 and x.ndim == 4:
                return torch.nn.functional.conv2d(x, factor, offset, groups=offset.numel())
            return x * factor + offset

    return Normalised().eval()
