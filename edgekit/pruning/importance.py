"""How much a unit matters: one score for each element of the tensors it would leave, added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.pruning.groups import Group, Unit
from edgekit.pruning.layers import slots

Gradients = Mapping[str, Tensor]
"""Parameter name -> its mean gradient on training samples."""
Elements = Callable[[str, Tensor], Tensor]
KINDS = ("magnitude", "taylor", "bn-scale", "random")
"""``magnitude``: sum of squares (Li et al. 2017). ``taylor``: sum of (weight × gradient)², the first-order change of
the loss (Molchanov et al. 2019). ``bn-scale``: square of batch normalisation's factor (Liu et al. 2017). ``random``:
the control that the others have to beat."""


class Related(NamedTuple):
    """Sets of units, one of each of which leaves at a time: layers and directions that share one hidden size."""

    parts: tuple[tuple[Unit, ...], ...]


def check_kind(kind: str) -> None:
    """Raises UsageError for an unknown importance."""
    if kind not in KINDS:
        raise UsageError(f"no importance is called {kind!r}; there are: {', '.join(KINDS)}")


def ranked(
    module: nn.Module, found: Iterable[Related], kind: str, gradients: Gradients | None, seed: int
) -> tuple[Group, ...]:
    """The groups of ``found`` with their units in order of importance.

    Where layers share a width, each ranks its own units, and the k-th least of every one leave together.

    Raises:
        UsageError: ``bn-scale`` where no batch normalisation follows, ``taylor`` without gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for related in found:
        rows = []
        for units in related.parts:
            if kind == "random":
                scores = torch.rand(len(units), generator=generator)
            else:
                scores = _scores(module, units, kind, gradients)
            rows.append((scores, torch.argsort(scores).tolist()))
        merged_units: list[Unit] = []
        total = []
        for rank in range(len(related.parts[0])):
            merged: dict[tuple[str, str], set[int]] = {}
            score = 0.0
            for part, (scores, order) in zip(related.parts, rows, strict=True):
                score += float(scores[order[rank]]) / len(rows)
                for place, indices in part[order[rank]].items():
                    merged.setdefault(place, set()).update(indices)
            merged_units.append({place: tuple(sorted(indices)) for place, indices in merged.items()})
            total.append(score)
        groups.append(Group(tuple(merged_units), tuple(total)))
    return tuple(groups)


def _scores(module: nn.Module, units: Sequence[Unit], kind: str, gradients: Gradients | None) -> Tensor:
    """Mean over the places of a unit of the sum of its elements' scores, relative to the mean of all units."""
    parameters = dict(module.named_parameters())
    rows = []
    for name, side in units[0]:
        layer = module.get_submodule(name)
        if kind == "bn-scale" and not isinstance(layer, nn.modules.batchnorm._NormBase):
            continue
        total = torch.zeros(len(units))
        read = False
        for tensor, axis, _ in slots(layer, side, units[0][name, side]):
            full = f"{name}.{tensor}" if name else tensor
            value = parameters.get(full)
            if value is None or tensor.startswith("bias"):
                continue
            elements = _elements(full, value.detach(), kind, gradients).movedim(axis, 0)
            each = elements.reshape(elements.shape[0], -1).sum(1)
            for k, unit in enumerate(units):
                for other, ax, places in slots(layer, side, unit[name, side]):
                    if other == tensor and ax == axis:
                        total[k] += each[places].sum()
            read = True
        if read:
            rows.append(total)
    if not rows:
        first = ", ".join(sorted({name for name, _ in units[0]})[:3])
        raise UsageError(
            f"--importance {kind}: no batch normalisation scales the channels of {first}; take magnitude or taylor"
        )
    scores = torch.stack(rows).mean(0)
    return scores / scores.mean().clamp_min(torch.finfo(torch.float32).tiny)


def _elements(name: str, value: Tensor, kind: str, gradients: Gradients | None) -> Tensor:
    if kind != "taylor":
        return value.square()
    if gradients is None or name not in gradients:
        raise UsageError("--importance taylor measures gradients on training samples, which needs --data")
    return (value * gradients[name]).square()
