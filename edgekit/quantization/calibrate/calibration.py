"""Calibration as data: ranges by tensor of one network, made once and consumed by both back ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.documents import parse_json, typed
from edgekit.errors import DataError, UsageError
from edgekit.inputs import read_regular
from edgekit.quantization.calibrate.fingerprint import ROUNDING, Book, Probes
from edgekit.quantization.calibrate.histogram import METHODS, Observer, Range
from edgekit.types import Array, Feed, Signature

SCHEMA = "edgekit.calibration/2"
_LARGEST = float(np.finfo(np.float32).max)
_WRITES = "edgekit quantize with --save-calibration FILE.json writes one"


@dataclass(frozen=True)
class Calibration:
    """Ranges by tensor name of one model (a torch module, or a file made from it), with how they were found.

    What was made on one of them holds for the others: see :func:`edgekit.quantization.calibrate.transfer.transfer`.

    Attributes:
        method: one of :data:`METHODS`, or where the ranges come from (``qat``).
        data: label of the data set (``cifar10@train``).
        samples: how many samples were seen.
        ranges: tensor name -> range. Names are those of the file, or of the module (``observe_module`` says how).
        means: tensor name -> mean per channel, for bias correction (axis 1 of ONNX and torch tensors with four axes or
            more, else the last).
        model_sha256: hash of the file; empty for a module.
        notes: what the user should know (a single sample, a tensor that is always zero).
        layers: tensor name -> layer of the torch module, as far as the file tells.
        aliases: other name of a tensor -> its name: modules that give what another one made.
        dead: tensor name -> (channels that were always zero, channels), where there are such.
        halves: how far the scales of two halves of the samples are apart, as a share: the median of all tensors; None
            where there was one sample, or the ranges were not observed.
        probes: seeded inputs and what every tensor was on them, by which tensors are known again in another format.
    """

    method: str
    data: str
    samples: int
    ranges: Mapping[str, Range]
    means: Mapping[str, tuple[float, ...]]
    model_sha256: str = ""
    notes: tuple[str, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    dead: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    halves: float | None = None
    probes: Probes | None = None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        probes = None if self.probes is None else self.probes.document()
        return {"schema": SCHEMA, **asdict(replace(self, probes=None)), "probes": probes}

    def save(self, path: Path) -> None:
        """Writes the calibration as JSON."""
        path.write_text(json.dumps(self.document(), indent=1, allow_nan=False), encoding="utf-8")

    def with_ranges(self, learned: Mapping[str, Range], *, method: str, data: str | None = None) -> Calibration:
        """A copy in which some tensors have other ranges, found by ``method``: learned in training, say.

        Args:
            learned: tensor name, or path of a module that returns the tensor -> its range. Tensors that hold the same
                numbers get the same range.

        Raises:
            UsageError: no tensor has such a name, or the same tensor is given two ranges.
        """
        unknown = [name for name in learned if self.aliases.get(name, name) not in self.ranges]
        if unknown:
            raise UsageError(
                f"the calibration has no tensor {unknown[0]!r}; near names: "
                f"{', '.join(get_close_matches(unknown[0], [*self.ranges, *self.aliases], 5)) or 'none'}"
            )
        own: dict[str, Range] = {}
        for name, one in learned.items():
            tensor = self.aliases.get(name, name)
            if own.setdefault(tensor, one) != one:
                raise UsageError(f"{name!r} is {tensor!r}, which is given another range already; give one of the two")
        equal = {twin: own[name] for name in own for twin in self._twins(name) if twin not in own}
        ranges = {**self.ranges, **equal, **own}
        return replace(self, ranges=ranges, method=method, data=self.data if data is None else data, halves=None)

    def _twins(self, name: str) -> list[str]:
        """Other tensors with the same numbers on every probe."""
        prints = self.probes.prints if self.probes is not None else {}
        if name not in prints:
            return []
        near = Book({k: v for k, v in prints.items() if k in self.ranges}).candidates(prints[name])
        return [one.name for one in near if one.distance <= ROUNDING and one.name != name]

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: not a calibration, or a range that is not a range.
            LimitError: larger than is allowed.
        """
        data = read_regular(path, DataError, f"a calibration; {_WRITES}", "DOCUMENT_BYTES")
        try:
            return cls.from_document(parse_json(data, DataError, path), str(path))
        except DataError as error:
            raise DataError(f"{error}; {_WRITES}") from error

    @classmethod
    def from_document(cls, document: Any, where: str) -> Calibration:
        """What :meth:`document` gave; ``where`` it stood is for messages.

        Raises:
            DataError: see :meth:`load`.
            LimitError: its probes are larger than an input may be.
        """
        try:
            schema = typed(_Schema, document, "it").schema
            if schema != SCHEMA:
                raise DataError(f"{where} has schema {schema[:60]!r}, this edgekit reads {SCHEMA!r}")
            found = typed(cls, {**document, "probes": None}, "it")
            probes = document.get("probes")
            found = replace(found, probes=None if probes is None else Probes.from_document(probes))
        except ValueError as error:
            raise DataError(f"{where} is not a calibration: {error}") from error
        for name, one in found.ranges.items():
            if not (one.low <= 0 <= one.high) or max(-one.low, one.high) > _LARGEST:
                raise DataError(
                    f"{where}: the range of {name!r} is {one.low} .. {one.high}; it must be finite, hold zero"
                )
        return found


@dataclass(frozen=True, slots=True)
class _Schema:
    schema: str


def checked_feeds(feeds: Iterable[Feed], signature: Signature) -> Iterable[Feed]:
    """Passes ``feeds`` on, each checked against ``signature``.

    Raises:
        DataError: an input is missing, of another shape, or holds NaN or infinity.
    """
    for number, feed in enumerate(feeds):
        for spec in signature.inputs:
            if spec.name not in feed:
                raise DataError(
                    f"calibration sample {number} has {sorted(feed)}, the model wants an input {spec.name!r}"
                )
            value = feed[spec.name]
            wanted = spec.shape
            fits = value.ndim == len(wanted) and all(
                isinstance(w, str) or w == s for w, s in zip(wanted, value.shape, strict=True)
            )
            if not fits:
                raise DataError(
                    f"calibration sample {number}: input {spec.name!r} is {value.shape}, the model wants {wanted}; "
                    "give data of the model's own input shape"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise DataError(
                    f"calibration sample {number}: input {spec.name!r} holds NaN or infinity; clean the data"
                )
        yield feed


def gather(
    batches: Iterable[tuple[int, Mapping[str, Array]]],
    *,
    method: str,
    data: str,
    channel_axis: int,
    model_sha256: str = "",
) -> Calibration:
    """Streams ``(samples, tensors by name)`` into a :class:`Calibration`.

    Raises:
        UsageError: no such method.
        DataError: no samples.
    """
    check_method(method)
    observers: dict[str, Observer] = {}
    samples = 0
    for count, tensors in batches:
        samples += count
        for name, values in tensors.items():
            if name not in observers:
                observers[name] = Observer(channel_axis, counting=method != "minmax")
            observers[name].update(name, values, count)
    if samples == 0:
        raise DataError("the calibration data is empty; give at least one sample, some hundred are usual")
    notes = []
    if samples == 1:
        notes.append(
            "calibrated on a single sample: ranges are those of this one input; some hundred samples are usual"
        )
    dead = sorted(name for name, seen in observers.items() if seen.low == seen.high == 0 and not seen.unbounded)
    if dead:
        notes.append(f"always zero on the calibration data: {', '.join(dead)}")
    return Calibration(
        method,
        data,
        samples,
        {name: seen.range(method) for name, seen in observers.items()},
        {name: seen.mean for name, seen in observers.items() if seen.mean is not None},
        model_sha256,
        tuple(notes),
        dead={name: (seen.dead, seen.channels) for name, seen in observers.items() if seen.dead},
        halves=_halves(observers.values()),
    )


def _halves(observers: Iterable[Observer]) -> float | None:
    apart = [one.apart for one in observers if one.apart is not None]
    return float(np.median(apart)) if apart else None


def check_method(method: str) -> None:
    """Raises UsageError unless ``method`` is one of :data:`METHODS`."""
    if method not in METHODS:
        raise UsageError(f"no calibration is called {method!r}; there are: {', '.join(METHODS)}")


def describe(calibration: Calibration) -> dict[str, Any]:
    """What a card's step says of a calibration: how, on what, how much; not the ranges themselves."""
    return {"method": calibration.method, "data": calibration.data, "samples": calibration.samples}
