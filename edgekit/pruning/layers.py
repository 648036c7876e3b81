"""Where a channel lies in a layer's tensors: to make it zero, to take it out, and to prove that both are the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import SourceError, UnsupportedError
from edgekit.models.fit import fit_shapes
from edgekit.passes import PassError
from edgekit.pruning.groups import Removed

TOLERANCE = 1e-5
"""Largest difference between pruning channels and zeroing them, relative to the largest output: float32 sums in
another order."""
GATES: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
"""``nn.RNNBase.mode`` -> blocks of ``hidden_size`` rows in each of its matrices (i f g o; r z n)."""
Slots = list[tuple[str, int, list[int]]]
"""Names of a layer's tensors, an axis, indices on it."""


def slots(layer: nn.Module, side: str, indices: Sequence[int]) -> Slots:
    """Where the channels ``indices`` of ``side`` lie in the tensors of ``layer``.

    Raises:
        UnsupportedError: a kind of layer that is not known here.
    """
    found = list(indices)
    if "@" in side:
        name, _, axis = side.partition("@")
        return [(name, int(axis), found)]
    if isinstance(layer, nn.modules.conv._ConvNd):
        return _convolution(layer, side, found)
    if isinstance(layer, nn.Linear):
        return _held(layer, [("weight", 0), ("bias", 0)] if side == "out" else [("weight", 1)], found)
    if isinstance(layer, nn.RNNBase):
        return _recurrent(layer, side, found)
    if isinstance(layer, nn.Embedding):
        return [("weight", 1, found)]
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.PReLU)
    if isinstance(layer, norms) or (isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1):
        vectors = [name for name, value in layer.named_parameters(recurse=False) if value.numel() > 1]
        vectors += [name for name, value in layer.named_buffers(recurse=False) if value.ndim == 1]
        return _held(layer, [(name, 0) for name in vectors], found)
    raise UnsupportedError(f"channels cannot be taken out of a {type(layer).__name__}; give it keeps_widths = True")


def _held(layer: nn.Module, places: list[tuple[str, int]], indices: list[int]) -> Slots:
    return [(name, axis, indices) for name, axis in places if getattr(layer, name, None) is not None]


def _convolution(layer: nn.modules.conv._ConvNd, side: str, indices: list[int]) -> Slots:
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    if layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1:
        return _held(layer, [("weight", 0), ("bias", 0)], indices)  # depthwise: what comes in goes out
    across = (layer.out_channels if transposed else layer.in_channels) // layer.groups
    within = sorted({k % across for k in indices})  # the axis that each group of a grouped convolution has of its own
    if side == "in":
        return [("weight", 0, indices) if transposed else ("weight", 1, within)]
    return [("weight", 1, within) if transposed else ("weight", 0, indices), *_held(layer, [("bias", 0)], indices)]


def _recurrent(layer: nn.RNNBase, side: str, indices: list[int]) -> Slots:
    """Of hidden units: their rows in every gate, and their columns in what reads them inside ``layer``."""
    ways = ["", "_reverse"] if layer.bidirectional else [""]
    if side == "in":
        return [(f"weight_ih_l0{way}", 1, indices) for way in ways]
    rows = [gate * layer.hidden_size + k for gate in range(GATES[layer.mode]) for k in indices]
    names = [f"{kind}_{side}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    found = _held(layer, [(name, 0) for name in names], rows)
    found.append((f"weight_hh_{side}", 1, indices))
    number, reverse = int(side.removesuffix("_reverse")[1:]), side.endswith("_reverse")
    if number + 1 < layer.num_layers:
        columns = [k + (layer.hidden_size if reverse else 0) for k in indices]
        found += [(f"weight_ih_l{number + 1}{way}", 1, columns) for way in ways]
    return found


def _each(module: nn.Module, removed: Removed) -> Iterator[tuple[str, int, list[int]]]:
    """Full names of tensors, axes and indices of all that leaves."""
    for name, sides in removed.items():
        layer = module.get_submodule(name)
        for side, indices in sides.items():
            for tensor, axis, places in slots(layer, side, indices):
                yield (f"{name}.{tensor}" if name else tensor), axis, places


def smaller(module: nn.Module, removed: Removed) -> nn.Module:
    """A copy of ``module`` without the channels of ``removed``, made the way a pruned checkpoint is loaded."""
    gone: dict[str, dict[int, set[int]]] = {}
    for name, axis, indices in _each(module, removed):
        gone.setdefault(name, {}).setdefault(axis, set()).update(indices)
    state = {name: value.detach() for name, value in module.state_dict().items()}
    for name, axes in gone.items():
        for axis, leaving in axes.items():
            kept = [k for k in range(state[name].shape[axis]) if k not in leaving]
            state[name] = state[name].index_select(axis, torch.tensor(kept))
    made = copy.deepcopy(module)
    fit_shapes(made, state)
    made.load_state_dict(state)
    return made.eval()


@torch.no_grad()
def zero_channels(module: nn.Module, removed: Removed) -> nn.Module:
    """A copy of ``module`` in which the channels of ``removed`` are zero instead of gone.

    A normalisation over channels counts only those that stay: zeros among them would change mean and variance.
    """
    zeroed = copy.deepcopy(module).eval()
    tensors = dict(zeroed.named_parameters()) | dict(zeroed.named_buffers())
    for name, axis, indices in _each(module, removed):
        tensors[name].index_fill_(axis, torch.tensor(indices), 0)
    for name, sides in removed.items():
        layer = zeroed.get_submodule(name)
        if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
            gone = {k for indices in sides.values() for k in indices}
            parent, _, own = name.rpartition(".")
            setattr(zeroed.get_submodule(parent), own, _NormOfKept(layer, gone))
    return zeroed


class _NormOfKept(nn.Module):
    """A normalisation over the channels that stay; zero for the others."""

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm, gone: set[int]) -> None:
        super().__init__()
        self.norm = norm
        width = norm.normalized_shape[0] if isinstance(norm, nn.LayerNorm) else norm.num_channels
        self.kept = torch.tensor([k for k in range(width) if k not in gone])

    def forward(self, x: Tensor) -> Tensor:
        axis = self._axis(x)
        part = x.index_select(axis, self.kept)
        scale, shift = (None if v is None else v[self.kept] for v in (self.norm.weight, self.norm.bias))
        if isinstance(self.norm, nn.LayerNorm):
            last = part.movedim(axis, -1)
            y = F.layer_norm(last, last.shape[-1:], scale, shift, self.norm.eps).movedim(-1, axis)
        else:
            y = F.group_norm(part, self.norm.num_groups, scale, shift, self.norm.eps)
        return torch.zeros_like(x).index_copy(axis, self.kept, y)

    def _axis(self, x: Tensor) -> int:
        """1, or the last one for layer normalisation; a subclass may normalise the channels of maps (timm)."""
        if isinstance(self.norm, nn.GroupNorm):
            return 1
        maps = type(self.norm) is not nn.LayerNorm and x.ndim == 4 and x.shape[1] == self.norm.normalized_shape[0]
        return 1 if maps else -1


def prove(whole: nn.Module, pruned: nn.Module, removed: Removed, inputs: Sequence[Tensor]) -> None:
    """Checks that the pruned module gives what the whole one gives with those channels at zero.

    Raises:
        PassError: it does not.
    """
    agree(zero_channels(whole, removed), pruned, inputs, "prune-channels")


def noise(inputs: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """Normal numbers of the shapes of ``inputs``; integers as they are."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in inputs]


def agree(zeroed: nn.Module, pruned: nn.Module, inputs: Sequence[Tensor], name: str) -> None:
    """Checks that the pruned module gives what ``zeroed`` does, in which what left is zero instead; on noise.

    Raises:
        PassError: it does not; ``name`` is the pass.
    """
    feed = noise(inputs)
    with torch.inference_mode():
        wanted, found = (leaves(m(*feed)) for m in (zeroed, pruned))
    if len(wanted) != len(found) or any(a.shape != b.shape for a, b in zip(wanted, found, strict=True)):
        raise PassError(f"pass {name}: the pruned network has outputs of another shape; nothing is published")
    for a, b in zip(wanted, found, strict=True):
        limit = TOLERANCE * max(1.0, float(a.abs().max()))
        difference = float((a - b).abs().max())
        if not difference <= limit:
            raise PassError(
                f"pass {name}: outputs differ by {difference:.2e} from those with what left at zero, {limit:.2e} is "
                "allowed; nothing is published"
            )


def leaves(result: Any) -> list[Tensor]:
    """The tensors of what a network gives.

    Raises:
        SourceError: it gives no tensor.
    """
    found = [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
    if not found:
        raise SourceError("the network gives no tensor")
    return found
