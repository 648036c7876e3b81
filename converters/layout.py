"""Channels-last files of channels-first networks: which inputs and outputs are turned, and the module that does it.

A camera, Android and TFLite's kernels have the channels of an image last, (N, H, W, C); torch has them first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.errors import UsageError
from edgekit.types import Dim, InputSpec, Network, Signature, TensorSpec

if TYPE_CHECKING:
    import torch

TO_LAST = (0, 2, 3, 1)
"""(N, C, H, W) -> (N, H, W, C)"""
TO_FIRST = (0, 3, 1, 2)
_MAPS = ("segmentation", "anomaly")
"""Tasks whose answer is as large as the image: a score a class and pixel, or the image again."""
T = TypeVar("T")


def turned_images(network: Network) -> tuple[bool, ...]:
    """For each input whether its contract says that it is an image with the channels first, (N, C, H, W)."""
    rules = [network.card.contract.get(spec.name, InputSpec()) for spec in network.signature.inputs]
    return tuple(
        rule.kind == "image" and rule.layout == "NCHW" and len(spec.shape) == len(TO_LAST)
        for rule, spec in zip(rules, network.signature.inputs, strict=True)
    )


def turned_inputs(network: Network) -> tuple[bool, ...]:
    """For each input whether channels-last turns it: the images, or where nothing is called an image, all of rank 4.

    Raises:
        UsageError: no input can be turned.
    """
    images = turned_images(network)
    if any(images):
        return images
    rules = [network.card.contract.get(spec.name, InputSpec()) for spec in network.signature.inputs]
    turned = tuple(
        len(spec.shape) == len(TO_LAST) and rule.layout != "NHWC"
        for spec, rule in zip(network.signature.inputs, rules, strict=True)
    )
    if not any(turned):
        shapes = ", ".join(map(str, network.signature.inputs))
        why = "they are channels-last already" if any(rule.layout == "NHWC" for rule in rules) else "none has rank 4"
        raise UsageError(
            f"channels last was asked for, but no input has rank 4 to turn ({why}): {shapes}; leave it out"
        )
    return turned


def turned_outputs(network: Network, inputs: tuple[bool, ...]) -> tuple[bool, ...]:
    """For each output whether it is turned with ``inputs``: maps of scores, and images made of the input."""
    shapes = [spec.shape for spec, turned in zip(network.signature.inputs, inputs, strict=True) if turned]
    kind = network.card.task.kind
    maps = kind in _MAPS and bool(shapes)
    pixels = {shape[2:] for shape in shapes}
    return tuple(
        maps and len(spec.shape) == len(TO_LAST) and (kind == "segmentation" or spec.shape[2:] in pixels)
        for spec in network.signature.outputs
    )


def permuted(items: Sequence[T], turned: bool) -> tuple[T, ...]:
    """``items`` of the axes (N, C, H, W) in the order (N, H, W, C) where ``turned``."""
    return tuple(items[axis] for axis in TO_LAST) if turned else tuple(items)


def turned_axes(dynamic: Mapping[str, Mapping[int, str]], network: Network) -> dict[str, dict[int, str]]:
    """Axes of the network's inputs -> axes of a file whose images are channels-last."""
    turned = dict(zip((spec.name for spec in network.signature.inputs), turned_images(network), strict=True))
    return {
        name: {TO_LAST.index(axis) if turned.get(name) and axis in TO_LAST else axis: dim for axis, dim in axes.items()}
        for name, axes in dynamic.items()
    }


def file_shape(spec: TensorSpec, turned: bool, axes: Mapping[int, str]) -> tuple[Dim, ...]:
    """The file's shape; ``axes`` counts in the file's own layout."""
    return tuple(axes.get(axis, dim) for axis, dim in enumerate(permuted(spec.shape, turned)))


def file_contract(
    contract: Mapping[str, InputSpec], signature: Signature, turned: tuple[bool, ...]
) -> dict[str, InputSpec]:
    """The contract in the file's layout."""
    names = {spec.name for spec, flip in zip(signature.inputs, turned, strict=True) if flip}
    return {
        name: replace(rule, layout="NHWC") if name in names and rule.kind == "image" else rule
        for name, rule in contract.items()
    }


def channels_last(module: torch.nn.Module, inputs: tuple[bool, ...], outputs: tuple[bool, ...] = ()) -> torch.nn.Module:
    """``module`` behind a change of layout: (N, H, W, C) of the inputs in ``inputs`` becomes (N, C, H, W), and the
    outputs in ``outputs`` become (N, H, W, C)."""
    import torch

    class ChannelsLast(torch.nn.Module):
        is_adapter = True

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *given: torch.Tensor) -> Any:
            turned = [x.permute(*TO_FIRST) if flip else x for x, flip in zip(given, inputs, strict=True)]
            results = self.module(*turned)
            if not any(outputs):
                return results
            if isinstance(results, torch.Tensor):
                return results.permute(*TO_LAST)
            return tuple(y.permute(*TO_LAST) if flip else y for y, flip in zip(results, outputs, strict=True))

    return ChannelsLast().eval()
