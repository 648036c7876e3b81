"""Structured pruning: whole channels leave, layers become smaller, any runtime is faster for it.

Torch-Pruning (Fang et al., DepGraph, CVPR 2023) says which channels of which layers must leave together; how many leave
each group follows from the multiply-accumulates to be saved, in steps that keep widths multiples of 8.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.artifact import library_versions
from edgekit.errors import SourceError, UnsupportedError, UsageError
from edgekit.passes.base import Model, Pass, PassContext, PassError, with_params
from edgekit.passes.macs import layer_macs
from edgekit.types import Network, PassResult, Step

METHODS = ("channels",)
SPREADS = ("even", "global")
TOLERANCE = 1e-5
"""Largest difference between pruning channels and zeroing them, relative to the largest output: float32 sums in
another order."""
Removed = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Module name -> ``out`` and ``in`` -> indices of the channels that left."""


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Removes the channels of least L2 norm until ``amount`` of the multiply-accumulates are gone.

    Attributes:
        amount: share of the multiply-accumulates to remove, above 0 and below 1.
        round_to: widths are kept multiples of this; kernels of CPUs are made for 8.
        spread: ``even`` takes the same share of every group of layers; ``global`` takes where importance per
            multiply-accumulate saved is least.
    """

    amount: float
    round_to: int = 8
    spread: str = "even"
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

    def describe(self, model: Model) -> Step:
        params = {
            "method": "channels",
            "amount": self.amount,
            "importance": "L2 norm over the group",
            "spread": self.spread,
            "round_to": self.round_to,
        }
        return Step("prune", params, library_versions("torch-pruning", "torch"))

    def apply(self, model: Model, context: PassContext) -> PassResult:
        if not isinstance(model, Network):
            raise UsageError("pruning works on a network (zoo name, checkpoint, file.py:factory), not on a model file")
        inputs = _examples(model)
        graph = _Graph(copy.deepcopy(model.module).eval(), inputs)
        kept = graph.choose(self.amount, self.round_to, self.spread)
        removed = graph.removed(kept)
        before, parameters = graph.macs, _parameters(model.module)
        graph.prune(kept)
        notes = list(graph.notes)
        pruned = graph.module.eval()
        try:
            notes += _proved(model.module, pruned, removed, inputs)
        except RuntimeError as error:  # torch's shape errors
            raise UnsupportedError(
                f"without the channels that left, the network fails: {error}. Its forward takes a width for granted; a "
                "module with the attribute keeps_widths = True is left whole"
            ) from error
        after = layer_macs(pruned, inputs)
        step = with_params(
            self.describe(model),
            macs_before=sum(before.values()),
            macs_after=sum(after.values()),
            parameters_before=parameters,
            parameters_after=_parameters(pruned),
            kept={name: [_width(pruned, name), _width(model.module, name)] for name in sorted(before)},
        )
        card = replace(model.card.with_step(step, *notes), quality=(), selftest=None, source_sha256="")
        return PassResult(Network(pruned, model.example_inputs, card), True, tuple(notes))


def _examples(network: Network) -> list[Tensor]:
    return [torch.from_numpy(np.array(network.example_inputs[spec.name])) for spec in network.signature.inputs]


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _width(module: nn.Module, name: str) -> int:
    layer = module.get_submodule(name)
    return int(
        getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0) or getattr(layer, "hidden_size", 0)
    )


@dataclass(frozen=True)
class _Group:
    """Channels of several layers that stay or leave together.

    Attributes:
        root: layer whose output channels count the group's channels, with Torch-Pruning's function for it.
        channels: how many there are.
        units: channels that leave at once (more than 1 where a grouped convolution ties them).
        order: units from least to most important.
        scores: their importance, in that order.
        outs, ins: layer name -> its channels per channel of the root.
    """

    root: nn.Module
    function: Any
    channels: int
    ties: int
    order: tuple[int, ...]
    scores: tuple[float, ...]
    outs: Mapping[str, float]
    ins: Mapping[str, float]

    def indices(self, kept: int) -> list[int]:
        """Root channels that leave when ``kept`` stay."""
        leaving = self.order[: (self.channels - kept) // self.ties]
        size = self.channels // self.ties
        return sorted(unit + tie * size for unit in leaving for tie in range(self.ties))


class _Graph:
    """A module with its groups of channels, and what each costs."""

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor]) -> None:
        import torch_pruning as tp

        self.module, self.notes = module, []  # type: nn.Module, list[str]
        self._names = {layer: name for name, layer in module.named_modules()}
        self.macs = layer_macs(module, inputs)
        for parameter in module.parameters():
            parameter.requires_grad_(True)  # the graph is traced through gradients
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                self._graph = tp.DependencyGraph().build_dependency(
                    module, example_inputs=list(inputs), forward_fn=lambda m, x: m(*x), verbose=False
                )
        except Exception as error:
            raise UnsupportedError(
                f"Torch-Pruning cannot trace this network ({type(error).__name__}: {error}); a forward on plain "
                "tensors, without control flow on their values, can be traced"
            ) from error
        self.groups = self._groups(tp)
        if not self.groups:
            raise UnsupportedError(
                "no channels can leave this network: pruning needs a convolution or linear layer whose outputs another "
                "one reads"
            )

    def _groups(self, tp: Any) -> list[_Group]:
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        kept_whole = self._outputs() + self._recurrent()
        found = []
        for group in self._graph.get_all_groups(
            ignored_layers=kept_whole, root_module_types=[nn.modules.conv._ConvNd, nn.Linear]
        ):
            root, function = group[0].dep.target.module, group[0].dep.handler
            channels = self._graph.get_out_channels(root)
            ties = self._ties(group)
            scores = importance(group)
            if scores is None or channels % ties:
                continue
            scores = scores.detach().reshape(ties, -1).sum(0)
            order = torch.argsort(scores)
            outs, ins = self._members(group, channels)
            ranked = (tuple(order.tolist()), tuple(scores[order].tolist()))
            found.append(_Group(root, function, channels, ties, *ranked, outs, ins))
        return found

    def _members(self, group: Any, channels: int) -> tuple[dict[str, float], dict[str, float]]:
        """Layers of a group -> their channels per channel of the root, at their outputs and at their inputs."""
        outs: dict[str, float] = {}
        ins: dict[str, float] = {}
        for dep, indices in group:
            name = self._names.get(dep.target.module)
            if name is None:
                continue
            side = outs if self._graph.is_out_channel_pruning_fn(dep.handler) else ins
            side[name] = side.get(name, 0.0) + len(indices) / channels
        return outs, ins

    def _ties(self, group: Any) -> int:
        """Groups of the grouped convolutions (depthwise ones aside) that tie channels of ``group`` together."""
        layers = [dep.target.module for dep, _ in group]
        tied = [
            m.groups for m in layers if isinstance(m, nn.modules.conv._ConvNd) and m.groups not in (1, m.out_channels)
        ]
        norms = [m.num_groups for m in layers if isinstance(m, nn.GroupNorm)]
        return max([1, *tied, *norms])

    def _outputs(self) -> list[nn.Module]:
        """Layers whose channels are the network's outputs: nothing with weights stands between them and the end."""
        found: list[nn.Module] = []
        for layer, node in self._graph.module2node.items():
            if not isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
                continue
            waiting, seen = list(node.outputs), {node}
            ends = not waiting
            while waiting and not ends:
                follower = waiting.pop()
                if follower in seen or isinstance(follower.module, (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase)):
                    continue
                seen.add(follower)
                ends = not follower.outputs
                waiting += follower.outputs
            if ends:
                found.append(layer)
        return found

    def _recurrent(self) -> list[nn.Module]:
        whole = (nn.RNNBase, nn.MultiheadAttention)
        found = [m for m in self.module.modules() if isinstance(m, whole) or getattr(m, "keeps_widths", False)]
        for layer in found:
            kind = f"{self._names[layer]} ({type(layer).__name__})"
            self.notes.append(f"{kind} is left as it is: only convolutions and linear layers are pruned")
        return [m for layer in found for m in layer.modules()]

    def cost(self, kept: Sequence[int]) -> float:
        """Multiply-accumulates when ``kept`` channels of each group stay."""
        out_lost: dict[str, float] = {}
        in_lost: dict[str, float] = {}
        for group, count in zip(self.groups, kept, strict=True):
            for side, members in ((out_lost, group.outs), (in_lost, group.ins)):
                for name, each in members.items():
                    side[name] = side.get(name, 0.0) + each * (group.channels - count)
        total = 0.0
        for name, macs in self.macs.items():
            layer = self.module.get_submodule(name)
            outs, ins = self._graph.get_out_channels(layer), self._graph.get_in_channels(layer)
            share = 1 - out_lost.get(name, 0.0) / outs
            if not (isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1):
                share *= 1 - in_lost.get(name, 0.0) / ins
            total += macs * share
        return total

    def choose(self, amount: float, round_to: int, spread: str) -> list[int]:
        """How many channels of each group stay, so that at least ``amount`` of the multiply-accumulates leave.

        Raises:
            UsageError: widths cannot become that small.
        """
        widths = [_widths(group, round_to) for group in self.groups]
        goal = (1 - amount) * sum(self.macs.values())
        least = self.cost([row[-1] for row in widths])
        if least > goal:
            most = 1 - least / sum(self.macs.values())
            raise UsageError(
                f"--amount {amount:g} cannot be reached: with widths that are multiples of {round_to}, at most "
                f"{most:.1%} of the multiply-accumulates can leave; give less, or --round-to 1"
            )
        if spread == "even":
            return self._even(widths, goal)
        return self._greedy(widths, goal)

    def _even(self, widths: list[list[int]], goal: float) -> list[int]:
        """The same share of every group: the largest share whose rounded widths cost no more than ``goal``."""
        best = [row[-1] for row in widths]
        for share in np.linspace(0.0, 1.0, 401):
            kept = [min(row, key=lambda w, n=row[0]: abs(w - share * n)) for row in widths]  # type: ignore[misc]
            if goal >= self.cost(kept) > self.cost(best):
                best = kept
        return best

    def _greedy(self, widths: list[list[int]], goal: float) -> list[int]:
        """Step by step where the importance lost for each multiply-accumulate saved is least."""
        place = [0] * len(widths)
        kept = [row[0] for row in widths]
        cost = self.cost(kept)
        while cost > goal:
            steps = []
            for k, row in enumerate(widths):
                if place[k] + 1 < len(row):
                    trial = [*kept[:k], row[place[k] + 1], *kept[k + 1 :]]
                    saved = cost - self.cost(trial)
                    if saved > 0:
                        steps.append((self._lost(k, kept[k], trial[k]) / saved, k, trial))
            _, k, kept = min(steps, key=lambda step: step[:2])
            place[k] += 1
            cost = self.cost(kept)
        return kept

    def _lost(self, k: int, before: int, after: int) -> float:
        group = self.groups[k]
        first, last = (group.channels - before) // group.ties, (group.channels - after) // group.ties
        return float(sum(group.scores[first:last]))

    def removed(self, kept: Sequence[int]) -> Removed:
        """Every layer's channels that leave, in the numbering of the whole network."""
        gone: dict[str, dict[str, set[int]]] = {}
        for group, count in zip(self.groups, kept, strict=True):
            indices = group.indices(count)
            if not indices:
                continue
            for dep, places in self._graph.get_pruning_group(group.root, group.function, indices):
                name = self._names.get(dep.target.module)
                if name is not None:
                    side = "out" if self._graph.is_out_channel_pruning_fn(dep.handler) else "in"
                    gone.setdefault(name, {}).setdefault(side, set()).update(int(i) for i in places)
        return {name: {side: tuple(sorted(found)) for side, found in sides.items()} for name, sides in gone.items()}

    def prune(self, kept: Sequence[int]) -> None:
        """Makes the layers smaller, in place."""
        for group, count in zip(self.groups, kept, strict=True):
            indices = group.indices(count)
            if indices:
                self._graph.get_pruning_group(group.root, group.function, indices).prune()


def _widths(group: _Group, round_to: int) -> list[int]:
    """Widths a group may have, from whole to smallest: multiples of ``round_to`` (and of its ties), never none."""
    step = int(np.lcm(round_to, group.ties))
    return [group.channels, *range((group.channels - 1) // step * step, 0, -step)]


@torch.no_grad()
def zero_channels(module: nn.Module, removed: Removed) -> nn.Module:
    """A copy of ``module`` in which the channels of ``removed`` are zero instead of gone."""
    zeroed = copy.deepcopy(module).eval()
    for name, sides in removed.items():
        layer = zeroed.get_submodule(name)
        outs, ins = list(sides.get("out", ())), list(sides.get("in", ()))
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            outs, ins = [*outs, *ins], []  # a norm's input is its output
        axes = (1, 0) if isinstance(layer, nn.modules.conv._ConvTransposeNd) else (0, 1)
        if weight is not None and outs:
            weight.index_fill_(axes[0] if weight.ndim > 1 else 0, torch.tensor(outs), 0)
        if bias is not None and outs:
            bias[outs] = 0
        if weight is not None and ins and weight.ndim > 1 and getattr(layer, "groups", 1) == 1:
            weight.index_fill_(axes[1], torch.tensor(ins), 0)
    return zeroed


def _proved(whole: nn.Module, pruned: nn.Module, removed: Removed, inputs: Sequence[Tensor]) -> list[str]:
    """Checks that the pruned module gives what the whole one gives with those channels at zero; returns notes.

    Raises:
        PassError: it does not.
    """
    norms = [n for n in removed if isinstance(whole.get_submodule(n), (nn.LayerNorm, nn.GroupNorm))]
    if norms:
        return [f"not proved against zeroed channels: {norms[0]} normalises over the channels that left"]
    generator = torch.Generator().manual_seed(0)
    feed = [torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in inputs]
    with torch.inference_mode():
        wanted, found = (_leaves(m(*feed)) for m in (zero_channels(whole, removed), pruned))
    if len(wanted) != len(found) or any(a.shape != b.shape for a, b in zip(wanted, found, strict=True)):
        raise PassError("pass prune-channels: the pruned network has outputs of another shape; nothing is published")
    for a, b in zip(wanted, found, strict=True):
        limit = TOLERANCE * max(1.0, float(a.abs().max()))
        difference = float((a - b).abs().max())
        if not difference <= limit:
            raise PassError(
                f"pass prune-channels: outputs differ by {difference:.2e} from those with the same channels at zero, "
                f"{limit:.2e} is allowed; nothing is published"
            )
    return []


def _leaves(result: Any) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(result)
    found = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if not found:
        raise SourceError("the network gives no tensor")
    return found
