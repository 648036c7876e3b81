"""Structured pruning: whole channels, hidden units and heads leave, and any runtime is faster for it.

What leaves together is found by :mod:`prune_find`; what matters least by :mod:`prune_importance`; how many leave
follows from the multiply-accumulates to be saved (:mod:`prune_groups`), in steps that keep widths multiples of 8;
:mod:`prune_layers` takes them out. A weight that is normalised is plain meanwhile (:mod:`edgekit.models.weight_norm`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.artifact import library_versions
from edgekit.converters.base import own_prefix
from edgekit.errors import UnsupportedError, UsageError
from edgekit.models.weight_norm import put_back, weight_norms, without_weight_norms
from edgekit.passes import Model, Pass, PassContext, PassError, with_params
from edgekit.pruning.discovery import difference, label, what_can_leave
from edgekit.pruning.groups import SPREADS, Budget, Group, removed
from edgekit.pruning.importance import Gradients, check_kind, ranked
from edgekit.pruning.layers import prove, smaller
from edgekit.pruning.macs import layer_macs
from edgekit.types import Network, PassResult, Step


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Removes the channels, hidden units and heads that matter least until ``amount`` of the multiply-accumulates are
    gone.

    Attributes:
        amount: share of the multiply-accumulates to remove, above 0 and below 1.
        round_to: widths are kept multiples of this; kernels of CPUs are made for 8.
        spread: ``even`` takes the same share of every group of layers; ``global`` takes where importance per
            multiply-accumulate saved is least.
        importance: see :data:`~edgekit.pruning.importance.KINDS`.
        gradients: parameter name -> mean gradient, for ``taylor``.
        seed: for ``random``.
        keep: patterns (``stem.*``, as in :mod:`fnmatch`) of layers that stay as wide as they are.
    """

    amount: float
    round_to: int = 8
    spread: str = "even"
    importance: str = "magnitude"
    gradients: Gradients | None = field(default=None, repr=False, compare=False)
    seed: int = 0
    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "prune-channels"

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1:
            raise UsageError(
                f"--amount is {self.amount:g}; give the share of multiply-accumulates to remove, above 0 and below 1 "
                "(0.5 removes half)"
            )
        if self.round_to < 1:
            raise UsageError(f"round_to is {self.round_to}; give 1 or more, 8 suits most kernels")
        if self.spread not in SPREADS:
            raise UsageError(f"no spread is called {self.spread!r}; there are: {', '.join(SPREADS)}")
        check_kind(self.importance)

    def describe(self, model: Model) -> Step:
        params = {
            "method": "channels",
            "amount": self.amount,
            "importance": self.importance,
            "spread": self.spread,
            "round_to": self.round_to,
            **({"keep": list(self.keep)} if self.keep else {}),
        }
        return Step("prune", params, library_versions("torch-pruning", "torch"))

    def apply(self, model: Model, context: PassContext) -> PassResult:
        network = network_of(model)
        inputs = examples(network)
        budget, notes = self.budget(network)
        module, kept = budget.module, self._kept(budget)
        gone = removed(budget.groups, kept)
        try:
            pruned = smaller(module, gone)
            prove(module, pruned, gone, inputs)
        except (RuntimeError, IndexError, PassError) as error:  # torch's shape errors, and another output
            raise PassError(_culprits(budget, kept, inputs) or str(error)) from error
        put_back(pruned, weight_norms(network.module))
        step = with_params(
            self.describe(model),
            macs_before=budget.total,
            macs_after=sum(layer_macs(pruned, inputs).values()),
            parameters_before=_parameters(network.module),
            parameters_after=_parameters(pruned),
            kept={
                name.removeprefix(own_prefix(module)): [_width(pruned, name), _width(module, name)]
                for name in sorted(budget.macs)
            },
        )
        card = replace(network.card.with_step(step, *notes), quality=(), selftest=None, source_sha256="")
        return PassResult(Network(pruned, network.example_inputs, card), True, tuple(notes))

    def choice(self, network: Network) -> list[int]:
        """What makes two amounts the same pruning: the channels that each group keeps. Raises as :meth:`budget`."""
        return self._kept(self.budget(network)[0])

    def most(self, network: Network) -> float:
        """The largest share that can leave.

        Raises:
            UsageError: none can, by these multiples; and as :meth:`budget`.
        """
        budget, _ = self.budget(network)
        least = budget.cost([group.widths(self.round_to)[-1] for group in budget.groups])
        if least >= budget.total:
            raise UsageError(
                f"no width is above {self.round_to}, to be cut down to a multiple of it; give --round-to 1"
            )
        return 1 - least / budget.total

    def _kept(self, budget: Budget) -> list[int]:
        return budget.choose((1 - self.amount) * budget.total, self.round_to, self.spread)

    def budget(self, network: Network) -> tuple[Budget, list[str]]:
        """What can leave ``network``, and notes on what cannot.

        Raises:
            UnsupportedError: it cannot be traced, or nothing can leave it.
            UsageError: a pattern of ``keep`` is the name of no layer, or all layers are kept.
        """
        module, inputs = without_weight_norms(network_of(network).module), examples(network)
        found, notes = what_can_leave(module, inputs)
        groups = ranked(module, found, self.importance, self.gradients, self.seed)
        if not groups:
            raise UnsupportedError(
                "no channels can leave this network: pruning needs a convolution, linear or recurrent layer whose "
                f"outputs another one reads{''.join(f'; {note}' for note in notes)}"
            )
        if self.keep:
            groups = _without(groups, self.keep, own_prefix(module))
        return Budget(module, layer_macs(module, inputs), groups), notes


def _culprits(budget: Budget, kept: Sequence[int], inputs: Sequence[Tensor]) -> str:
    """The layers that cannot lose what they would, each with the reason; empty where each of them alone can."""
    said = []
    for k, group in enumerate(budget.groups):
        alone = [row.channels for row in budget.groups]
        alone[k] = kept[k]
        why = difference(budget.module, removed(budget.groups, alone), inputs)
        if why:
            names = sorted({name for name, side in group.units[0] if side != "in"})
            said.append(f"{label(budget.module, names)}: with {kept[k]} of {group.channels} channels {why}")
    return f"{'; '.join(said)}. --keep leaves a layer as wide as it is; nothing is published" if said else ""


def _without(groups: Sequence[Group], keep: Sequence[str], prefix: str) -> tuple[Group, ...]:
    """``groups`` less those that change the width of a layer that is kept; ``prefix`` is not part of a user's name."""
    widths = [{name.removeprefix(prefix) for name, side in group.units[0] if side != "in"} for group in groups]
    layers = sorted(set().union(*widths))
    for pattern in keep:
        if not fnmatch.filter(layers, pattern):
            raise UsageError(
                f"--keep {pattern} is the name of no layer that can lose width; there are: {', '.join(layers)}"
            )
    found = tuple(
        group
        for group, names in zip(groups, widths, strict=True)
        if not any(fnmatch.filter(names, pattern) for pattern in keep)
    )
    if not found:
        raise UsageError(f"--keep {' '.join(keep)} keeps every layer as wide as it is; keep fewer")
    return found


def network_of(model: Model) -> Network:
    """``model`` as a network.

    Raises:
        UsageError: it is a file.
        UnsupportedError: it is an exported program.
    """
    if not isinstance(model, Network):
        raise UsageError("pruning works on a network (zoo name, checkpoint, file.py:factory), not on a model file")
    if isinstance(model.module, torch.fx.GraphModule):
        raise UnsupportedError(
            "an exported program (.pt2) holds operators, not layers, so none can be made smaller; prune the network it "
            "was exported from (zoo name, checkpoint, file.py:factory), then export again"
        )
    return model


def examples(network: Network) -> list[Tensor]:
    """The example inputs as tensors, in order."""
    return [torch.from_numpy(np.array(network.example_inputs[spec.name])) for spec in network.signature.inputs]


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _width(module: nn.Module, name: str) -> int:
    layer = module.get_submodule(name)
    return int(
        getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0) or getattr(layer, "hidden_size", 0)
    )
