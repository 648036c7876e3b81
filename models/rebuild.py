"""The network of the zoo that a checkpoint's card describes, tried out before memory is laid out for it.

The numbers come from the file: a width of a billion, or a picture of a million rows, must cost nothing but a message.
The network is first built and run on torch's ``meta`` device, where tensors have shapes and no content.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgekit import registry
from edgekit.errors import ModelError
from edgekit.limits import check
from edgekit.models.family import family, parameter_count
from edgekit.models.fit import fit_shapes
from edgekit.models.skipped import skip_blocks
from edgekit.reading import reading
from edgekit.types import Card

COUNTS = ("depth", "layers", "blocks")
"""Arguments of builders that say how many parts there are; others are widths."""
MOST_PARTS, MOST_WIDTH = 256, 1 << 20
_STEPS = 8
"""Steps of a sequence that are run: on ``meta``, torch goes through them one by one in Python."""
_SMALL = 4096
"""Values of an input up to which the network itself is run: nothing large can come of it, and ``meta`` takes a second
to set up."""


def build_from_card(file: Path, card: Card, state: Mapping[str, Tensor]) -> nn.Module:
    """The module that ``card`` describes, its blocks taken out and its widths those of ``state``; without its weights.

    Raises:
        ModelError: no such family, arguments that it does not take, or a network that does not run on its own inputs.
        LimitError: too many parameters or parts, or results of layers that are too large.
    """
    name, numbers = str(card.config["family"]), card.config.get("builder", {})
    if name not in registry.names("families"):
        raise ModelError(f"{file} is of the family {name[:60]!r}, which is not known; there are: {_families()}")
    _check_numbers(file, numbers)
    kin = family(name)
    small = sum(math.prod(spec.resolved()) for spec in card.signature.inputs) <= _SMALL
    with reading(file, ModelError, f"a network of the family {name}"):
        with torch.device("meta"):
            trial = kin.build(**numbers)
            check("PARAMETERS", parameter_count(trial), file)
            _fit(trial, card, state)
            if not small:
                _try(file, card, trial.eval())
        module = kin.build(**numbers)
        _fit(module, card, state)
        if small:
            _try(file, card, module.eval())
    return module


def _families() -> str:
    return ", ".join(registry.names("families"))


def _fit(module: nn.Module, card: Card, state: Mapping[str, Tensor]) -> None:
    skip_blocks(module, card.config.get("skipped", {}))
    fit_shapes(module, state)


def _check_numbers(file: Path, numbers: Mapping[str, Any], within: str = "") -> None:
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            _check_numbers(file, value, f"{key}.")
            continue
        each = value if isinstance(value, list | tuple) else (value,)
        whole = [one for one in each if type(one) is int]
        fit = all(isinstance(one, str | bool | float | int | None) for one in each) and len(each) <= MOST_PARTS
        if not fit or min(whole, default=0) < 0 or sum(whole) > (MOST_PARTS if key in COUNTS else MOST_WIDTH):
            raise ModelError(
                f"{file}: its card builds the network with {within}{key} = {str(value)[:60]}; numbers from 0 to "
                f"{MOST_WIDTH:,} were expected, and at most {MOST_PARTS} parts"
            )


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the largest tensor that is made."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self.bytes = max(self.bytes, one.numel() * one.element_size())
        return made


def _try(file: Path, card: Card, module: nn.Module) -> None:
    """Runs ``module`` on zeros of the card's shapes; raises what torch raises."""
    inputs, scale = [], 1.0
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    for spec in card.signature.inputs:
        shape = list(spec.resolved())
        if recurrent and len(shape) == 3 and shape[1] > _STEPS:
            shape[1], scale = _STEPS, shape[1] / _STEPS
        inputs.append(torch.zeros(shape, dtype=getattr(torch, spec.dtype)))
    counting = _Largest()  # type: ignore[no-untyped-call]
    with counting as largest, torch.no_grad():
        found = module(*inputs)
    check("INPUT_BYTES", largest.bytes * scale, f"{file}: the largest result of a layer")
    shapes = [tuple(one.shape) for one in (found if isinstance(found, tuple | list) else (found,))]
    wanted = [spec.resolved() for spec in card.signature.outputs]
    if shapes != wanted:
        raise ModelError(f"{file}: its card promises outputs of {wanted}, the network gives {shapes}; train it again")
