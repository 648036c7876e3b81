"""Single weights become zero: by magnitude (Han et al. 2015), or two of every four (NVIDIA's 2:4).

The file compresses better. No runtime here has a kernel that skips zeros, so the network is not faster for it;
``docs/pruning.md`` has the measurement.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgekit.artifact import library_versions
from edgekit.converters.base import own_prefix
from edgekit.errors import UnsupportedError, UsageError
from edgekit.models.weight_norm import put_back, take_off, weight_norms, without_weight_norms
from edgekit.passes import Model, Pass, PassContext, PassError, with_params
from edgekit.pruning.channels import network_of
from edgekit.pruning.groups import SPREADS
from edgekit.types import Network, PassResult, Step

Masks = Mapping[str, Tensor]
"""Parameter name -> True where the weight stays."""


@dataclass(frozen=True)
class PruneMagnitude(Pass):
    """Makes the weights of least magnitude zero.

    Attributes:
        amount: share of the weights to make zero, above 0 and below 1.
        spread: ``even`` takes this share of every layer, ``global`` the smallest of the whole network.
    """

    amount: float
    spread: str = "even"
    name: ClassVar[str] = "prune-magnitude"

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1:
            raise UsageError(
                f"--amount is {self.amount:g}; give the share of weights to make zero, above 0 and below 1 (0.8 keeps "
                "every fifth)"
            )
        if self.spread not in SPREADS:
            raise UsageError(f"no spread is called {self.spread!r}; there are: {', '.join(SPREADS)}")

    def describe(self, model: Model) -> Step:
        params = {"method": "magnitude", "amount": self.amount, "importance": "magnitude", "spread": self.spread}
        return Step("prune", params, library_versions("torch"))

    def apply(self, model: Model, context: PassContext) -> PassResult:
        network = network_of(model)
        weights = _matrices(without_weight_norms(network.module))
        if self.spread == "global":
            every = torch.cat([w.detach().abs().flatten() for w in weights.values()])
            kept = torch.split(_largest(every, self.amount), [w.numel() for w in weights.values()])
            masks = {n: k.view_as(w) for (n, w), k in zip(weights.items(), kept, strict=True)}
        else:
            masks = {n: _largest(w.detach().abs().flatten(), self.amount).view_as(w) for n, w in weights.items()}
        return _masked(self, network, masks, ())


@dataclass(frozen=True)
class PruneTwoOfFour(Pass):
    """Makes the two smaller ones of every four weights zero that lie side by side along a layer's inputs.

    Layers whose number of inputs is not a multiple of 4 are left as they are, and named.
    """

    name: ClassVar[str] = "prune-2-of-4"

    def describe(self, model: Model) -> Step:
        return Step("prune", {"method": "2:4", "amount": 0.5, "importance": "magnitude"}, library_versions("torch"))

    def apply(self, model: Model, context: PassContext) -> PassResult:
        network = network_of(model)
        masks, left = {}, []
        prefix = own_prefix(network.module)
        for name, weight in _matrices(without_weight_norms(network.module)).items():
            if weight.shape[1] % 4:
                left.append(name.removeprefix(prefix))
            else:
                masks[name] = two_of_four(weight.detach())
        if not masks:
            raise UnsupportedError("2:4 needs a layer whose number of inputs is a multiple of 4; no layer has one")
        notes = (f"left dense, the number of inputs is not a multiple of 4: {', '.join(left)}",) if left else ()
        return _masked(self, network, masks, notes)


def two_of_four(weight: Tensor) -> Tensor:
    """True at the two largest of each four along axis 1 (at every place of a kernel)."""
    inputs_last = weight.abs().movedim(1, -1)
    fours = inputs_last.reshape(*inputs_last.shape[:-1], -1, 4)  # (..., inputs / 4, 4)
    largest = fours.topk(2, -1).indices
    kept = torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, largest, True)
    return kept.flatten(-2).movedim(-1, 1)


def _matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of convolutions, linear and recurrent layers and embeddings; of a normalised one its direction.

    Raises:
        UnsupportedError: there are none.
    """
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase, nn.Embedding)
    norms, layers = weight_norms(module), {name: m for name, m in module.named_modules() if isinstance(m, kinds)}
    parameters = dict(module.named_parameters())
    found = {norm.direction: parameters[norm.direction] for norm in norms if norm.layer in layers}
    lengths = {f"{norm.plain}_g" for norm in norms}
    for prefix, layer in layers.items():
        for own, value in layer.named_parameters(recurse=False):
            name = f"{prefix}.{own}" if prefix else own
            if own.startswith("weight") and value.ndim > 1 and name not in lengths:
                found[name] = value
    if not found:
        raise UnsupportedError(
            "no weights can be pruned: there is no convolution, linear, recurrent or embedding layer"
        )
    return found


def _largest(values: Tensor, amount: float) -> Tensor:
    """True for all but the ``amount`` of the values that are smallest; exact where values are equal."""
    kept = torch.ones_like(values, dtype=torch.bool)
    kept[values.argsort(stable=True)[: round(amount * values.numel())]] = False
    return kept


@torch.no_grad()
def _masked(what: Pass, network: Network, masks: Masks, notes: tuple[str, ...]) -> PassResult:
    norms = weight_norms(network.module)
    module = copy.deepcopy(network.module).eval()
    take_off(module, norms)
    parameters = dict(module.named_parameters())
    for name, kept in masks.items():
        parameters[name].mul_(kept)
    for norm in norms:
        if not torch.norm_except_dim(parameters[norm.plain], 2, -1 if norm.dim is None else norm.dim).all():
            layer = norm.layer.removeprefix(own_prefix(module))
            raise PassError(
                f"pass {what.name}: every weight of a channel of {layer} would be zero, and its weight normalisation "
                "divides by their norm; nothing is published. Prune less, or take the normalisation off in the code "
                "that makes the network (torch.nn.utils.remove_weight_norm)"
            )
    put_back(module, norms)
    total = sum(w.numel() for w in _matrices(module).values())
    step = with_params(what.describe(network), weights=total, zeros=zeros(module))
    card = replace(network.card.with_step(step, *notes), quality=(), selftest=None, source_sha256="")
    return PassResult(Network(module, network.example_inputs, card), True, notes)


def zeros(module: nn.Module) -> int:
    """Weights that are zero."""
    return sum(int((w == 0).sum()) for w in _matrices(module).values())


def masks_of(module: nn.Module) -> Masks:
    """Where the weights of a pruned module are not zero."""
    return {name: weight.detach() != 0 for name, weight in _matrices(module).items()}


def _only(kept: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.where(kept.to(gradient.device), 0.0)


@contextmanager
def kept_at_zero(module: nn.Module) -> Iterator[None]:
    """While this lasts, training leaves the weights of ``module`` at zero that are zero.

    Their gradients are made zero: momentum, adaptive steps, weight decay and the moving average of a weight that is
    zero then are zero too.

    Raises:
        PassError: at the end, one of them is not zero.
    """
    masks = masks_of(module)
    parameters = dict(module.named_parameters())
    handles = []
    for name, kept in masks.items():
        handles.append(parameters[name].register_hook(_only(kept)))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    now = dict(module.named_parameters())
    moved = [name for name, kept in masks.items() if bool((now[name].detach().cpu()[~kept] != 0).any())]
    if moved:
        prefix = own_prefix(module)
        names = ", ".join(name.removeprefix(prefix) for name in moved)
        raise PassError(f"fine-tuning brought pruned weights back in {names}; nothing is published")
