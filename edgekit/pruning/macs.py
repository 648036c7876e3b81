"""Multiply-accumulates of a torch module, by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.graph.macs import Rule, by_weights, convolution, product, transposed
from edgekit.graph.macs import Tensor as Shaped


def layer_macs(module: nn.Module, inputs: Sequence[Tensor]) -> dict[str, int]:
    """Module name -> multiply-accumulates of one run on ``inputs``, for convolutions, linear and recurrent layers,
    and attention (:class:`torch.nn.MultiheadAttention`).

    Bias, normalisation, activations and pooling are left out, as is usual. A layer that runs twice counts twice.
    """
    counts: dict[str, int] = {}
    hooks = []

    def counting(name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            if isinstance(layer, nn.MultiheadAttention):
                found = _of_attention(layer, *given, **named)
            else:
                found = _macs(layer, given[0], result)
            counts[name] = counts.get(name, 0) + found

        return hook

    counted = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase, nn.MultiheadAttention)
    for name, layer in module.named_modules():
        if isinstance(layer, counted):
            hooks.append(layer.register_forward_hook(counting(name), with_kwargs=True))
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel for a whole encoder layer calls none of its parts
    try:
        with torch.inference_mode():
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for handle in hooks:
            handle.remove()
    return counts


def _of_attention(layer: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> int:
    """Four projections and the two products of attention, as torch's FlopCounterMode counts them."""
    batch_at, time_at = (0, 1) if layer.batch_first else (1, 0)
    batch = query.shape[batch_at] if query.dim() == 3 else 1
    rows, steps = (tensor.shape[time_at] if tensor.dim() == 3 else tensor.shape[0] for tensor in (query, key))
    width = layer.embed_dim
    projections = rows * width * width * 2 + steps * width * (key.shape[-1] + value.shape[-1])
    return int(batch * (projections + 2 * rows * steps * width))


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
