"""Tensors known again in another format: by what they are on the same seeded inputs, not by name or place.

Converters rename, transpose, fuse and pad. Smallest and largest value, sum, sum of magnitudes, L2 norm and count are
the same in any order of the axes, and all but the count are the same behind a padding with zeros. Two tensors of one
network that agree in all of them on every probe hold the same numbers.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.data.seeded import seeded_feed
from edgekit.documents import typed
from edgekit.limits import check
from edgekit.quality.alignment import align
from edgekit.quantization.calibrate.histogram import UNBOUNDED
from edgekit.types import Array, Feed, InputSpec, Signature, TensorSpec

SEEDS = (101, 102)
"""Two probes: on one alone a tensor may be all zeros, or equal to another by chance of a ReLU."""
MATCH = 1e-3
"""Share of its scale by which a statistic may differ: ten times what a conversion is proved to (as in
``quality.divergence``)."""
ROUNDING = 1e-5
"""Differences up to here say nothing of which of two tensors is meant: float32 sums in another order."""

_DTYPES = (
    *("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"),
    "uint64",
)
Print = tuple[float, float, float, float, float, float]
"""Count, smallest and largest value (zero counted in), sum, sum of magnitudes, L2 norm."""


@dataclass(frozen=True)
class Probes:
    """Seeded inputs of one model and the fingerprints of its tensors on them.

    Attributes:
        feeds: the inputs, by name, one feed a probe.
        layouts: input name -> layout of its contract (``NCHW``), where there is one.
        prints: tensor name -> one fingerprint a probe. A tensor with NaN or infinity on a probe has none.
    """

    feeds: tuple[Feed, ...]
    layouts: Mapping[str, str] = field(default_factory=dict)
    prints: Mapping[str, tuple[Print, ...]] = field(default_factory=dict)

    def aligned(self, signature: Signature, contract: Mapping[str, InputSpec]) -> tuple[Feed, ...]:
        """The probes as another file of the same network takes them.

        Raises:
            UsageError: another number of inputs, or shapes that no change of layout brings together.
        """
        mine = tuple(TensorSpec(name, str(a.dtype), a.shape) for name, a in self.feeds[0].items())
        layouts = {name: InputSpec(layout=layout) for name, layout in self.layouts.items()}
        found = align(Signature(mine, ()), Signature(signature.inputs, ()), layouts, contract)
        return tuple(found.feed(feed) for feed in self.feeds)

    def document(self) -> dict[str, Any]:
        """As JSON; arrays as base64 of their zlib-packed little-endian bytes."""
        return {
            "feeds": [{name: _packed(array) for name, array in feed.items()} for feed in self.feeds],
            "layouts": dict(self.layouts),
            "prints": {name: [list(one) for one in rows] for name, rows in self.prints.items()},
        }

    @classmethod
    def from_document(cls, document: Any) -> Probes:
        """What :meth:`document` gave.

        Raises:
            ValueError: anything else.
            LimitError: an input larger than one may be.
        """
        found = typed(_Document, document, "probes")
        feeds = tuple({name: _unpacked(row) for name, row in feed.items()} for feed in found.feeds)
        if not feeds or any(len(rows) != len(feeds) for rows in found.prints.values()):
            raise ValueError("a fingerprint is wanted for every probe")
        return cls(feeds, found.layouts, found.prints)


@dataclass(frozen=True, slots=True)
class _PackedArray:
    dtype: str
    shape: tuple[int, ...]
    zlib: str


@dataclass(frozen=True, slots=True)
class _Document:
    """:class:`Probes` as they stand in JSON."""

    feeds: tuple[Mapping[str, _PackedArray], ...]
    layouts: Mapping[str, str]
    prints: Mapping[str, tuple[Print, ...]]


def probe_feeds(signature: Signature, contract: Mapping[str, InputSpec], sample: Feed) -> tuple[Feed, ...]:
    """The seeded inputs by which tensors of a model with this signature are known, of the sizes of ``sample``; a free
    first axis, which is the batch, is 1.

    Integers that no contract describes are those of the sample: a rate, a length or a mode chooses what is computed.
    """
    batch = {spec.shape[0] for spec in signature.inputs if spec.shape}
    dims = {
        dim: size
        for spec in signature.inputs
        for dim, size in zip(spec.shape, sample[spec.name].shape, strict=True)
        if isinstance(dim, str) and dim not in batch
    }
    found = tuple(seeded_feed(signature, contract, seed, dims=dims) for seed in SEEDS)
    chosen = [spec.name for spec in signature.inputs if spec.name not in contract and _is_whole(sample[spec.name])]
    return tuple({**feed, **{name: _of_shape(sample[name], feed[name]) for name in chosen}} for feed in found)


def _is_whole(values: Array) -> bool:
    return values.dtype.kind in "iub"


def _of_shape(values: Array, like: Array) -> Array:
    """``values``, or the first of a batch of them."""
    return values if values.shape == like.shape else values[: len(like)]


def layouts_of(contract: Mapping[str, InputSpec]) -> dict[str, str]:
    """Input name -> layout, where its contract has one."""
    return {name: rule.layout for name, rule in contract.items() if rule.layout}


def prints_of(runs: Sequence[Mapping[str, Array]]) -> dict[str, tuple[Print, ...]]:
    """Fingerprints by tensor name, of one run a probe; tensors that are not finite, or not in every run, left out."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    found = {name: tuple(fingerprint(run[name]) for run in runs) for name in names}
    return {name: rows for name, rows in found.items() if np.isfinite(rows).all() and rows[0][0]}


def fingerprint(values: Array) -> Print:
    """The statistics of one tensor that no order of its axes changes; sums in float64.

    What stands for infinity counts as zero: a mask or a padding, which one format writes as -inf and another does not.
    """
    flat = np.asarray(values, np.float64).ravel()
    flat = np.where(np.abs(flat) >= UNBOUNDED, 0, flat)
    magnitudes = np.abs(flat)
    low, high = float(flat.min(initial=0.0)), float(flat.max(initial=0.0))
    return (float(flat.size), low, high, float(flat.sum()), float(magnitudes.sum()), float(np.sqrt((flat**2).sum())))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tensor of the source that may be one of the target's; ``distance``: the largest difference of a statistic, as a
    share of its scale."""

    name: str
    distance: float


class Book:
    """The fingerprints of one model, to look others up in."""

    def __init__(self, prints: Mapping[str, Sequence[Print]]) -> None:
        self._names = list(prints)
        shape = (len(self._names), -1, 6)
        self._rows = np.asarray([list(rows) for rows in prints.values()], np.float64).reshape(shape)

    def candidates(self, rows: Sequence[Print]) -> list[Candidate]:
        """Tensors that agree within :data:`MATCH` on every probe, nearest first; those of another count only where none
        has the same one (a padding with zeros)."""
        if not self._names or self._rows.shape[1] != len(rows):
            return []
        distance = _distance(self._rows, np.asarray(rows, np.float64)[None])
        near = distance <= MATCH
        same = near & (self._rows[:, :, 0] == np.asarray(rows)[None, :, 0]).all(1)
        chosen = np.flatnonzero(same if same.any() else near)
        return sorted(
            (Candidate(self._names[k], float(distance[k])) for k in chosen), key=lambda one: (one.distance, one.name)
        )


def _distance(rows: Array, wanted: Array) -> Array:
    """(N, P, 6) and (1, P, 6) -> (N): the largest difference of a statistic as a share of its scale.

    The scale of both ends is the larger magnitude, that of the sum is the sum of magnitudes.
    """
    ends = np.maximum(np.abs(wanted[..., 1:3]).max(-1, keepdims=True), np.abs(rows[..., 1:3]).max(-1, keepdims=True))
    total = np.maximum(rows[..., 4:5], wanted[..., 4:5])
    norm = np.maximum(rows[..., 5:6], wanted[..., 5:6])
    scale = np.concatenate([ends, ends, total, total, norm], -1)
    apart = np.abs(rows[..., 1:] - wanted[..., 1:])
    result: Array = np.divide(apart, scale, out=np.zeros_like(apart), where=scale > 0).max(axis=(1, 2))
    return result


def _packed(array: Array) -> dict[str, Any]:
    data = np.asarray(array, order="C").astype(array.dtype.newbyteorder("<")).tobytes()
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "zlib": base64.b64encode(zlib.compress(data)).decode(),
    }


def _unpacked(row: _PackedArray) -> Array:
    """The array; ValueError if it is not an array, LimitError where it is too large."""
    if row.dtype not in _DTYPES or min(row.shape, default=0) < 0:
        raise ValueError(f"an input of type {row.dtype[:60]} and shape {row.shape[:8]}")
    dtype = np.dtype(row.dtype)
    size = math.prod(row.shape) * dtype.itemsize
    check("INPUT_BYTES", size, "a probe")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(row.zlib, validate=True), size + 1)
    except zlib.error as error:
        raise ValueError(f"damaged probes: {error}") from error
    if len(data) != size or not unpacker.eof:
        raise ValueError(f"a probe of {size:,} bytes has others")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(row.shape)
