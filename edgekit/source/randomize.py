"""Random weights that leave no part of a network switched off.

A freshly made network often has branches that give zero until they are trained (the last normalisation of a residual
block, a layer scale of 1e-6) and batch normalisations that do not normalise, so that signals die out on the way. Such a
file would be smaller and its proof would prove little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

SMALL = 1e-3
"""A vector of factors that are all at most this far from zero switches its branch off."""


def randomize_degenerate_parameters(
    module: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> None:
    """Draws parameters that a fresh network has at zero or one; measures the statistics of batch normalisations.

    Factors of normalisations, and other vectors that are constant and close to zero, become uniform in 0.5..1.5; the
    statistics are those of one pass over noise in the shapes of the example arguments. ``module`` is left in eval mode.
    """
    module.eval()
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1 and not name.endswith("bias") and _is_off(parameter):
                parameter.uniform_(0.5, 1.5)
        for norm in norms:
            for factor, low in ((norm.weight, 0.5), (norm.bias, -0.5)):
                if factor is not None:
                    factor.uniform_(low, low + 1)
        _measure(module, norms, tuple(map(_noise, args)), {key: _noise(value) for key, value in (kwargs or {}).items()})


def _is_off(parameter: torch.Tensor) -> bool:
    return bool((parameter == parameter[:1]).all()) and bool(parameter.abs().max() <= SMALL)


def _noise(value: Any) -> Any:
    """Two samples, since one sample of one pixel has no variance; integers are repeated as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    shape = (2, *value.shape[1:])
    return torch.randn(shape) if value.is_floating_point() else value.expand(shape)


def _measure(module: nn.Module, norms: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if not norms:
        return
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the statistics of this pass alone
    try:
        module(*args, **kwargs)
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
            norm.eval()
