"""Quantization-aware training: what ``train_network`` puts around the network, and what it takes out in the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from edgekit.data.dataset import Dataset, stratified
from edgekit.data.preprocess import feeds
from edgekit.errors import GateError, UnsupportedError
from edgekit.models.checkpoint import weights_sha256
from edgekit.models.family import Hyperparameters
from edgekit.models.samples import MAX_VALIDATION, kept_and_held
from edgekit.quantization.qat.learned import learned_calibration
from edgekit.quantization.qat.module import FakeQuantized
from edgekit.runtime.torch import free_batch
from edgekit.types import Card, Feed, Network

log = logging.getLogger("edgekit")
SAMPLES = 300
"""Samples on which ranges start; as many as ``edgekit quantize`` calibrates on."""
_BATCH = 50
MOVING = 0.5
"""Share of the steps in which the ranges still move; in the rest the weights settle to them (Jacob et al. 2018 freeze
them at the end of training, Krishnamoorthi 2018, section 3.4, when the learning rate has fallen)."""


def with_roundings(network: Network, data: Dataset, options: Hyperparameters) -> Network:
    """``network`` with the roundings of its int8 files around the same module, ranges started on ``data``.

    Raises:
        UnsupportedError: nothing in it is rounded, or it is quantized already.
    """
    _require_float(network)
    names = [spec.name for spec in network.signature.inputs]
    examples = [torch.from_numpy(np.asarray(network.example_inputs[name])) for name in names]
    share = min(options.validation, MAX_VALIDATION / len(data))
    kept, _ = kept_and_held(data, share, options.seed)
    steps = -(-len(kept) // options.batch) * options.epochs
    module = FakeQuantized(network.module, examples, names, freeze=round(MOVING * steps))
    module.calibrate([torch.from_numpy(feed[name]) for name in names] for feed in _feeds(network, data))
    log.info(
        "int8 in training: %d tensors and the weights of %d layers are rounded, %d batch norms folded",
        len(module.plan.points),
        len(module.plan.weights),
        len(module.plan.folded),
    )
    return replace(network, module=module)


def with_learned_ranges(taught: Network, card: Card, data: Dataset) -> Card:
    """``card`` with the ranges that ``taught`` learnt, under the names of the plain module's tensors.

    Raises:
        GateError: the weights or ranges are not finite numbers.
    """
    module = taught.module
    assert isinstance(module, FakeQuantized)
    bad = [name for name, value in module.network.state_dict().items() if not torch.isfinite(value.float()).all()]
    if bad:
        raise GateError(f"training diverged: {', '.join(bad[:3])} hold NaN or infinity; give a lower --lr")
    plain = replace(taught, module=module.network.eval())
    found = learned_calibration(module, plain, _feeds(plain, data), data.label)
    digest = weights_sha256(module.network.state_dict())
    return replace(card, ranges=replace(found, model_sha256=digest).document())


def _feeds(network: Network, data: Dataset) -> Iterator[Feed]:
    chosen = stratified(data, min(SAMPLES, len(data)), 0)
    return feeds(chosen, free_batch(network.signature), network.card.contract, batch=_BATCH)


def _require_float(network: Network) -> None:
    for name, layer in network.module.named_modules():
        home = type(layer).__module__
        if home.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic", "torch.ao.quantization")) or (
            isinstance(layer, torch.fx.GraphModule) and "quantize_per_" in layer.code
        ):
            raise UnsupportedError(
                f"{network.name} is quantized already ({name or 'the network'} is a {type(layer).__name__}); give the "
                "float network it was made from"
            )
