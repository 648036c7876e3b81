"""Gives a freshly built network the widths that the tensors of a pruned one have."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgekit.models.weight_norm import put_back, take_off, weight_norms


def fit_shapes(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Gives the layers of ``module`` the widths that the tensors of ``state`` have; returns the names of those changed.

    Knows convolutions (grouped and transposed too), linear and recurrent layers, batch, layer and group normalisation,
    embeddings, with weight normalisation or without. A layer it does not know keeps its shape, and loading the weights
    then says so.
    """
    norms = weight_norms(module)
    take_off(module, norms)
    changed = _fit_plain(module, {**state, **{n.plain: state[n.direction] for n in norms if n.direction in state}})
    put_back(module, norms)
    return changed


def _fit_plain(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    changed = []
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        own = {key: state.get(prefix + key) for key, _ in layer.named_parameters(recurse=False)}
        own |= {key: state.get(prefix + key) for key, _ in layer.named_buffers(recurse=False)}
        found = {key: value for key, value in own.items() if value is not None}
        if all(getattr(layer, key).shape == value.shape for key, value in found.items()):
            continue
        if any(getattr(layer, key).dim() != value.dim() for key, value in found.items()) or not _whole(layer, found):
            continue
        _resize(layer, {key: tuple(value.shape) for key, value in found.items()})
        for key, value in found.items():
            current = getattr(layer, key)
            fresh = torch.empty(value.shape, dtype=current.dtype)
            setattr(layer, key, nn.Parameter(fresh) if isinstance(current, nn.Parameter) else fresh)
        if isinstance(layer, nn.RNNBase):
            layer.flatten_parameters()
        changed.append(name)
    return tuple(changed)


def _whole(layer: nn.Module, found: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are there that say how wide ``layer`` is."""
    needed = ("weight_hh_l0", "weight_ih_l0") if isinstance(layer, nn.RNNBase) else ("weight",)
    return all(key in found for key in needed if hasattr(layer, key))


def _resize(layer: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Sets the numbers a layer keeps about itself (``in_channels`` ...) to the shapes of its tensors."""
    weight = shapes.get("weight", ())
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        layer.in_channels = weight[0]
        if layer.groups > 1 and layer.groups == layer.out_channels:
            layer.groups = weight[0]
        layer.out_channels = weight[1] * layer.groups
    elif isinstance(layer, nn.modules.conv._ConvNd):
        if layer.groups > 1 and layer.groups == layer.out_channels:
            layer.groups = weight[0]  # depthwise stays depthwise
        layer.out_channels, layer.in_channels = weight[0], weight[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight[0], weight[1]
    elif isinstance(layer, nn.RNNBase):
        layer.hidden_size, layer.input_size = shapes["weight_hh_l0"][1], shapes["weight_ih_l0"][1]
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        layer.num_features = shapes.get("running_mean", weight)[0]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = weight
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = weight[0]
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = weight[0]
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = weight[0], weight[1]
