"""A network that takes pixels as they are, 0 to 255: how they were normalised becomes its first layer.

Cameras, apps and the inputs of integer files have bytes, and MediaPipe has one mean and std for all channels, and RGB
alone. The layer is a convolution of one pixel, which every runtime and both quantizers know: depthwise where channels
stay apart, so that their weights are exact in int8. It cannot be folded into a convolution behind it that pads with
zeros: zero is the mean before, and black after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data.kind import LUMA, affine, colours, mixing
from edgekit.errors import UnsupportedError, UsageError
from edgekit.types import Array, InputSpec, Network, Signature, TensorSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class _Layer:
    """What makes an input of pixels: ``x * factor + offset``, or a convolution by ``weights`` (out, in, 1, 1)."""

    factor: Array
    offset: Array
    weights: Array | None = None


def with_raw_pixels(network: Network, rgb: bool = False) -> Network:
    """``network`` behind the normalisation of its images; their contract then says that pixels are taken as they are.

    Args:
        rgb: images of another order of colours, or grey ones, become RGB, too.

    Raises:
        UsageError: no input is an image by contract, or one takes integers.
        UnsupportedError: ``rgb`` for an image that has its channels last.
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
    layers = {name: _layer(spec, contract[name], rgb) for name, spec in images.items()}
    examples = {
        name: _pixels(array, layers[name]).astype(array.dtype) if name in layers else array
        for name, array in network.example_inputs.items()
    }
    plain = {name: _plain(contract[name], rgb) for name in layers}
    inputs = tuple(replace(s, shape=_shape(s, plain.get(s.name))) for s in network.signature.inputs)
    signature = Signature(inputs, network.signature.outputs)
    module = _normalised(network.module, [layers.get(spec.name) for spec in inputs])
    return Network(module, examples, replace(network.card, contract={**contract, **plain}, signature=signature))


def is_rgb(rule: InputSpec) -> bool:
    """Whether an image has three channels in the order red, green, blue."""
    return rule.channels == len(LUMA) and colours(rule) == "RGB"


def _image(rule: InputSpec | None) -> bool:
    return rule is not None and rule.kind == "image"


def _plain(rule: InputSpec, rgb: bool) -> InputSpec:
    """The contract of raw pixels."""
    made = replace(rule, scale=1.0, mean=(), std=())
    if not rgb:
        return made
    return replace(made, channels=len(LUMA), params={k: v for k, v in rule.params.items() if k != "color"})


def _shape(spec: TensorSpec, rule: InputSpec | None) -> tuple[int | str, ...]:
    if rule is None or rule.layout != "NCHW":
        return spec.shape
    return (spec.shape[0], rule.channels, *spec.shape[2:])


def _layer(spec: TensorSpec, rule: InputSpec, rgb: bool) -> _Layer:
    channels = rule.channels or 1
    factor, offset = affine(rule, channels)
    if rgb and not is_rgb(rule):
        if rule.layout != "NCHW":
            raise UnsupportedError(f"{spec} is {rule}, of which an RGB input is made only where the channels are first")
        mixed = mixing("RGB", colours(rule))
        return _Layer(factor, offset, (mixed * factor[:, None]).astype(np.float32)[..., None, None])
    if rule.layout == "NHW":  # the last axis holds width x channels
        repeats = int(spec.shape[-1]) // channels
        return _Layer(np.tile(factor, repeats), np.tile(offset, repeats))
    if rule.layout == "NCHW":
        return _Layer(factor, offset, factor.reshape(-1, 1, 1, 1))
    return _Layer(factor, offset)


def _pixels(array: Array, layer: _Layer) -> Array:
    """Raw pixels that the layer makes ``array`` of."""
    if layer.weights is None:
        return (array.astype(np.float64) - layer.offset) / layer.factor
    shape = (1, -1, 1, 1)
    raw = (array.astype(np.float64) - layer.offset.reshape(shape)) / layer.factor.reshape(shape)
    inputs = layer.weights.shape[1]
    if inputs == 1:
        return raw
    return np.repeat(raw, inputs, axis=1) if raw.shape[1] == 1 else raw[:, ::-1]


def _normalised(module: torch.nn.Module, layers: list[_Layer | None]) -> torch.nn.Module:
    import torch

    class Normalised(torch.nn.Module):
        is_adapter = True

        def __init__(self) -> None:
            super().__init__()
            self.module = module
            for number, layer in enumerate(layers):
                if layer is not None:
                    first = layer.factor if layer.weights is None else layer.weights
                    for name, part in (("factor", first), ("offset", layer.offset)):
                        self.register_buffer(f"{name}_{number}", torch.from_numpy(np.array(part, np.float32)))

        def forward(self, *given: torch.Tensor) -> Any:
            return self.module(*(self._taken(number, x) for number, x in enumerate(given)))

        def _taken(self, number: int, x: torch.Tensor) -> torch.Tensor:
            layer = layers[number]
            if layer is None:
                return x
            factor, offset = self.get_buffer(f"factor_{number}"), self.get_buffer(f"offset_{number}")
            if layer.weights is None:
                return x * factor + offset
            groups = offset.numel() if layer.weights.shape[1] == 1 else 1
            return torch.nn.functional.conv2d(x, factor, offset, groups=groups)

    return Normalised().eval()
