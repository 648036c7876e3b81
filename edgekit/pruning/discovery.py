"""What can leave a network, each kind of it tried before it is counted on.

Two ways find channels that hang together: :mod:`prune_trace` (Torch-Pruning) and :mod:`prune_probe`. Either may be
wrong about a forward that cuts, cats or reshapes, so some of the channels are taken out and the outcome is compared
with the same channels at zero. Where the first way fails that, the second is asked and each of its kinds is tried
alone. One that fails is tried with those that it shares a layer with, of which as many may have to leave (``chunk``);
one that fails still stays, and the reason is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from edgekit.converters.base import own_prefix
from edgekit.errors import UnsupportedError
from edgekit.pruning.groups import Group, Removed, Unit, removed
from edgekit.pruning.importance import Related
from edgekit.pruning.layers import prove, smaller
from edgekit.pruning.probe import probed
from edgekit.pruning.trace import traced

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase)
PARTS = (2, 3, 4)
"""Equal parts that a width may be cut into by ``chunk``."""


def what_can_leave(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[list[Related], list[str]]:
    """The sets of units that can leave ``module``, and notes on layers that are left as they are, with the reason.

    Raises:
        UnsupportedError: the network cannot be traced.
    """
    whole, notes = _whole(module)
    cut, cut_notes = _cut(module)
    heads = _heads(module)
    asked = any(isinstance(m, (nn.RNNBase, nn.Unflatten)) for m in module.modules())
    for more, said in ((), ()), *([(cut, cut_notes)] if cut else []):
        try:
            found = (probed if asked else traced)(module, inputs, [*whole, *more])
        except UnsupportedError:
            if asked:
                raise
            break  # Torch-Pruning cannot; the other way may
        found = [*_several(found), *heads]
        if found and not failure(module, found, inputs):
            return found, [*notes, *said, *_kept_whole(module, found)]
    every = probed(module, inputs, whole)
    found, failed = _tried(module, [*_several(every), *heads], inputs)
    narrower = {name for related in found for name in _layers(related)}
    for names, why in {tuple(names): (names, why) for names, why in reversed(failed)}.values():
        stays = [name for name in names if name not in narrower]
        notes.append(left(module, stays, f"without some of the channels {why}") if stays else
                     f"some channels of {label(module, names)} stay: without them {why}")  # fmt: skip
    notes += [
        left(module, _layers(related), "what the channels go through mixes all of them")
        for related in every
        if related not in _several(every)
    ]
    notes = list(dict.fromkeys(notes))
    return found, [*notes, *_kept_whole(module, found)]


def label(module: nn.Module, names: Sequence[str]) -> str:
    """``a (Conv2d)``, ``a (Conv2d) and b (Linear)``: layers of ``module`` as the user knows them."""
    prefix = own_prefix(module)
    shown = [f"{n.removeprefix(prefix)} ({type(module.get_submodule(n)).__name__})".lstrip() for n in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def left(module: nn.Module, names: Sequence[str], reason: str) -> str:
    """The note on layers that lose nothing."""
    return f"{label(module, names)} {'is left as it is' if len(names) == 1 else 'are left as they are'}: {reason}"


def failure(module: nn.Module, found: Sequence[Related], inputs: Sequence[Tensor]) -> str:
    """Why the network is another without some units of each of ``found`` than with them at zero; empty if it is not.

    Of each its first unit leaves, or the first half of its units, so that what cuts by position shifts: one for some
    and the other for the rest, in such turns that no two that share a layer always lose both one or both half.
    """
    groups = [Group(tuple(_merged(row) for row in zip(*map(_in_order, related.parts), strict=True)))
              for related in found]  # fmt: skip
    numbers = _numbers(found)
    for turn in range(-1, max(1, max(numbers, default=0).bit_length())):
        halves = [not number & 1 if turn < 0 else bool(number >> turn & 1) for number in numbers]
        lost = [max(1, len(g.units) // 2) if half else 1 for g, half in zip(groups, halves, strict=True)]
        kept = [g.channels - g.size * n for g, n in zip(groups, lost, strict=True)]
        why = difference(module, removed(groups, kept), inputs)
        if why:
            return why
    return ""


def _numbers(found: Sequence[Related]) -> list[int]:
    """A number for each, other than those of all before it that share a place with it, as small as can be."""
    numbers: list[int] = []
    for k, related in enumerate(found):
        mine = _places(related, True)
        taken = {numbers[j] for j in range(k) if mine & _places(found[j], True)}
        numbers.append(next(n for n in range(k + 1) if n not in taken))
    return numbers


def difference(module: nn.Module, gone: Removed, inputs: Sequence[Tensor]) -> str:
    """How ``module`` without the channels ``gone`` is another network than with them at zero; empty if it is not."""
    try:
        prove(module, smaller(module, gone), gone, inputs)
    except Exception as error:  # a forward of anyone's may raise anything when a width is another: it is the answer
        told = str(error).partition("; nothing is published")[0]
        if isinstance(error, UnsupportedError) or "outputs differ" in told:
            return told.removeprefix("pass prune-channels: ")
        return f"the network fails ({type(error).__name__}: {told}): its forward() hard-codes a channel count"
    return ""


def _tried(
    module: nn.Module, kinds: Sequence[Related], inputs: Sequence[Tensor]
) -> tuple[list[Related], list[tuple[list[str], str]]]:
    """Those of ``kinds`` without which the network is right; and the layers and reasons of the others."""
    good: list[Related] = []
    bad: list[tuple[Related, str]] = []
    if not failure(module, kinds, inputs):
        return list(kinds), []
    for related in kinds:
        why = failure(module, [*good, related], inputs)
        if why:
            bad.append((related, why))
        else:
            good.append(related)
    left: list[tuple[list[str], str]] = []
    waiting = list(bad)
    while waiting:
        related, why = waiting.pop(0)
        for tied, used in _ties(related, [other for other, _ in waiting], good):
            others = [other for other in good if other not in used]
            if not failure(module, [*others, tied], inputs):
                good = [*others, tied]
                waiting = [row for row in waiting if row[0] not in used]
                break
        else:
            left.append((_layers(related), why))
    return good, left


def _ties(
    related: Related, failed: Sequence[Related], good: Sequence[Related]
) -> Iterable[tuple[Related, list[Related]]]:
    """``related`` with others of which as many have to leave, k-th unit with k-th unit; and the others.

    Those that share an output with it (a ``chunk`` read by several layers), those that share any place (a shuffle of
    several layers' channels), and equal parts of itself (a ``chunk`` read by one layer).
    """
    if len(related.parts) > 1:
        return  # of a recurrent layer: tied already
    for sides, others in ((False, failed), (True, failed), (True, [*failed, *good])):
        mine, used = _places(related, sides), []
        size = len(related.parts[0])
        for other in [*others, *others]:  # twice: one that hangs together with the next one only
            if other not in used and mine & _places(other, sides) and len(other.parts) == 1:
                used.append(other)
                mine |= _places(other, sides)
        if used and all(len(other.parts[0]) == size for other in used):
            rows = [_in_order(part) for one in (related, *used) for part in one.parts]
            yield Related((tuple(_merged(row) for row in zip(*rows, strict=True)),)), used
    units = _in_order(related.parts[0])
    for parts in PARTS:
        step = len(units) // parts
        if step > 1 and len(units) % parts == 0:
            yield Related((tuple(_merged(units[k::step]) for k in range(step)),)), []


def _several(found: Sequence[Related]) -> list[Related]:
    """Those of more than one unit: what is one whole layer cannot leave."""
    return [related for related in found if len(related.parts[0]) > 1]


def _in_order(units: Sequence[Unit]) -> list[Unit]:
    return sorted(units, key=lambda unit: sorted(unit.items()))


def _merged(units: Sequence[Unit]) -> Unit:
    places = {place: None for unit in units for place in unit}
    return {place: tuple(sorted({k for unit in units for k in unit.get(place, ())})) for place in places}


def _places(related: Related, inputs: bool) -> set[tuple[str, str]]:
    return {place for part in related.parts for place in part[0] if inputs or place[1] != "in"}


def _layers(related: Related) -> list[str]:
    """Layers that would get narrower, in the order of their names."""
    return sorted({name for name, _ in _places(related, False)})


def _is_headed(module: nn.Module) -> bool:
    """Attention that loses whole heads: ``qkv`` and ``out`` are linear layers, and the width of a head is fixed."""
    return all(isinstance(getattr(module, part, None), nn.Linear) for part in ("qkv", "out")) and isinstance(
        getattr(module, "head_width", None), int
    )


def _is_cut(module: nn.Module) -> bool:
    """What may be attention of others, that reshapes to a number of heads it was built with."""
    numbers = (getattr(module, name, None) for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"))
    own = any(isinstance(child, nn.Linear) for child in module.children())
    return own and not _is_headed(module) and any(isinstance(number, int) for number in numbers)


def _cut(module: nn.Module) -> tuple[list[nn.Module], list[str]]:
    """Layers of the innermost modules that look like attention of others, and what is said of them."""
    found = {name: layer for name, layer in module.named_modules() if _is_cut(layer)}
    inner = {
        n: layer for n, layer in found.items() if not any(m.startswith(f"{n}." if n else "") for m in found if m != n)
    }
    notes = [left(module, [name], "its widths are cut into heads") for name in inner]
    return [part for layer in inner.values() for part in layer.modules()], notes


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
        elif isinstance(layer, WEIGHTED) and not _holds_its_weights(layer):
            reason = "its weight is computed from other tensors (spectral_norm, or a parametrization of your own)"
        elif getattr(layer, "keeps_widths", False) and not _is_headed(layer):
            reason = "it says keeps_widths"
        elif not getattr(layer, "keeps_widths", False):
            continue
        if reason:
            notes.append(left(module, [name], reason))
        layers += list(layer.modules())
    return layers, notes


def _holds_its_weights(layer: nn.Module) -> bool:
    held = dict(layer.named_parameters(recurse=False))
    return ("weight_hh_l0" if isinstance(layer, nn.RNNBase) else "weight") in held


def _kept_whole(module: nn.Module, found: Sequence[Related]) -> list[str]:
    """Notes on recurrent layers that lose nothing."""
    narrower = {name for related in found for name in _layers(related)}
    return [
        left(
            module,
            [name],
            "its states reach an output, or what reads them is not a linear, recurrent, convolution "
            "or normalisation layer",
        )
        for name, layer in module.named_modules()
        if isinstance(layer, nn.RNNBase) and name not in narrower
    ]
