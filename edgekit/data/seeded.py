"""Feeds that are the same on every machine and numpy version: made from the raw bits of PCG64 (O'Neill, 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edgekit.data.kind import affine
from edgekit.data.text import PADDING, UNKNOWN, vocabulary_size
from edgekit.errors import DataError
from edgekit.limits import check
from edgekit.types import Array, Feed, InputSpec, Signature, TensorSpec

EXTREME = 4.0
"""Magnitude of the extreme feed where the spec states no range, in standard deviations of a normalised input."""
_BLOCK = 1 << 20
"""Values made at once, so that a large input takes little more memory than itself."""


def _drawn(
    bits: np.random.PCG64, count: int, make: Callable[[Array], Array], dtype: str | type = np.float64, each: int = 1
) -> Array:
    """``count`` values of ``dtype``; ``make`` makes each of ``each`` next numbers of ``bits``, float64 in [0, 1).

    The numbers come from the raw 64-bit output, whose sequence numpy guarantees.
    """
    made = np.empty(count, dtype)
    for start in range(0, count, _BLOCK):
        part = made[start : start + _BLOCK]
        raw = np.asarray(bits.random_raw(part.size * each), np.uint64)
        uniform = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        part[:] = make(uniform.reshape(-1, each) if each > 1 else uniform)
    return made


_AXES = {"NCHW": 4, "NHWC": 4, "NHW": 3, "text": 2}
"""Layout of an image, or kind of another input -> its axes, where they are given."""


def _shape(spec: TensorSpec, contract: InputSpec, dims: Mapping[str, int] | None, batch: int | None) -> tuple[int, ...]:
    """The shape of an input.

    Raises:
        DataError: ``contract`` makes another number of axes, or the last one holds no whole pixels.
        LimitError: the file itself makes it too large.
    """
    check("INPUT_BYTES", math.prod(spec.resolved()) * np.dtype(spec.dtype).itemsize, f"the input {spec}")
    shape = spec.resolved(dims)
    axes = _AXES.get(contract.layout if contract.kind == "image" else contract.kind, len(shape))
    if len(shape) != axes or (contract.layout == "NHW" and axes == 3 and shape[-1] % max(contract.channels, 1)):
        raise DataError(f"the input {spec} is not what its spec makes ({contract}); export the network again")
    return (batch, *shape[1:]) if batch is not None and shape else shape


def _channels_last(contract: InputSpec) -> bool:
    return contract.kind != "image" or contract.layout != "NCHW"


def _pixels_to_input(pixels: Array, shape: tuple[int, ...], contract: InputSpec) -> Array:
    """Raw values in the input's own layout -> model values."""
    channels = shape[-1] if _channels_last(contract) else shape[1]
    if contract.layout == "NHW":  # the last axis holds width x channels
        channels = contract.channels or 1
        factor, offset = (np.tile(part, shape[-1] // channels) for part in affine(contract, channels))
        return np.asarray(pixels.astype(np.float32) * factor + offset)
    factor, offset = affine(contract, channels)
    if not _channels_last(contract):
        factor, offset = factor.reshape(-1, 1, 1), offset.reshape(-1, 1, 1)
    return np.asarray(pixels.astype(np.float32) * factor + offset)


def seeded_feed(
    signature: Signature,
    contract: Mapping[str, InputSpec],
    seed: int,
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
) -> Feed:
    """Random values within each input's range; named dimensions from ``dims`` (else 1), ``batch`` replaces axis 0.

    Images: random bytes, normalised by the contract. Tables: uniform in mean ± 2 std of the raw columns, normalised.
    Texts: known words, from one to as many as fit, then padding. Other floats: the sum of four uniform values, scaled
    to mean 0 and variance 1. Integers: 0..9, below the number of rows of the table they are looked up in (``below``),
    lengths of sequences 1 to the largest. Booleans: 0 or 1.
    """
    feed = {}
    for stream, spec in enumerate(signature.inputs):
        rule = contract.get(spec.name, InputSpec())
        shape = _shape(spec, rule, dims, batch)
        kind = np.dtype(spec.dtype).kind
        bits, count = np.random.PCG64(np.random.SeedSequence([seed, stream])), math.prod(shape)
        if kind == "f" and rule.kind == "image":
            pixels = _drawn(bits, count, lambda uniform: np.floor(uniform * 256), np.float32)
            values = _pixels_to_input(pixels.reshape(shape), shape, rule)
        elif kind == "f" and rule.kind == "table":
            values = _drawn(bits, count, lambda uniform: uniform * 4 - 2, spec.dtype)
        elif kind == "f":
            values = _drawn(bits, count, lambda quarters: (quarters.sum(1) - 2.0) * np.sqrt(3.0), spec.dtype, each=4)
        elif rule.kind == "text":
            values = _words(bits, shape, rule)
        elif "most" in rule.params:
            values = _lengths(_drawn(bits, count, np.positive).reshape(shape), rule, dims)
        else:
            values = _drawn(bits, count, _below(_most(kind, rule) + 1), spec.dtype)
        feed[spec.name] = values.reshape(shape).astype(spec.dtype, order="C", copy=False)
    return feed


def _below(top: int) -> Callable[[Array], Array]:
    """Uniform numbers -> whole ones from 0 to below ``top``."""
    return lambda uniform: np.floor(uniform * top)


def _most(kind: str, contract: InputSpec) -> int:
    """The largest value of a boolean, or of an integer that is neither a word nor a length."""
    return 1 if kind == "b" else min(9, int(contract.params.get("below", 10)) - 1)


def _words(bits: np.random.PCG64, shape: tuple[int, ...], contract: InputSpec) -> Array:
    """Token numbers (N, length) of known and unknown words; a row has 1 to ``length`` of them, then padding."""
    rows, length = shape
    known = vocabulary_size(contract) - UNKNOWN
    lengths = 1 + _drawn(bits, rows, lambda uniform: np.floor(uniform * length), np.int64)
    numbers = _drawn(bits, rows * length, lambda uniform: UNKNOWN + np.floor(uniform * known), np.int32)
    return np.where(np.arange(length) < lengths[:, None], numbers.reshape(shape), np.int32(PADDING))


def _lengths(share: Array, contract: InputSpec, dims: Mapping[str, int] | None) -> Array:
    """Lengths of sequences at ``share`` (0..1) of the way from 1 to the largest, as the spec wants them."""
    most = contract.params["most"]
    most = (dims or {}).get(most, 1) if isinstance(most, str) else int(most)
    values = np.minimum(1 + np.floor(share * most), most)
    if contract.params.get("longest") and values.size:
        values.flat[0] = most
    return -np.sort(-values) if contract.params.get("sorted") else values


def zeros_feed(
    signature: Signature,
    contract: Mapping[str, InputSpec],
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
) -> Feed:
    """All inputs zero, lengths of sequences 1; named dimensions and batch as in :func:`seeded_feed`."""
    feed = {
        spec.name: np.zeros(_shape(spec, contract.get(spec.name, InputSpec()), dims, batch), spec.dtype)
        for spec in signature.inputs
    }
    for name, zeros in feed.items():
        if name in contract and "most" in contract[name].params:
            feed[name] = _lengths(zeros.astype(np.float64), contract[name], dims).astype(zeros.dtype)
    return feed


def extreme_feed(
    signature: Signature,
    contract: Mapping[str, InputSpec],
    sign: int,
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
) -> Feed:
    """Every value at the top (``sign`` 1) or bottom (-1) of its range: white or black images, ±4 for other floats.

    Texts are full of the last word or of unknown ones; lengths of sequences are the largest or 1, other
    integers 9, or the last row of their table, or 0, booleans True or False.
    """
    feed = {}
    for spec in signature.inputs:
        rule = contract.get(spec.name, InputSpec())
        shape = _shape(spec, rule, dims, batch)
        kind = np.dtype(spec.dtype).kind
        if kind == "f" and rule.kind == "image":
            values = _pixels_to_input(np.full(shape, 255 if sign > 0 else 0, np.float32), shape, rule)
        elif kind == "f":
            values = np.full(shape, EXTREME * sign, spec.dtype)
        elif rule.kind == "text":
            values = np.full(shape, vocabulary_size(rule) - 1 if sign > 0 else UNKNOWN)
        elif "most" in rule.params:
            values = _lengths(np.full(shape, 1.0 if sign > 0 else 0.0), rule, dims)
        else:
            values = np.full(shape, _most(kind, rule) if sign > 0 else 0, spec.dtype)
        feed[spec.name] = values.astype(spec.dtype, copy=False)
    return feed


def normalised_range(contract: InputSpec) -> tuple[float, float]:
    """Smallest and largest model value an image spec can give; (-EXTREME, EXTREME) otherwise."""
    if contract.kind != "image":
        return -EXTREME, EXTREME
    factor, offset = affine(replace(contract), contract.channels or 1)
    return float(offset.min()), float((255.0 * factor + offset).max())
