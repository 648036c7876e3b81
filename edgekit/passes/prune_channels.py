"""Structured pruning: whole channels, hidden units and heads leave, and any runtime is faster for it.

What leaves together is found by :mod:`prune_trace` (Torch-Pruning) or, where there are recurrent layers or
``nn.Unflatten``, :mod:`prune_probe`; what matters least by :mod:`prune_importance`; how many leave follows from the
multiply-accumulates to be saved (:mod:`prune_groups`), in steps that keep widths multiples of 8; :mod:`prune_layers`
takes them out.
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
from edgekit.errors import UnsupportedError, UsageError
from edgekit.passes.base import Model, Pass, PassContext, with_params
from edgekit.passes.macs import layer_macs
from edgekit.passes.prune_groups import SPREADS, Budget, Group, Unit, removed
from edgekit.passes.prune_importance import Gradients, Related, check_kind, ranked
from edgekit.passes.prune_layers import prove, smaller
from edgekit.passes.prune_probe import probed
from edgekit.passes.prune_trace import traced
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
        importance: see :data:`~edgekit.passes.prune_importance.KINDS`.
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
        module, inputs = network.module, examples(network)
        budget, notes = self.budget(network)
        kept = self._kept(budget)
        gone = removed(budget.groups, kept)
        try:
            pruned = smaller(module, gone)
            prove(module, pruned, gone, inputs)
        except (RuntimeError, IndexError) as error:  # torch's shape errors
            raise UnsupportedError(
                f"without the channels that left, the network fails: {error}. Its forward takes a width for granted; a "
                "module with the attribute keeps_widths = True is left whole"
            ) from error
        step = with_params(
            self.describe(model),
            macs_before=budget.total,
            macs_after=sum(layer_macs(pruned, inputs).values()),
            parameters_before=_parameters(module),
            parameters_after=_parameters(pruned),
            kept={name: [_width(pruned, name), _width(module, name)] for name in sorted(budget.macs)},
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
        module, inputs = network_of(network).module, examples(network)
        whole, notes = _whole(module)
        asked = any(isinstance(m, (nn.RNNBase, nn.Unflatten)) for m in module.modules())
        found = (probed if asked else traced)(module, inputs, whole)
        groups = ranked(module, [*found, *_heads(module)], self.importance, self.gradients, self.seed)
        if not groups:
            raise UnsupportedError(
                "no channels can leave this network: pruning needs a convolution, linear or recurrent layer whose "
                f"outputs another one reads{''.join(f'; {note}' for note in notes)}"
            )
        notes += _kept_whole(module, groups)
        if self.keep:
            groups = _without(groups, self.keep)
        return Budget(module, layer_macs(module, inputs), groups), notes


def _without(groups: Sequence[Group], keep: Sequence[str]) -> tuple[Group, ...]:
    """``groups`` less those that change the width of a layer that is kept."""
    widths = [{name for name, side in group.units[0] if side != "in"} for group in groups]
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


def _is_headed(module: nn.Module) -> bool:
    """Attention that loses whole heads: ``qkv`` and ``out`` are linear layers, and the width of a head is fixed."""
    return all(isinstance(getattr(module, part, None), nn.Linear) for part in ("qkv", "out")) and isinstance(
        getattr(module, "head_width", None), int
    )


def _is_cut(module: nn.Module) -> bool:
    """Attention of others, that reshapes to a number of heads it was built with."""
    numbers = (getattr(module, name, None) for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"))
    own = any(isinstance(child, nn.Linear) for child in module.children())
    return own and not _is_headed(module) and any(isinstance(number, int) for number in numbers)


def _heads(module: nn.Module) -> list[Related]:
    """The heads of each attention: their rows in queries, keys and values, and their columns in what mixes them."""
    found = []
    for name, layer in module.named_modules():
        if not _is_headed(layer):
            continue
        prefix, width = f"{name}." if name else "", int(layer.head_width)
        total = int(layer.out.in_features)
        units: list[Unit] = []
        for start in range(0, total, width):
            columns = tuple(range(start, start + width))
            rows = tuple(part * total + k for part in range(3) for k in columns)
            units.append({(f"{prefix}qkv", "out"): rows, (f"{prefix}out", "in"): columns})
        if len(units) > 1:
            found.append(Related((tuple(units),)))
    return found


def _whole(module: nn.Module) -> tuple[list[nn.Module], list[str]]:
    """Layers that are left as they are, and why."""
    layers, notes = [], []
    for name, layer in module.named_modules():
        reason = ""
        if isinstance(layer, nn.MultiheadAttention):
            reason = "torch's own attention is not taken apart"
        elif isinstance(layer, nn.RNNCellBase):
            reason = "a single cell is not traced through its steps; nn.RNN, nn.LSTM and nn.GRU are pruned"
        elif isinstance(layer, nn.LSTM) and layer.proj_size:
            reason = "it projects its hidden state"
        elif _is_cut(layer):
            reason = "its widths are cut into heads"
        elif getattr(layer, "keeps_widths", False) and not _is_headed(layer):
            reason = "it says keeps_widths"
        elif not getattr(layer, "keeps_widths", False):
            continue
        if reason:
            notes.append(f"{name} ({type(layer).__name__}) is left as it is: {reason}")
        layers += list(layer.modules())
    return layers, notes


def _kept_whole(module: nn.Module, groups: Sequence[Group]) -> list[str]:
    """Notes on recurrent layers that lose nothing."""
    found = {name for group in groups for name, side in group.units[0] if side != "in"}
    return [
        f"{name} ({type(layer).__name__}) is left as it is: its states reach an output, or what reads them is not a "
        "linear, recurrent, convolution or normalisation layer"
        for name, layer in module.named_modules()
        if isinstance(layer, nn.RNNBase) and name not in found
    ]
