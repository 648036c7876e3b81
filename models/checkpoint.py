"""Checkpoints: weights as safetensors, the card as JSON in its metadata. Nothing is pickled, nothing is unpickled.

A pruned network needs no more than that: the widths of its layers are the shapes of its tensors, and
:mod:`edgekit.models.fit` gives the freshly built module those widths before the weights go in. Blocks that left whole
are named in the card (:mod:`edgekit.models.skipped`).
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edgekit.errors import InputError, ModelError, SourceError
from edgekit.inputs import require_regular
from edgekit.model_metadata import decode_card, encode_card
from edgekit.models.fit import fit_shapes
from edgekit.models.rebuild import build_from_card
from edgekit.models.skipped import skip_blocks
from edgekit.outputs import publishing
from edgekit.reading import reading, why
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
        log.info("%s: ranges that were learned with other weights are left out", path)
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
    module = _build(file, card, state, build)
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"the weights in {file} do not fit the network it names: {why(error)}") from error
    shapes = {spec.name: np.zeros(spec.resolved(), spec.dtype) for spec in card.signature.inputs}
    return Network(module.eval(), shapes, card)


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], Card | None]:
    """Tensors and card of a safetensors file; the card is None for a file made elsewhere.

    Raises:
        ModelError: see :func:`load_checkpoint`.
    """
    require_regular(file, ModelError, "a .safetensors checkpoint", "MODEL_BYTES")
    if file.stat().st_size == 0:
        raise ModelError(f"{file} is empty (0 bytes); train or copy it again")
    with reading(file, ModelError, "safetensors", SafetensorError), safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
        state = {name: opened.get_tensor(name) for name in list(opened.keys())}
    if KEY not in metadata:
        return state, None
    try:
        return state, decode_card(metadata[KEY].encode())
    except InputError as error:
        raise type(error)(f"{file}: {error}") from error


def _build(file: Path, card: Card, state: Mapping[str, Tensor], build: Builder | None) -> nn.Module:
    config = card.config
    if "family" in config:
        return build_from_card(file, card, state)
    if build is None:
        raise SourceError(
            f"{file} was made from {config.get('factory', 'an unknown network')!r}, which is not of the zoo"
        )
    module = build(config)
    skip_blocks(module, config.get("skipped", {}))
    fit_shapes(module, state)
    return module


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
