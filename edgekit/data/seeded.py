"""Feeds that are the same on every machine and numpy version: made from the raw bits of PCG64 (O'Neill, 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgekit.data.kind import affine
from edgekit.data.text import PADDING, UNKNOWN, vocabulary_size
from edgekit.types import Array, Feed, InputContract, Signature, TensorSpec

EXTREME = 4.0
"""Magnitude of the extreme feed where the contract states no range, in standard deviations of a normalised input."""


def _uniform(seed: int, stream: int, count: int) -> Array:
    """``count`` float64 values in [0, 1) from the raw 64-bit output, whose sequence numpy guarantees."""
    bits = np.random.PCG64(np.random.SeedSequence([seed, stream])).random_raw(count)
    return (np.asarray(bits, np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _shape(spec: TensorSpec, dims: Mapping[str, int] | None, batch: int | None) -> tuple[int, ...]:
    shape = spec.resolved(dims)
    if batch is not None and shape:
        return (batch, *shape[1:])
    return shape


def _channels_last(contract: InputContract) -> bool:
    return contract.kind != "image" or contract.layout != "NCHW"


def _pixels_to_input(pixels: Array, shape: tuple[int, ...], contract: InputContract) -> Array:
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
    contract: Mapping[str, InputContract],
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
        shape = _shape(spec, dims, batch)
        rule = contract.get(spec.name, InputContract())
        kind = np.dtype(spec.dtype).kind
        count = int(np.prod(shape, dtype=np.int64))
        if kind == "f" and rule.kind == "image":
            pixels = np.floor(_uniform(seed, stream, count) * 256).reshape(shape)
            values = _pixels_to_input(pixels, shape, rule)
        elif kind == "f" and rule.kind == "table":
            values = (_uniform(seed, stream, count) * 4 - 2).reshape(shape)
        elif kind == "f":
            quarters = _uniform(seed, stream, 4 * count).reshape(count, 4)
            values = ((quarters.sum(1) - 2.0) * np.sqrt(3.0)).reshape(shape)
        elif rule.kind == "text":
            values = _words(_uniform(seed, stream, count + shape[0]), shape, rule)
        elif "most" in rule.params:
            values = _lengths(_uniform(seed, stream, count).reshape(shape), rule, dims)
        else:
            values = np.floor(_uniform(seed, stream, count) * (_most(kind, rule) + 1)).reshape(shape)
        feed[spec.name] = values.astype(spec.dtype, order="C")
    return feed


def _most(kind: str, contract: InputContract) -> int:
    """The largest value of a boolean, or of an integer that is neither a word nor a length."""
    return 1 if kind == "b" else min(9, int(contract.params.get("below", 10)) - 1)


def _words(uniform: Array, shape: tuple[int, ...], contract: InputContract) -> Array:
    """Token numbers (N, length) of known and unknown words; a row has 1 to ``length`` of them, then padding."""
    rows, length = shape
    lengths = 1 + np.floor(uniform[:rows] * length)
    numbers = UNKNOWN + np.floor(uniform[rows:].reshape(shape) * (vocabulary_size(contract) - UNKNOWN))
    return np.where(np.arange(length) < lengths[:, None], numbers, PADDING)


def _lengths(share: Array, contract: InputContract, dims: Mapping[str, int] | None) -> Array:
    """Lengths of sequences at ``share`` (0..1) of the way from 1 to the largest, as the contract wants them."""
    most = contract.params["most"]
    most = (dims or {}).get(most, 1) if isinstance(most, str) else int(most)
    values = np.minimum(1 + np.floor(share * most), most)
    if contract.params.get("longest") and values.size:
        values.flat[0] = most
    return -np.sort(-values) if contract.params.get("sorted") else values


def zeros_feed(
    signature: Signature,
    contract: Mapping[str, InputContract],
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
) -> Feed:
    """All inputs zero, lengths of sequences 1; named dimensions and batch as in :func:`seeded_feed`."""
    feed = {spec.name: np.zeros(_shape(spec, dims, batch), spec.dtype) for spec in signature.inputs}
    for name, zeros in feed.items():
        if name in contract and "most" in contract[name].params:
            feed[name] = _lengths(zeros.astype(np.float64), contract[name], dims).astype(zeros.dtype)
    return feed


def extreme_feed(
    signature: Signature,
    contract: Mapping[str, InputContract],
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
        shape = _shape(spec, dims, batch)
        rule = contract.get(spec.name, InputContract())
        kind = np.dtype(spec.dtype).kind
        if kind == "f" and rule.kind == "image":
            values = _pixels_to_input(np.full(shape, 255.0 if sign > 0 else 0.0), shape, rule)
        elif kind == "f":
            values = np.full(shape, EXTREME * sign)
        elif rule.kind == "text":
            values = np.full(shape, vocabulary_size(rule) - 1 if sign > 0 else UNKNOWN)
        elif "most" in rule.params:
            values = _lengths(np.full(shape, 1.0 if sign > 0 else 0.0), rule, dims)
        else:
            values = np.full(shape, _most(kind, rule) if sign > 0 else 0)
        feed[spec.name] = values.astype(spec.dtype)
    return feed


def normalised_range(contract: InputContract) -> tuple[float, float]:
    """Smallest and largest model value an image contract can give; (-EXTREME, EXTREME) otherwise."""
    if contract.kind != "image":
        return -EXTREME, EXTREME
    factor, offset = affine(replace(contract), contract.channels or 1)
    return float(offset.min()), float((255.0 * factor + offset).max())
