"""Two models side by side: which input and output of one is which of the other, and where their layouts differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgekit.data.kind import affine, colours, mixing
from edgekit.errors import UsageError
from edgekit.types import Array, Dim, Feed, InputSpec, Signature, TensorSpec

_TO_FIRST = (0, 3, 1, 2)
"""(N, H, W, C) -> (N, C, H, W)"""
_TO_LAST = (0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Pixels:
    """A linear map of the channels of an image.

    Attributes:
        matrix: (channels out, channels in), float64.
        offset: added behind it, (channels out,).
        axis: of the channels.
    """

    matrix: Array
    offset: Array
    axis: int

    @property
    def mixes(self) -> bool:
        """Whether a channel is made of others than the one in its place: the two have other colours."""
        return len(set(self.matrix.shape)) > 1 or bool((self.matrix != np.diag(np.diag(self.matrix))).any())

    def __call__(self, image: Array) -> Array:
        """``image`` with other channels, float64."""
        mixed = np.tensordot(image.astype(np.float64), self.matrix, axes=(self.axis, 1)) + self.offset
        return np.moveaxis(mixed, -1, self.axis)


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the model and its counterpart in the reference.

    Attributes:
        order: axes that take the first to the second.
        pixels: what takes an image of the first to the second, in the reference's layout, where the two have other
            colours, or only one of them has the normalisation inside.
        back: the way back.
    """

    mine: TensorSpec
    theirs: TensorSpec
    order: tuple[int, ...] | None = None
    pixels: Pixels | None = None
    back: Pixels | None = None

    @property
    def there(self) -> tuple[Dim, ...]:
        """The shape of the first in the layout and the colours of the second."""
        shape = [self.mine.shape[k] for k in self.order or range(len(self.mine.shape))]
        if self.pixels is not None:
            shape[self.pixels.axis] = len(self.pixels.offset)
        return tuple(shape)


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
                if pair.pixels is not None:
                    said.append(
                        f"{kind} {pair.mine.name!r}: the two take pixels of other colours or normalisation, which is "
                        "made up for"
                    )
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
            array = array if pair.pixels is None else pair.pixels(array)
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
        rules = (my_contract.get(a.name), their_contract.get(b.name))
        order = _order("input", _coloured(a, *rules), b, (_layout(a, my_contract), _layout(b, their_contract)), free)
        inputs.append(Pair(a, b, order, *_pixels(*rules)))
    outputs = [
        Pair(a, b, _order("output", a, b, ("", ""), free)) for a, b in _pairs("output", mine.outputs, theirs.outputs)
    ]
    fixed = tuple(pair.mine if free else _fixed(pair) for pair in inputs)
    return Alignment(tuple(inputs), tuple(outputs), Signature(fixed, mine.outputs))


def _coloured(spec: TensorSpec, mine: InputSpec | None, theirs: InputSpec | None) -> TensorSpec:
    """``spec`` with as many channels as the reference takes."""
    if _pixels(mine, theirs)[0] is None or mine is None or theirs is None:
        return spec
    axis, channels = mine.layout.index("C"), theirs.channels
    return replace(spec, shape=tuple(channels if k == axis else size for k, size in enumerate(spec.shape)))


def _pixels(mine: InputSpec | None, theirs: InputSpec | None) -> tuple[Pixels | None, Pixels | None]:
    """What takes images of ``mine`` to those of ``theirs``, and back; None where they are alike."""
    if mine is None or theirs is None or mine.kind != "image" or theirs.kind != "image":
        return None, None
    alike = colours(mine) == colours(theirs) and mine.channels == theirs.channels
    if alike and (mine.scale, mine.mean, mine.std) == (theirs.scale, theirs.mean, theirs.std):
        return None, None
    if "C" not in mine.layout or "C" not in theirs.layout:
        if not alike:
            raise UsageError(f"one of the two takes {colours(mine)} images, the other {colours(theirs)}, in a row each")
        return None, None
    axis = theirs.layout.index("C")
    return _map(mine, theirs, axis), _map(theirs, mine, axis)


def _map(source: InputSpec, target: InputSpec, axis: int) -> Pixels:
    (taken, taken_offset), (factor, offset) = (affine(rule, rule.channels or 1) for rule in (source, target))
    mix = mixing(colours(source), colours(target))
    matrix = factor.astype(np.float64)[:, None] * mix / taken.astype(np.float64)
    return Pixels(matrix, offset - matrix @ taken_offset, axis)


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
