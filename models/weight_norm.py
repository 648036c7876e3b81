"""Layers whose weight is a direction and a length (weight normalisation, Salimans and Kingma 2016).

``w = g · v / ‖v‖`` in both forms that torch has: the hook of ``nn.utils.weight_norm`` and the parametrization of
``nn.utils.parametrizations.weight_norm``. What changes a weight changes it in the plain layer; put back afterwards,
``v`` is the weight and ``g`` its norms, so that nothing but the names of the tensors differs.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.weight_norm import WeightNorm as Hook
from torch.nn.utils.weight_norm import remove_weight_norm, weight_norm


@dataclass(frozen=True)
class WeightNorm:
    """One normalised tensor.

    Attributes:
        layer, tensor: name of the module, and of its tensor (``weight``).
        dim: the axis along which there is one length each; None: one length in all.
        hooked: the form with a hook, whose tensors are ``weight_g`` and ``weight_v``.
    """

    layer: str
    tensor: str
    dim: int | None
    hooked: bool

    @property
    def plain(self) -> str:
        """Full name of the tensor in the plain layer."""
        return f"{self.layer}.{self.tensor}" if self.layer else self.tensor

    @property
    def direction(self) -> str:
        """Full name of the tensor that holds ``v``, of the shape of the weight."""
        own = f"{self.tensor}_v" if self.hooked else f"parametrizations.{self.tensor}.original1"
        return f"{self.layer}.{own}" if self.layer else own


def weight_norms(module: nn.Module) -> list[WeightNorm]:
    """The normalised tensors of ``module``; those of layers with other parametrizations too are left out."""
    found = []
    for name, layer in module.named_modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, Hook):
                found.append(WeightNorm(name, hook.name, hook.dim if hook.dim != -1 else None, True))
        held = dict(layer.parametrizations.items()) if parametrize.is_parametrized(layer) else {}
        if all(len(row) == 1 and isinstance(row[0], parametrizations._WeightNorm) for row in held.values()):
            found += [
                WeightNorm(name, key, row[0].dim if row[0].dim != -1 else None, False) for key, row in held.items()
            ]
    return found


def without_weight_norms(module: nn.Module) -> nn.Module:
    """``module`` itself where nothing is normalised, else a copy with plain weights of the same values."""
    norms = weight_norms(module)
    if not norms:
        return module
    plain = copy.deepcopy(module)
    take_off(plain, norms)
    return plain


def take_off(module: nn.Module, norms: Sequence[WeightNorm]) -> None:
    """Makes the tensors ``norms`` of ``module`` plain, in place."""
    weights = {
        norm: getattr(module.get_submodule(norm.layer), norm.tensor).detach() for norm in norms if not norm.hooked
    }
    for norm in norms:
        layer = module.get_submodule(norm.layer)
        if norm.hooked:
            remove_weight_norm(layer, norm.tensor)
            weights[norm] = getattr(layer, norm.tensor).detach()
            delattr(layer, norm.tensor)
        elif parametrize.is_parametrized(
            layer
        ):  # by hand: torch takes the tensor away from copies of the layer as well
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
        layer.register_parameter(norm.tensor, nn.Parameter(weights[norm]))


def put_back(module: nn.Module, norms: Sequence[WeightNorm]) -> None:
    """Normalises the plain tensors ``norms`` of ``module`` again, in place."""
    for norm in norms:
        layer = module.get_submodule(norm.layer)
        if norm.hooked:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch would have the newer form
                weight_norm(layer, norm.tensor, norm.dim)  # type: ignore[arg-type]
        else:
            parametrizations.weight_norm(layer, norm.tensor, norm.dim)  # type: ignore[arg-type]
