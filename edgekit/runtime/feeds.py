"""The check of a feed against a signature: quick for the shape seen last, thorough for everything else.

What is accepted, besides arrays of just the right dtype: another dtype of the same kind (float for float, signed or
unsigned integer for integer, bool for bool) when every value survives the change exactly. So float32 zeros given as
float64 pass, ``np.float64(0.1)`` for a float32 input does not, and integers for floats never do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import numpy as np

from edgekit.errors import FeedError
from edgekit.types import Array, Feed, TensorSpec

_SMALL: Final = 8192
"""Up to this many values the sum of squares (one BLAS call, single-threaded at this size) finds NaN and infinity."""
Shape = tuple[int, ...]
Slot = tuple[str, "np.dtype[Any]", Shape | None, Callable[[Array], bool] | None]


def _finite_small(array: Array) -> bool:
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())  # the square may overflow


def _finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


class FeedPlan:
    """Checks feeds for one model and puts their arrays in the order of its inputs.

    Args:
        inputs: what the feed must hold; a string in a shape is a named dimension, which may differ from feed to feed
            but not between the inputs of one feed.
        owner: what the messages call the model.
        bind: called with the shapes of all inputs before they are first used, and whenever they change.
        lengths: inputs that hold lengths of sequences, with the largest: a number or a dimension's name. A runtime
            takes others too, and gathers rows of another sequence for them.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        owner: str,
        bind: Callable[[list[Shape]], None] | None = None,
        lengths: Mapping[str, int | str] | None = None,
    ) -> None:
        self._lengths = dict(lengths or {})
        self._inputs = tuple(inputs)
        self._owner = owner
        self._bind = bind
        self._dtypes = [np.dtype(spec.dtype) for spec in inputs]
        self._slots: list[Slot] = [(s.name, d, None, None) for s, d in zip(self._inputs, self._dtypes, strict=True)]
        self._count = len(self._inputs)

    def accept(self, feed: Feed) -> list[Array]:
        """The arrays of ``feed`` in the order of the inputs.

        Raises:
            FeedError: a name, dtype, rank or shape that does not fit, NaN or infinity; the message has both sides.
        """
        arrays = []
        try:
            for name, dtype, shape, finite in self._slots:
                array = feed[name]
                if array.dtype is not dtype or array.shape != shape:
                    return self._accept_any(feed)
                if finite is not None and not finite(array):
                    raise self._out_of_range(name, array)
                arrays.append(array)
            if len(feed) != self._count:
                raise self._wrong_names(feed)
        except (KeyError, AttributeError, TypeError, IndexError):  # a missing name, no array, no mapping
            return self._accept_any(feed)
        return arrays

    def _accept_any(self, feed: object) -> list[Array]:
        if not isinstance(feed, Mapping):
            wanted = ", ".join(spec.name for spec in self._inputs)
            raise FeedError(
                f"{self._owner}: got a feed of type {type(feed).__name__}, wanted a dict of arrays by input name; "
                f"give {{{wanted!r}: array}}"
            )
        if set(feed) != {spec.name for spec in self._inputs}:
            raise self._wrong_names(feed)
        arrays = [
            _of_dtype(self._owner, spec, dtype, feed[spec.name])
            for spec, dtype in zip(self._inputs, self._dtypes, strict=True)
        ]
        check_shapes(self._owner, self._inputs, [array.shape for array in arrays])
        for spec, array in zip(self._inputs, arrays, strict=True):
            if array.dtype.kind == "f" and not _finite(array):
                raise _not_finite(self._owner, spec.name, array)
        sizes = self._sizes([array.shape for array in arrays])
        for spec, array in zip(self._inputs, arrays, strict=True):
            if spec.name in sizes and not _within(array, sizes[spec.name]):
                raise self._out_of_range(spec.name, array)
        self._remember([array.shape for array in arrays])
        return arrays

    def _remember(self, shapes: list[Shape]) -> None:
        bound = [slot[2] for slot in self._slots]
        if bound == shapes:
            return
        if self._bind is not None:
            # should it fail, no shape counts as bound
            self._slots = [(name, dtype, None, None) for name, dtype, _, _ in self._slots]
            self._bind(shapes)
        sizes = self._sizes(shapes)
        self._slots = [
            (
                spec.name,
                dtype,
                shape,
                partial(_within, most=sizes[spec.name]) if spec.name in sizes else _finite_check(dtype, shape),
            )
            for spec, dtype, shape in zip(self._inputs, self._dtypes, shapes, strict=True)
        ]

    def _sizes(self, shapes: list[Shape]) -> dict[str, int]:
        """The largest length of each input that holds lengths, for inputs of these shapes."""
        named = {
            dim: size
            for spec, shape in zip(self._inputs, shapes, strict=True)
            for dim, size in zip(spec.shape, shape, strict=True)
        }
        found = {name: named.get(most) if isinstance(most, str) else most for name, most in self._lengths.items()}
        return {name: most for name, most in found.items() if most is not None}

    def _out_of_range(self, name: str, array: Array) -> FeedError:
        if name not in self._lengths:
            return _not_finite(self._owner, name, array)
        return FeedError(
            f"input {name!r} of {self._owner}: got lengths from {array.min()} to {array.max()}, wanted 1 to "
            f"{self._lengths[name]}, the size of what is padded; cut longer sequences, leave empty ones out"
        )

    def _wrong_names(self, feed: Mapping[Any, object]) -> FeedError:
        wanted = [spec.name for spec in self._inputs]
        missing = [name for name in wanted if name not in feed]
        unknown = [str(name) for name in feed if name not in wanted]
        parts = []
        for name in unknown:
            near = get_close_matches(name, missing or wanted, n=1, cutoff=0.5)
            parts.append(f"{name!r} is not an input" + (f" (did you mean {near[0]!r}?)" if near else ""))
        if missing:
            parts.append("missing: " + ", ".join(map(repr, missing)))
        return FeedError(f"{self._owner}: {'; '.join(parts)}; the inputs are {', '.join(map(str, self._inputs))}")


def _finite_check(dtype: np.dtype[Any], shape: Shape) -> Callable[[Array], bool] | None:
    if dtype.kind != "f":
        return None
    return _finite_small if math.prod(shape) <= _SMALL and dtype.itemsize >= 4 else _finite


def _within(array: Array, most: int) -> bool:
    return bool(array.min() >= 1 and array.max() <= most)


def _of_dtype(owner: str, spec: TensorSpec, dtype: np.dtype[Any], value: object) -> Array:
    """``value`` as an array of ``dtype``, when that changes nothing."""
    if isinstance(value, np.generic):
        value = np.asarray(value)  # what numpy makes of an array without axes as soon as it is computed with
    if not isinstance(value, np.ndarray):
        raise FeedError(
            f"input {spec.name!r} of {owner}: got {type(value).__name__}, wanted a numpy array of {spec.dtype}; "
            f"give np.asarray(value, dtype=np.{spec.dtype})"
        )
    if value.dtype == dtype:
        return value.astype(dtype, copy=False)  # another byte order is the same dtype to nobody but numpy
    kinds = {"i": "integer", "u": "integer", "f": "float", "b": "bool"}
    if kinds.get(value.dtype.kind) == kinds.get(dtype.kind, "other"):
        with np.errstate(all="ignore"):
            changed = value.astype(dtype)
            back = np.array_equal(changed.astype(value.dtype), value, equal_nan=dtype.kind == "f")
            if back and np.array_equal(changed < 0, value < 0):  # unsigned to signed wraps, there and back
                return changed
        reason = f"and {dtype.name} cannot hold its values exactly"
    else:
        reason = "and edgekit changes no kind of number behind your back"
    raise FeedError(
        f"input {spec.name!r} of {owner}: got {value.dtype.name}, wanted {dtype.name}, {reason}; "
        f"give array.astype(np.{dtype.name})"
    )


def check_shapes(owner: str, inputs: Sequence[TensorSpec], shapes: Sequence[Shape]) -> None:
    """Raises FeedError unless ``shapes`` fit ``inputs`` and every named dimension is one number throughout."""
    known: dict[str, tuple[int, str]] = {}
    for spec, shape in zip(inputs, shapes, strict=True):
        wanted = f"[{', '.join(map(str, spec.shape))}]"
        got = f"input {spec.name!r} of {owner}: got shape {list(shape)}, wanted {wanted}"
        if len(shape) != len(spec.shape):
            raise FeedError(f"{got}, {len(shape)} axes for {len(spec.shape)}; {_shape_hint(spec, shape)}")
        for axis, (size, dim) in enumerate(zip(shape, spec.shape, strict=True)):
            if isinstance(dim, int):
                if size != dim:
                    raise FeedError(f"{got}, axis {axis} is {size} for {dim}; {_shape_hint(spec, shape)}")
            elif size < 1:
                raise FeedError(f"{got}, {dim} is {size}; give at least 1")
            elif known.setdefault(dim, (size, spec.name))[0] != size:
                other, name = known[dim]
                raise FeedError(f"{got}, but {dim} is {size} here and {other} in {name!r}; give both the same {dim}")


def _shape_hint(spec: TensorSpec, shape: Shape) -> str:
    fixed = spec.shape

    def fits(sizes: Sequence[int]) -> bool:
        return len(sizes) == len(fixed) and all(isinstance(d, str) or d == s for s, d in zip(sizes, fixed, strict=True))

    if fits((1, *shape)):
        return "the batch axis is missing, give array[None]"
    if len(shape) == 4:
        for axes in ((0, 3, 1, 2), (0, 2, 3, 1)):
            if fits([shape[a] for a in axes]):
                return f"the channels are on another axis, give array.transpose{axes}"
    if any(isinstance(dim, str) for dim in fixed):
        return "a name stands for any number, a number for itself"
    return "this file takes this shape only; export it with --dynamic for others"


def _not_finite(owner: str, name: str, array: Array) -> FeedError:
    bad = ~np.isfinite(array)
    nans = int(np.isnan(array).sum())
    place = [int(index) for index in np.argwhere(bad)[0]]
    return FeedError(
        f"input {name!r} of {owner}: {nans} NaN and {int(bad.sum()) - nans} infinite among {array.size:,} values, the "
        f"first at {place}; wanted finite numbers. Check how this input was made"
    )
