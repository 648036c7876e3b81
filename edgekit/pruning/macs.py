"""Multiply-accumulates of a torch module, by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.graph.macs import Rule, by_weights, convolution, product, transposed
from edgekit.graph.macs import Tensor as Shaped


def layer_macs(module: nn.Module, inputs: Sequence[Tensor]) -> dict[str, int]:
    """Module name -> multiply-accumulates of one run on ``inputs``, for convolutions, linear and recurrent layers.

    Bias, normalisation, activations and pooling are left out, as is usual. A layer that runs twice counts twice.
    """
    counts: dict[str, int] = {}
    hooks = []

    def counting(name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Any, ...], result: Any) -> None:
            counts[name] = counts.get(name, 0) + _macs(layer, given[0], result)

        return hook

    for name, layer in module.named_modules():
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase)):
            hooks.append(layer.register_forward_hook(counting(name)))
    try:
        with torch.inference_mode():
            module(*inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return counts


def _macs(layer: nn.Module, given: Tensor, result: Any) -> int:
    output = result[0] if isinstance(layer, nn.RNNBase) else result
    weights: list[Any]
    if isinstance(layer, nn.RNNBase):
        weights = [tensor for name, tensor in layer.named_parameters() if name.startswith("weight")]
    else:
        weights = [layer.weight]
    inputs = [Shaped(tuple(given.shape)), *(Shaped(tuple(tensor.shape), constant=True) for tensor in weights)]
    return _rule(layer)(inputs, Shaped(tuple(output.shape)))


def _rule(layer: nn.Module) -> Rule:
    if isinstance(layer, nn.RNNBase):
        return by_weights
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return transposed
    return convolution(1) if isinstance(layer, nn.modules.conv._ConvNd) else product
