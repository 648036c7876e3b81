"""Which channels leave together, found by asking the network itself: for those with recurrent layers, or whose rows
are cut into maps.

Every layer with weights gives made-up numbers instead of what it computes, so that between one layer and the next there
is only what has no weights. The gradient of a layer's input column then names the channels and hidden units that it is
made of, through slices, concatenations, means over time and whatever else the network does. Columns and channels that
hang together leave together; what reaches an output, or a layer that is not known here, stays.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError
from edgekit.pruning.groups import Place, Unit, alike
from edgekit.pruning.importance import Related
from edgekit.pruning.layers import leaves

Node = tuple[str, str, int]
"""Layer, side, index."""
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
CELLS = (nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag)
AT_ONCE = 2**22
"""Numbers of gradients that are taken at once: 16 MB."""
DRAWS = (1.0, -1.0, 0.0)
"""Signs of the made-up numbers (0: both): a rectifier passes no gradient for the negative ones."""


def probed(module: nn.Module, inputs: Sequence[Tensor], whole: Sequence[nn.Module]) -> list[Related]:
    """The sets of units of ``module``, with those that are one unit, because something mixes all channels of a layer;
    the layers ``whole`` keep their channels.

    Raises:
        UnsupportedError: the network fails on made-up numbers.
    """
    names = {layer: name for name, layer in module.named_modules()}
    links = _Links()
    for draw, sign in enumerate(DRAWS):
        twin = copy.deepcopy(module).eval()
        probe = _Probe(twin, {names[layer] for layer in whole}, sign, draw)
        try:
            with torch.enable_grad():
                ends = leaves(probe.run(inputs))
        except Exception as error:
            raise UnsupportedError(
                f"the network cannot be traced ({type(error).__name__}: {error}); a forward on plain tensors, without "
                "control flow on their values, can be"
            ) from error
        probe.link(ends, links)
    return _related(module, links)


class _Links:
    """Union-find over nodes, with a mark on those that stay."""

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}
        self._stays: set[Node] = set()
        self._inner: set[Node] = set()

    def root(self, node: Node) -> Node:
        self._parent.setdefault(node, node)
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def join(self, nodes: Sequence[Node]) -> None:
        roots = [self.root(node) for node in nodes]
        for other in roots[1:]:
            self._parent[self.root(other)] = self.root(roots[0])

    def keep(self, node: Node) -> None:
        self.root(node)
        self._stays.add(node)

    def inner(self, node: Node) -> None:
        """A hidden unit that its own layer reads: it may leave though nothing else is seen to read it."""
        self.root(node)
        self._inner.add(node)

    def sets(self) -> list[list[Node]]:
        """Nodes that leave together, of all sets that may leave."""
        found: dict[Node, list[Node]] = defaultdict(list)
        for node in self._parent:
            found[self.root(node)].append(node)
        kept = {self.root(node) for node in self._stays}
        for root, nodes in found.items():
            if len(nodes) == 1 and nodes[0] not in self._inner:
                kept.add(root)  # read by nobody, or a column of the network's own input
        return [nodes for root, nodes in found.items() if root not in kept]


@dataclass(frozen=True)
class _Source:
    """Made-up numbers: a tensor, its channel axis, and the node of each channel.

    None of a layer that stays, and of one channel, which has to stay: what it weighs (attention over time steps) does
    not hang together for that.
    """

    value: Tensor
    axis: int
    nodes: tuple[Node, ...]


@dataclass
class _Probe:
    """One run on made-up numbers."""

    module: nn.Module
    whole: set[str]
    sign: float
    seed: int
    sources: list[_Source] = field(default_factory=list)
    reads: list[tuple[str, Tensor, int]] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)

    def run(self, inputs: Sequence[Tensor]) -> Any:
        """What the network gives."""
        self._generator = torch.Generator().manual_seed(self.seed)
        skipped: tuple[str, ...] = ()
        for name, layer in self.module.named_modules():
            if skipped and name.startswith(skipped):
                continue
            grouped = isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1
            closed = isinstance(layer, CELLS) or getattr(layer, "keeps_widths", False) or _fixed(layer)
            if closed or (grouped and not _depthwise(layer)):
                layer.register_forward_hook(self._closed)
                skipped += (f"{name}.",)
            elif isinstance(layer, nn.RNNBase):
                layer.register_forward_hook(self._recurrent(name))
            elif isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
                layer.register_forward_hook(self._linear(name))
            elif isinstance(layer, NORMS):
                layer.register_forward_hook(self._norm(name))
        return self.module(*inputs)

    def _made_up(self, like: Tensor, axis: int, nodes: Sequence[Node]) -> Tensor:
        value = torch.rand(like.shape, generator=self._generator) + 0.5
        if self.sign == 0:
            value = value * (torch.randint(0, 2, like.shape, generator=self._generator) * 2 - 1)
        value = (value * (self.sign or 1.0)).requires_grad_()
        self.sources.append(_Source(value, axis, tuple(nodes) if len(nodes) > 1 else ()))
        return value

    def _closed(self, layer: nn.Module, given: tuple[Any, ...], result: Any) -> Any:
        """A layer that stays as it is, with all that it reads."""
        self.ends += [x for x in torch.utils._pytree.tree_leaves(given) if isinstance(x, Tensor)]
        return torch.utils._pytree.tree_map(
            lambda x: self._made_up(x, 0, ()) if isinstance(x, Tensor) and x.is_floating_point() else x, result
        )

    def _linear(self, name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Any, ...], result: Tensor) -> Tensor:
            axis = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
            self.reads.append((name, given[0], axis))
            return self._made_up(result, axis, _nodes(name, "out", range(result.shape[axis])))

        return hook

    def _norm(self, name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Any, ...], result: Tensor) -> Tensor:
            axis = -1 if isinstance(layer, nn.LayerNorm) else 1
            if isinstance(layer, nn.GroupNorm) or (isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1):
                self.ends.append(given[0])
            elif not isinstance(layer, nn.PReLU) or layer.num_parameters > 1:
                self.reads.append((name, given[0], axis))
            value: Tensor = given[0]
            return value * 1.0  # channel by channel: what it mixes is made good when channels leave

        return hook

    def _recurrent(self, name: str) -> Any:
        def hook(layer: nn.RNNBase, given: tuple[Any, ...], result: Any) -> Any:
            states, last = result
            ways = ["", "_reverse"] if layer.bidirectional else [""]
            self.reads.append((name, given[0], -1))
            top = [_nodes(name, f"l{layer.num_layers - 1}{way}", range(layer.hidden_size)) for way in ways]
            states = self._made_up(states, -1, [node for row in top for node in row])
            slots = [f"l{k}{way}" for k in range(layer.num_layers) for way in ways]
            rows = [[self._made_up(x[k], -1, _nodes(name, slot, range(layer.hidden_size)))
                     for k, slot in enumerate(slots)]
                    for x in (last if isinstance(last, tuple) else (last,))]  # fmt: skip
            stacked = tuple(torch.stack(row) for row in rows)
            return states, stacked if isinstance(last, tuple) else stacked[0]

        return hook

    def link(self, results: Sequence[Tensor], links: _Links) -> None:
        """Joins what hangs together, and marks what the results and closed layers read."""
        for source in self.sources:
            for node in source.nodes:
                links.root(node)
                if node[0] in self.whole:
                    links.keep(node)
        for name, layer in self.module.named_modules():
            if isinstance(layer, nn.RNNBase) and name not in self.whole:
                for k in range(layer.num_layers - 1):
                    for way in ["", "_reverse"] if layer.bidirectional else [""]:
                        for node in _nodes(name, f"l{k}{way}", range(layer.hidden_size)):
                            links.inner(node)
        for end in (*results, *self.ends):
            if end.requires_grad:
                for row in self._behind(end, torch.rand((1, *end.shape), generator=self._generator)):
                    for node in row:
                        links.keep(node)
        for name, value, axis in self.reads:
            side = "out" if _depthwise(self.module.get_submodule(name)) else "in"
            columns = _nodes(name, side, range(value.shape[axis]))
            for column in columns:
                links.root(column)
            if value.requires_grad:
                step = max(1, AT_ONCE // sum(source.value.numel() for source in self.sources))
                for start in range(0, len(columns), step):
                    some = columns[start : start + step]
                    chosen = torch.zeros((len(some), *value.shape))  # one column each
                    for k in range(len(some)):
                        one = chosen[k].select(axis, start + k)
                        one.copy_(torch.rand(one.shape, generator=self._generator))
                    for node, behind in zip(some, self._behind(value, chosen), strict=True):
                        links.join([node, *behind])

    def _behind(self, value: Tensor, weights: Tensor) -> list[list[Node]]:
        """For each of ``weights`` (N, *shape of ``value``): the nodes that ``value`` depends on where it is not 0."""
        made: list[list[Node]] = [[] for _ in weights]
        found: Sequence[Tensor | None] = torch.autograd.grad(
            value,
            [source.value for source in self.sources],
            weights,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=True,
        )
        for source, gradient in zip(self.sources, found, strict=True):
            if gradient is None or not source.nodes:
                continue
            axis = source.axis + 1 if source.axis >= 0 else source.axis
            hit = gradient.movedim(axis, 1).unsqueeze(-1).flatten(2).ne(0).any(2)  # (N, channels)
            for row, k in hit.nonzero().tolist():
                made[row].append(source.nodes[k])
        return made


def _depthwise(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return False
    return layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels


def _fixed(layer: nn.Module) -> bool:
    """Whether it cuts a row into sizes that are all given."""
    if not isinstance(layer, nn.Unflatten):
        return False
    sizes: tuple[Any, ...] = tuple(layer.unflattened_size)
    return -1 not in [size[1] if isinstance(size, tuple) else size for size in sizes]  # names go with the sizes


def _nodes(name: str, side: str, indices: range) -> list[Node]:
    return [(name, side, k) for k in indices]


def _related(module: nn.Module, links: _Links) -> list[Related]:
    """Sets of nodes as units; units alike are of one kind, kinds that share a recurrent layer are one group."""
    every = []
    for nodes in links.sets():
        unit: dict[Place, list[int]] = defaultdict(list)
        for name, side, index in nodes:
            unit[name, side].append(index)
        if any(side != "in" for _, side in unit):
            every.append({place: tuple(sorted(rows)) for place, rows in unit.items()})
    found: list[list[tuple[Unit, ...]]] = []
    for units in alike(every):
        mine = _layers(module, units[0])
        joined = [parts for parts in found if any(mine & _layers(module, other[0]) for other in parts)]
        for parts in joined:
            found.remove(parts)
        found.append([*(row for parts in joined for row in parts), units])
    return [Related(tuple(parts)) for parts in found if _mixed(parts) or _complete(module, parts)]


def _mixed(parts: Sequence[Sequence[Unit]]) -> bool:
    """Whether there is one unit only, of several channels."""
    return len(parts) == 1 == len(parts[0]) and all(len(rows) > 1 for rows in parts[0][0].values())


def _layers(module: nn.Module, unit: Unit) -> set[str]:
    """Recurrent layers whose hidden units are part of ``unit``."""
    return {name for name, side in unit if side != "in" and isinstance(module.get_submodule(name), nn.RNNBase)}


def _complete(module: nn.Module, parts: Sequence[Sequence[Unit]]) -> bool:
    """Whether every layer and direction that shares a hidden size can lose as many units as the others."""
    sizes = {len(units) for units in parts}
    if len(sizes) != 1 or sizes == {1}:
        return False
    for name in {name for units in parts for name in _layers(module, units[0])}:
        layer = module.get_submodule(name)
        assert isinstance(layer, nn.RNNBase)
        lost: dict[str, int] = defaultdict(int)
        for units in parts:
            for (other, side), rows in units[0].items():
                if other == name and side != "in":
                    lost[side] += len(rows)
        if len(lost) != layer.num_layers * (2 if layer.bidirectional else 1) or len(set(lost.values())) != 1:
            return False
    return True
