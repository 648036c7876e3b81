"""Checkpoints: weights as safetensors, the card as JSON in its metadata. Nothing is pickled, nothing is unpickled.

A pruned network needs no more than that: the widths of its layers are the shapes of its tensors, and
:func:`fit_shapes` gives the freshly built module those widths before the weights go in. Blocks that left whole are
named in the card (:mod:`edgekit.models.skipped`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edgekit.models.family import family
from edgekit.models.skipped import skip_blocks
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgekit.cardfile import decode_card, encode_card
from edgekit.errors import ModelError, SourceError
from edgekit.outputs import publishing
from edgekit.types import Card, Network

log = logging.getLogger("edgekit")
KEY = "edgekit"
Builder = Callable[[Mapping[str, Any]], nn.Module]


def save_checkpoint(network: Network, path: Path) -> str:
    """Writes the weights and the card of ``network`` atomically; gives the SHA-256 of the weights.

    Raises:
        StorageError, UsageError: the place cannot be written.
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.module.state_dict().items()}
    digest = weights_sha256(state)
    card = replace(network.card, source_sha256=digest)
    if card.ranges is not None and card.ranges.get("model_sha256") != digest:
        log.info("%s: ranges that were learnt with other weights are left out", path)
        card = replace(card, ranges=None)
    with publishing(path) as temporary:
        temporary.write_bytes(save(state, metadata={KEY: encode_card(card).decode()}))  # an OSError on a full disk
    return digest


def load_checkpoint(path: str | Path, build: Builder | None = None) -> Network:
    """The network of a checkpoint, in eval mode.

    ``build`` makes the module of a card whose ``config`` names the user's own factory; families of the zoo are built
    here.

    Raises:
        ModelError: missing, empty, cut short, no safetensors file, or weights that do not fit the network.
        SourceError: the card does not say how the network is built.
    """
    file = Path(path)
    state, card = read_checkpoint(file)
    if card is None:
        raise ModelError(
            f"{file} holds tensors but no edgekit card, so the network they belong to is unknown; name it as "
            "file.py:factory and load the tensors there"
        )
    module = _build(file, card, build)
    skip_blocks(module, card.config.get("skipped", {}))
    fit_shapes(module, state)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"the weights in {file} do not fit the network it names: {error}") from error
    shapes = {spec.name: np.zeros(spec.resolved(), spec.dtype) for spec in card.signature.inputs}
    return Network(module.eval(), shapes, card)


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Tensors and card of a safetensors file; the card is None for a file made elsewhere.

    Raises:
        ModelError: see :func:`load_checkpoint`.
    """
    if not file.is_file():
        raise ModelError(f"{file} does not exist; give the path of a .safetensors checkpoint")
    if file.stat().st_size == 0:
        raise ModelError(f"{file} is empty (0 bytes); train or copy it again")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in list(opened.keys())}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is no safetensors file, or cut short: {error}") from error
    return state, decode_card(metadata[KEY].encode()) if KEY in metadata else None


def _build(file: Path, card: Card, build: Builder | None) -> nn.Module:
    config = card.config
    if "family" in config:
        return family(str(config["family"])).build(**config.get("builder", {}))
    if build is None:
        raise SourceError(
            f"{file} was made from {config.get('factory', 'an unknown network')!r}, which is not of the zoo"
        )
    return build(config)


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fit_shapes(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Gives the layers of ``module`` the widths that the tensors of ``state`` have; returns the names of those changed.

    Knows convolutions (grouped and transposed too), linear and recurrent layers, batch, layer and group normalisation,
    embeddings. A layer it does not know keeps its shape, and loading the weights then says so.
    """
    changed = []
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        own = {key: state.get(prefix + key) for key, _ in layer.named_parameters(recurse=False)}
        own |= {key: state.get(prefix + key) for key, _ in layer.named_buffers(recurse=False)}
        found = {key: value for key, value in own.items() if value is not None}
        if all(getattr(layer, key).shape == value.shape for key, value in found.items()):
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
