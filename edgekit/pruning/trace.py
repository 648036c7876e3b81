"""Channels that leave together, as Torch-Pruning finds them (Fang et al., DepGraph, CVPR 2023).

For networks of convolutions, linear layers and normalisations. :mod:`prune_probe` does those with recurrent layers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError
from edgekit.pruning.groups import Place, Unit, alike
from edgekit.pruning.importance import Related

PRUNED = (nn.modules.conv._ConvNd, nn.Linear)


def traced(module: nn.Module, inputs: Sequence[Tensor], whole: Sequence[nn.Module]) -> list[Related]:
    """The sets of units of ``module``; the layers ``whole`` keep their channels.

    Raises:
        UnsupportedError: Torch-Pruning cannot trace it.
    """
    import torch_pruning as tp

    names = {layer: name for name, layer in module.named_modules()}
    twin = copy.deepcopy(module).eval().requires_grad_(True)  # the graph is traced through gradients
    kept = [twin.get_submodule(names[layer]) for layer in whole]
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph = tp.DependencyGraph().build_dependency(
                twin, example_inputs=list(inputs), forward_fn=lambda m, x: m(*x), verbose=False
            )
    except Exception as error:
        raise UnsupportedError(
            f"Torch-Pruning cannot trace this network ({type(error).__name__}: {error}); a forward on plain "
            "tensors, without control flow on their values, can be traced"
        ) from error
    found = []
    for group in graph.get_all_groups(ignored_layers=kept + _outputs(graph), root_module_types=list(PRUNED)):
        found += [Related((units,)) for units in alike(_units(group, graph, twin)) if len(units) > 1]
    return found


def _units(group: Any, graph: Any, module: nn.Module) -> list[Unit]:
    """The units of one of Torch-Pruning's groups: one a channel of its root, or as many as are tied."""
    channels = graph.get_out_channels(group[0].dep.target.module)
    ties = _ties(group)
    if channels % ties:
        return []
    names = {layer: name for name, layer in module.named_modules()}
    axes = {id(p): axis for p, axis in graph.unwrapped_parameters}
    found: list[dict[Place, set[int]]] = [{} for _ in range(channels // ties)]
    for item in group:
        target = item.dep.target.module
        if isinstance(target, nn.Parameter):
            owner, _, own = graph._param_to_name[target].rpartition(".")
            place = (owner, f"{own}@{axes[id(target)]}")
        elif target in names:
            place = (names[target], "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in")
        else:
            continue  # an operation without weights
        for index, root in zip(item.idxs, item.root_idxs, strict=True):
            found[root % len(found)].setdefault(place, set()).add(int(index))
    return [{place: tuple(sorted(indices)) for place, indices in unit.items()} for unit in found]


def _ties(group: Any) -> int:
    """Groups of the grouped convolutions (depthwise ones aside) that tie channels of ``group`` together."""
    layers = [item.dep.target.module for item in group]
    tied = [m.groups for m in layers if isinstance(m, nn.modules.conv._ConvNd) and m.groups not in (1, m.out_channels)]
    norms = [m.num_groups for m in layers if isinstance(m, nn.GroupNorm)]
    return max([1, *tied, *norms])


def _outputs(graph: Any) -> list[nn.Module]:
    """Layers whose channels are the network's outputs: nothing with weights stands between them and the end."""
    found: list[nn.Module] = []
    for layer, node in graph.module2node.items():
        if not isinstance(layer, PRUNED):
            continue
        waiting, seen = list(node.outputs), {node}
        ends = not waiting
        while waiting and not ends:
            follower = waiting.pop()
            if follower in seen or isinstance(follower.module, PRUNED):
                continue
            seen.add(follower)
            ends = not follower.outputs
            waiting += follower.outputs
        if ends:
            found.append(layer)
    return found
