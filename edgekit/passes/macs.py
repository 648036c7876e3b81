"""Multiply-accumulates of a torch module, by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


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
    if isinstance(layer, nn.RNNBase):
        steps = given.numel() // given.shape[-1]
        return steps * sum(p.numel() for name, p in layer.named_parameters() if name.startswith("weight"))
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        places = given.numel() // given.shape[1]  # each input value is spread by the kernel
        return places * weight.numel()
    if isinstance(layer, nn.modules.conv._ConvNd):
        return int(result.numel() // result.shape[1]) * weight.numel()
    return int(result.numel() // result.shape[-1]) * weight.numel()
