"""What leaves together, what it saves, and how much of each group leaves for a given saving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from edgekit.errors import UsageError

SPREADS = ("even", "global")
Place = tuple[str, str]
"""A layer's name, and its side: ``out`` and ``in`` for channels, ``l0``, ``l1_reverse``, ... for the hidden units of a
recurrent layer (torch's own endings), ``NAME@AXIS`` for a parameter that a module holds itself."""
Unit = Mapping[Place, tuple[int, ...]]
"""What leaves at once: the indices at each place."""
Removed = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Layer -> side -> all indices that left."""


@dataclass(frozen=True)
class Group:
    """Units of which any number can leave, whatever the other groups do.

    Attributes:
        units: from least to most important, all with as many indices at the same places.
        scores: their importance, in that order.
    """

    units: tuple[Unit, ...]
    scores: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Channels of one unit, where it has fewest."""
        sides = [len(indices) for (_, side), indices in self.units[0].items() if side != "in"]
        return min(sides, default=1)

    @property
    def channels(self) -> int:
        return len(self.units) * self.size

    def widths(self, round_to: int) -> list[int]:
        """Channels it may have, from whole to smallest: multiples of ``round_to`` (and of a unit), never none."""
        step = int(np.lcm(round_to, self.size))
        return [self.channels, *range((self.channels - 1) // step * step, 0, -step)]

    def leaving(self, kept: int) -> tuple[Unit, ...]:
        """The units that leave when ``kept`` channels stay."""
        return self.units[: (self.channels - kept) // self.size]


def alike(units: Iterable[Unit]) -> list[tuple[Unit, ...]]:
    """``units`` sorted into kinds: those of a kind have as many indices at the same places."""
    kinds: dict[tuple[tuple[Place, int], ...], list[Unit]] = {}
    for unit in units:
        kinds.setdefault(tuple(sorted((place, len(rows)) for place, rows in unit.items())), []).append(unit)
    return [tuple(found) for found in kinds.values()]


def removed(groups: Sequence[Group], kept: Sequence[int]) -> Removed:
    """Every layer's channels that leave, in the numbering of the whole network."""
    gone: dict[str, dict[str, set[int]]] = {}
    for group, count in zip(groups, kept, strict=True):
        for unit in group.leaving(count):
            for (name, side), indices in unit.items():
                gone.setdefault(name, {}).setdefault(side, set()).update(indices)
    return {name: {side: tuple(sorted(found)) for side, found in sides.items()} for name, sides in gone.items()}


@dataclass(frozen=True)
class Budget:
    """The multiply-accumulates of a network as a function of the channels that each group keeps.

    Attributes:
        module: the whole network.
        macs: its layers' multiply-accumulates.
        groups: see :class:`Group`.
    """

    module: nn.Module
    macs: Mapping[str, int]
    groups: tuple[Group, ...]

    @property
    def total(self) -> int:
        return sum(self.macs.values())

    def cost(self, kept: Sequence[int]) -> float:
        """Multiply-accumulates when ``kept`` channels of each group stay."""
        lost: dict[str, dict[str, int]] = {}
        for group, count in zip(self.groups, kept, strict=True):
            leaving = (group.channels - count) // group.size
            for (name, side), indices in group.units[0].items():
                sides = lost.setdefault(name, {})
                sides[side] = sides.get(side, 0) + leaving * len(indices)
        layers = {name: self.module.get_submodule(name) for name in self.macs}
        return sum(macs * _share(layers[name], lost.get(name, {})) for name, macs in self.macs.items())

    def choose(self, goal: float, round_to: int, spread: str) -> list[int]:
        """How many channels of each group stay, so that at most ``goal`` multiply-accumulates are left.

        Raises:
            UsageError: widths cannot become that small.
        """
        widths = [group.widths(round_to) for group in self.groups]
        least = self.cost([row[-1] for row in widths])
        if least > goal:
            raise UsageError(
                f"removing {1 - goal / self.total:.1%} of the multiply-accumulates cannot be reached: with widths that "
                f"are multiples of {round_to}, at most {1 - least / self.total:.1%} of the multiply-accumulates can "
                "leave; ask for less, or --round-to 1"
            )
        if spread == "even":
            return self._even(widths, goal)
        return self._greedy(widths, goal)

    def _even(self, widths: list[list[int]], goal: float) -> list[int]:
        """The same share of every group: the largest share whose rounded widths cost no more than ``goal``; what
        rounding took too much is given back where a group has lost most."""
        best = [row[-1] for row in widths]
        for share in np.linspace(0.0, 1.0, 401):
            kept = [min(row, key=lambda w, n=row[0]: abs(w - share * n)) for row in widths]  # type: ignore[misc]
            if goal >= self.cost(kept) > self.cost(best):
                best = kept
        return self._given_back(best, widths, goal)

    def _given_back(self, kept: list[int], widths: list[list[int]], goal: float) -> list[int]:
        while True:
            lost_most = sorted(range(len(kept)), key=lambda k: (kept[k] / widths[k][0], k))
            for k in lost_most:
                wider = [width for width in widths[k] if width > kept[k]]
                trial = [*kept[:k], min(wider, default=kept[k]), *kept[k + 1 :]]
                if wider and self.cost(trial) <= goal:
                    kept = trial
                    break
            else:
                return kept

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
                        steps.append((self._importance(k, kept[k], trial[k]) / saved, k, trial))
            _, k, kept = min(steps, key=lambda step: step[:2])
            place[k] += 1
            cost = self.cost(kept)
        return kept

    def _importance(self, k: int, before: int, after: int) -> float:
        """Importance that leaves with the channels of group ``k`` between two widths."""
        group = self.groups[k]
        return float(sum(group.scores[len(group.leaving(before)) : len(group.leaving(after))]))


def _share(layer: nn.Module, lost: Mapping[str, int]) -> float:
    """Share of a layer's multiply-accumulates that is left without ``lost`` indices a side."""
    if isinstance(layer, nn.MultiheadAttention):
        return 1.0  # it is left whole
    if isinstance(layer, nn.RNNBase):
        hidden = layer.hidden_size - max((n for side, n in lost.items() if side != "in"), default=0)
        return _weights(layer, layer.input_size - lost.get("in", 0), hidden) / _weights(
            layer, layer.input_size, layer.hidden_size
        )
    if isinstance(layer, nn.modules.conv._ConvNd):
        ins, outs = layer.in_channels, layer.out_channels
        if layer.groups == ins == outs and ins > 1:  # depthwise: what comes in goes out
            return 1 - max(lost.values(), default=0) / outs
    else:
        assert isinstance(layer, nn.Linear)
        ins, outs = layer.in_features, layer.out_features
    return (1 - lost.get("out", 0) / outs) * (1 - lost.get("in", 0) / ins)


def _weights(layer: nn.RNNBase, inputs: int, hidden: int) -> int:
    """Weights of a recurrent layer, in units of its gates, with ``inputs`` features and ``hidden`` units."""
    ways = 2 if layer.bidirectional else 1
    return ways * hidden * (inputs + hidden + (layer.num_layers - 1) * (ways * hidden + hidden))
