"""Two models side by side: which input and output of one is which of the other, and where their layouts differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgekit.data.kind import affine
from edgekit.errors import UsageError
from edgekit.types import Array, Dim, Feed, InputSpec, Signature, TensorSpec

_TO_FIRST = (0, 3, 1, 2)
"""(N, H, W, C) -> (N, C, H, W)"""
_TO_LAST = (0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the model and its counterpart in the reference.

    Attributes:
        order: axes that take the first to the second.
        affine: ``(factor, offset)`` that take an image of the first to the second, shaped for the reference's layout,
            where only one of them has the normalisation inside.
    """

    mine: TensorSpec
    theirs: TensorSpec
    order: tuple[int, ...] | None = None
    affine: tuple[Array, Array] | None = None


@dataclass(frozen=True, slots=True)
class Alignment:
    """How feeds of the model become feeds of the reference, and the reference's outputs become the model's.

    Attributes:
        signature: the model's, with every size fixed that the reference fixes.
    """

    inputs: tuple[Pair, ...]
    outputs: tuple[Pair, ...]
    signature: Signature

    @property
    def notes(self) -> tuple[str, ...]:
        """What was matched by position or turned, in words."""
        said = []
        for kind, pairs in (("input", self.inputs), ("output", self.outputs)):
            for pair in pairs:
                if pair.mine.name != pair.theirs.name:
                    said.append(f"{kind} {pair.mine.name!r} is compared with {pair.theirs.name!r}, by position")
                if pair.affine is not None:
                    said.append(f"{kind} {pair.mine.name!r}: normalised in one of the two, which is made up for")
                if pair.order is not None:
                    said.append(f"{kind} {pair.mine.name!r}: {pair.mine.shape} here, {pair.theirs.shape} there; turned")
        return tuple(said)

    def contract(self, theirs: Mapping[str, InputSpec]) -> dict[str, InputSpec]:
        """The reference's input spec as it holds for the model: by its names, in its layout."""
        found = {}
        for pair in self.inputs:
            rule = theirs.get(pair.theirs.name)
            if rule is not None:
                turned = {"NCHW": "NHWC", "NHWC": "NCHW"}.get(rule.layout, "") if pair.order else rule.layout
                found[pair.mine.name] = replace(rule, layout=turned)
        return found

    def feed(self, feed: Feed) -> dict[str, Array]:
        """The reference's feed for a feed of the model."""
        turned = {}
        for pair in self.inputs:
            array = feed[pair.mine.name]
            array = array if pair.order is None else np.asarray(array.transpose(pair.order), order="C")
            array = array if pair.affine is None else array * pair.affine[0] + pair.affine[1]
            turned[pair.theirs.name] = array.astype(pair.theirs.dtype, copy=False)
        return turned

    def reference(self, run: Callable[[Feed], Mapping[str, Array]]) -> Callable[[Feed], dict[str, Array]]:
        """``run`` of the reference, as a function of the model's feeds that gives outputs by the model's names."""

        def turned(feed: Feed) -> dict[str, Array]:
            results = run(self.feed(feed))
            outputs = {}
            for pair in self.outputs:
                array = results[pair.theirs.name]
                outputs[pair.mine.name] = array if pair.order is None else array.transpose(np.argsort(pair.order))
            return outputs

        return turned


def align(
    mine: Signature,
    theirs: Signature,
    my_contract: Mapping[str, InputSpec],
    their_contract: Mapping[str, InputSpec],
    *,
    free: bool = False,
) -> Alignment:
    """Matches inputs and outputs by name, or by position where the names differ.

    Args:
        mine: signature of the model under test.
        theirs: signature of the reference.
        my_contract, their_contract: input specs, whose layouts decide where both have one; else the shapes do.
        free: the reference takes other sizes than its signature shows (a module in memory).

    Raises:
        UsageError: another number of inputs, or shapes that no change of layout brings together.
    """
    inputs = []
    for a, b in _pairs("input", mine.inputs, theirs.inputs):
        layouts = (_layout(a, my_contract), _layout(b, their_contract))
        _check_colours(a.name, my_contract.get(a.name), their_contract.get(b.name))
        order = _order("input", a, b, layouts, free)
        inputs.append(Pair(a, b, order, _affine(my_contract.get(a.name), their_contract.get(b.name))))
    outputs = [
        Pair(a, b, _order("output", a, b, ("", ""), free)) for a, b in _pairs("output", mine.outputs, theirs.outputs)
    ]
    fixed = tuple(pair.mine if free else _fixed(pair) for pair in inputs)
    return Alignment(tuple(inputs), tuple(outputs), Signature(fixed, mine.outputs))


def _check_colours(name: str, mine: InputSpec | None, theirs: InputSpec | None) -> None:
    if mine is None or theirs is None or mine.kind != "image" or theirs.kind != "image":
        return
    colours = ["grey" if rule.channels == 1 else rule.params.get("color", "RGB") for rule in (mine, theirs)]
    if colours[0] != colours[1]:
        raise UsageError(
            f"{name!r} is {colours[0]} in the model and {colours[1]} in what it is compared with; compare files of the "
            "same colours (export --mediapipe proved its file against the network when it was made)"
        )


def _affine(mine: InputSpec | None, theirs: InputSpec | None) -> tuple[Array, Array] | None:
    """What takes images of ``mine`` to those of ``theirs``; None where they are normalised alike."""
    if mine is None or theirs is None or mine.kind != "image" or theirs.kind != "image":
        return None
    if (mine.scale, mine.mean, mine.std) == (theirs.scale, theirs.mean, theirs.std) or theirs.layout == "NHW":
        return None
    (own, own_offset), (factor, offset) = (affine(rule, rule.channels or 1) for rule in (mine, theirs))
    slope = factor / own
    shape = (1, -1, 1, 1) if theirs.layout == "NCHW" else (1, 1, 1, -1)
    return slope.reshape(shape), (offset - own_offset * slope).reshape(shape)


def _layout(spec: TensorSpec, contract: Mapping[str, InputSpec]) -> str:
    return contract[spec.name].layout if spec.name in contract else ""


def _pairs(
    kind: str, mine: tuple[TensorSpec, ...], theirs: tuple[TensorSpec, ...]
) -> list[tuple[TensorSpec, TensorSpec]]:
    if len(mine) != len(theirs):
        raise UsageError(
            f"the model has {len(mine)} {kind}s ({_names(mine)}), what it is compared with has {len(theirs)} "
            f"({_names(theirs)}); compare models of the same network"
        )
    by_name = {spec.name: spec for spec in theirs}
    if all(spec.name in by_name for spec in mine):
        return [(spec, by_name[spec.name]) for spec in mine]
    return list(zip(mine, theirs, strict=True))


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(str(spec) for spec in specs)


def _order(
    kind: str, mine: TensorSpec, theirs: TensorSpec, layouts: tuple[str, str], free: bool
) -> tuple[int, ...] | None:
    """Axes that take ``mine`` to the layout of ``theirs``; None where they agree."""
    if all(layouts) and layouts[0] != layouts[1]:
        return _TO_FIRST if layouts[0] == "NHWC" else _TO_LAST
    if _fit(mine.shape, theirs.shape, free):
        return None
    if len(mine.shape) == len(theirs.shape) == 4:
        for order in (_TO_FIRST, _TO_LAST):
            if _fit(tuple(mine.shape[k] for k in order), theirs.shape, free):
                return order
    raise UsageError(
        f"{kind} {mine} of the model does not fit {theirs} of what it is compared with; compare models of the same "
        "network"
    )


def _fit(a: tuple[Dim, ...], b: tuple[Dim, ...], free: bool) -> bool:
    """Whether sizes agree; a dynamic size agrees with any, and with ``free`` the first axis (the batch) does too."""
    if len(a) != len(b):
        return False
    return all(
        isinstance(x, str) or isinstance(y, str) or x == y or (free and axis == 0)
        for axis, (x, y) in enumerate(zip(a, b, strict=True))
    )


def _fixed(pair: Pair) -> TensorSpec:
    """The model's input with the sizes that the reference fixes."""
    order = pair.order or tuple(range(len(pair.mine.shape)))
    shape = list(pair.mine.shape)
    for place, theirs in zip(order, pair.theirs.shape, strict=True):
        if isinstance(shape[place], str) and isinstance(theirs, int):
            shape[place] = theirs
    return TensorSpec(pair.mine.name, pair.mine.dtype, tuple(shape))
