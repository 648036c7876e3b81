"""The operators of a TFLite file, each with integers and in float, as files to be timed on the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.quantization.kernel_choice import Pair
from edgekit.quantization.tflite.single import CONTROL, Cutter, Single
from edgekit.types import Format

_INSERTED = ("QUANTIZE", "DEQUANTIZE")


def pairs(
    parent: Cutter, quantized: Cutter, parts: Mapping[str, tuple[str, ...]], scaled: Mapping[str, str]
) -> list[Pair]:
    """Every operator of ``parent`` beside what became of it in ``quantized``, in which all that can be is on integers.

    Args:
        parts: operators of the parent that became several, as names of their outputs.
        scaled: name of a tensor of the parent -> its name in ``quantized``, where that is another.
    """
    made = {one.name: one for one in quantized.singles if one.kind not in _INSERTED}
    found: dict[str, Pair] = {}
    twins: dict[str, list[Single | None]] = {}
    for one in parent.singles:
        if one.kind in CONTROL or one.kind in ops.layers(Format.TFLITE, Family.RECURRENT):
            continue
        names = parts.get(one.name) or (scaled.get(one.name, one.name),)
        twins[one.name] = [_twin(made, name) for name in names]
        found[one.name] = _pair([one], parent, quantized, twins[one.name])
    singles = {one.name: one for one in parent.singles}
    for name, pad in parent.folded().items():
        both = _pair([pad, singles[name]], parent, quantized, [*twins[pad.name], *twins[name]])
        tie = {f"folded {pad.name}": 0}  # they share a side, as those do that share weights
        found[name] = replace(both, weights={**both.weights, **tie})
        found[pad.name] = replace(found[pad.name], weights=tie, folded=True)
    return list(found.values())


def _twin(made: Mapping[str, Single], name: str) -> Single | None:
    return made.get(name) or made.get(f"{name}_inside")


def _pair(singles: list[Single], parent: Cutter, quantized: Cutter, twins: list[Single | None]) -> Pair:
    """The last of ``singles``, whose files hold all of them."""
    one = singles[-1]
    there = [twin for twin in twins if twin is not None and quantized.on_integers(twin.place)]
    integer = partial(quantized.alone, *(twin.place for twin in there)) if len(there) == len(twins) else None
    signature = "+".join(single.signature for single in singles)
    signature += "" if len(twins) == len(singles) else f"/{len(twins)}"
    return Pair(
        *(one.name, one.kind, signature, one.weights),
        integer=integer,
        float=partial(parent.alone, *(single.place for single in singles)),
        reads=one.reads,
        writes=one.writes,
    )
