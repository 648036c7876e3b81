"""What the answer to each command may be: checked on this side, before anything is done with it.

A device is not trusted. Keys that no rule (:mod:`edgekit.devices.rules`) names are dropped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edgekit.devices.lease import LONGEST_S
from edgekit.devices.protocol import VERSION
from edgekit.devices.rules import MOST, SHOWN, Rule, either, flag, maybe, number, record, rows, table, text, whole
from edgekit.errors import (
    DeviceError,
    EdgekitError,
    FeedError,
    LimitError,
    ModelError,
    ProtocolError,
    RuntimeMissingError,
    TransferError,
    UnsupportedError,
    WorkerMemoryError,
)
from edgekit.limits import limit
from edgekit.runtime.ports import INTEGERS
from edgekit.types import Array, Card, Feed, Signature, TensorSpec

LONG: Final = 1 << 16
"""Characters of a name inside a model: converters join the names of all layers that they fuse."""
_DTYPES: Final = frozenset(np.dtype(code).name for code in "?bhilqBHILQefdFD")
_AXES: Final = 32


@dataclass(frozen=True)
class Reply:
    """What answers one command.

    Attributes:
        value: rule of the value.
        times: the names of its arrays, each of nanoseconds (int64, one axis).
        least_ns: the least of them.
        fewest, most: sizes that one of them may have.
        raises: errors that it may be beside those of :data:`ALWAYS`; a device says of no other what it is.
    """

    value: Rule = field(default_factory=record)
    times: tuple[str, ...] = ()
    least_ns: int = 0
    fewest: int = 1
    most: int = 1 << 20
    raises: tuple[type[EdgekitError], ...] = ()

    @property
    def array_bytes(self) -> int:
        """What its arrays may take."""
        return 8 * self.most * len(self.times)

    def error(self, name: str) -> type[EdgekitError]:
        """The class of an error that the device calls ``name``: a device chooses no exit code beside these."""
        known = {kind.__name__: kind for kind in (*ALWAYS, *self.raises)}
        return known.get(name, DeviceError)

    def check_times(self, arrays: Mapping[str, Array], limit_ns: int) -> None:
        """Raises ValueError unless ``arrays`` are these times, none longer than the device was waited for."""
        _check_names(arrays, self.times)
        for name, array in arrays.items():
            if array.dtype != np.int64 or array.ndim != 1 or array.size > self.most:
                raise ValueError(
                    f"{name} is {array.dtype}{list(array.shape)}, wanted at most {self.most:,} nanoseconds as int64"
                )
            if array.size and not self.least_ns <= int(array.min()) <= int(array.max()) <= limit_ns:
                raise ValueError(
                    f"{name} holds {int(array.min()):,} to {int(array.max()):,} ns, wanted {self.least_ns} to "
                    f"{limit_ns:,}, the time it was waited for"
                )
        sizes = {array.size for name, array in arrays.items() if name not in _OTHER_SIZES}
        if len(sizes) > 1 or min(sizes, default=self.fewest) < self.fewest:
            raise ValueError(f"its times are {sorted(sizes)} in number, wanted {self.fewest} or more, as many of each")


_OTHER_SIZES: Final = ("warmup_ns", "device")
"""Times that are not those of the same runs as their neighbours."""


def check_signature(signature: Signature, card: Card | None) -> None:
    """Raises ValueError unless a model can have this signature, and the file with this card has it.

    The device is told the card as well: it names the inputs and outputs, and knows what is fixed.
    """
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        twice = [name for name, count in Counter(spec.name for spec in specs).items() if count > 1]
        if twice:
            raise ValueError(f"two {kind}s are called {twice[0][:SHOWN]!r}")
        known = () if card is None else card.signature.inputs if kind == "input" else card.signature.outputs
        if card is not None and not (len(specs) == len(known) and all(map(_is_of_the_card, specs, known))):
            raise ValueError(f"the {kind}s are {_shown(specs)}, the card has {_shown(known)}")
    for spec in signature.inputs:
        size = _least_bytes(spec)
        if size > limit("INPUT_BYTES"):
            raise ValueError(f"input {str(spec)[:SHOWN]} takes {size:,} bytes, EDGEKIT_LIMIT_INPUT_BYTES allows less")


def _is_of_the_card(spec: TensorSpec, known: TensorSpec) -> bool:
    """Quantized tensors are float32 to the user, or what they are."""
    return (
        spec.name == known.name
        and len(spec.shape) == len(known.shape)
        and (spec.dtype == known.dtype or spec.dtype in (*INTEGERS, "float32"))
        and all(
            a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(spec.shape, known.shape, strict=True)
        )
    )


def _shown(specs: Sequence[TensorSpec]) -> str:
    return "; ".join(str(spec)[:SHOWN] for spec in specs[:5])


def _least_bytes(spec: TensorSpec) -> int:
    """With free dimensions of size 1."""
    return np.dtype(spec.dtype).itemsize * math.prod(spec.resolved())


def output_bytes(signature: Signature, feed: Feed) -> int:
    """What the outputs of one run on ``feed`` may take: as much as their shapes say, where these say it.

    Where an input has a free axis beside its batch, the sizes of outputs may be those of an example: TFLite files have
    no others.
    """
    if _has_free_inputs(signature):
        return limit("REPLY_ARRAY_BYTES")
    batch = max((array.shape[0] for array in feed.values() if array.ndim), default=1)
    total, most = 0, limit("REPLY_ARRAY_BYTES")
    for spec in signature.outputs:
        sizes = [size for size in spec.shape if isinstance(size, int)]
        if not sizes or len(sizes) < len(spec.shape):
            return most
        total += np.dtype(spec.dtype).itemsize * math.prod((max(sizes[0], batch), *sizes[1:]))
    return min(total, most)


def _has_free_inputs(signature: Signature) -> bool:
    """Whether an axis of an input is free that is not the batch."""
    return any(isinstance(size, str) for spec in signature.inputs for size in spec.shape[1:])


def check_outputs(arrays: Mapping[str, Array], signature: Signature, feed: Feed, *, named: bool) -> None:
    """Raises ValueError unless ``arrays`` are the outputs of a run on ``feed``.

    A shape without axes says nothing (runtimes give it for outputs whose rank is not known), and the first axis may be
    that of the feed: exporters write the batch of their example into the file, and where an input has another free
    axis, all sizes of it. ``named``: the names of free dimensions
    are those of a card, and mean the same in inputs and outputs.
    """
    _check_names(arrays, tuple(spec.name for spec in signature.outputs))
    bound: dict[int | str, int] = {}
    for spec in signature.inputs if named else ():
        bound.update(zip(spec.shape, feed[spec.name].shape, strict=False))
    example = not named and _has_free_inputs(signature)
    batches = {array.shape[0] for array in feed.values() if array.ndim}
    for spec in signature.outputs:
        found = arrays[spec.name]
        fits = not spec.shape or (
            len(spec.shape) == found.ndim
            and all(
                (isinstance(wanted, str) and bound.get(wanted, size) == size)
                or wanted == size
                or example
                or (axis == 0 and isinstance(wanted, int) and size in batches)
                for axis, (wanted, size) in enumerate(zip(spec.shape, found.shape, strict=True))
            )
        )
        if found.dtype != np.dtype(spec.dtype) or not fits:
            raise ValueError(f"an output is {found.dtype}{list(found.shape)}, the signature says {str(spec)[:SHOWN]}")


def _check_names(arrays: Mapping[str, Array], wanted: tuple[str, ...]) -> None:
    if set(arrays) != set(wanted):
        given = ", ".join(name[:SHOWN] for name in list(arrays)[:5])
        raise ValueError(f"it brings the arrays {given or 'none'}, wanted {', '.join(wanted) or 'none'}")


ALWAYS: Final[tuple[type[EdgekitError], ...]] = (
    DeviceError,
    RuntimeMissingError,
    WorkerMemoryError,
    TransferError,
    ProtocolError,
)
OF_A_FEED: Final = (FeedError, UnsupportedError)
"""What running a model on a feed may raise besides."""
_LONG = text(LONG)
_PLACE: Final = text(4096, pattern=r"/(?s:.*)[^/]")
BYTES: Final = whole(0, 1 << 50)
_NS: Final = whole(0, 1 << 56)
_UNKNOWN: Final = text(100)
"""What a device cannot see is a word."""
_HOLDER: Final = record(owner=text(200), held_s=number(-1e10, 1e10), left_s=number(-1e10, LONGEST_S))
_TENSOR: Final = record(
    name=_LONG,
    dtype=text(20, "|".join(sorted(_DTYPES))),
    shape=rows(either(whole(0, 1 << 31), text(LONG, r"(?s:.+)")), _AXES),
)
_DELEGATION: Final = record(
    {"precisions": table(whole())},
    nodes=whole(),
    delegated=whole(),
    by=_LONG,
    left=rows(record(name=_LONG, type=_LONG, by=_LONG)),
)
_HELLO: Final = record(
    edgekit=text(100),
    python=text(100),
    executable=text(),
    pid=whole(1, 1 << 31),
    machine=text(100),
    runtimes=table(maybe(text(100))),
)
_ENVIRONMENT: Final = record(
    cpu=text(),
    cpu_id=text(),
    isa=rows(text(100), 1000),
    cores=either(whole(1, 1 << 20), _UNKNOWN),
    memory_bytes=either(BYTES, _UNKNOWN),
    machine=text(100),
    os=text(),
    python=text(100),
    implementation=text(100),
    versions=table(text(100)),
    affinity=either(rows(whole(0, 1 << 20), 1 << 16), _UNKNOWN),
    cgroup=record(cpus=either(number(0, 1e6), _UNKNOWN), memory_bytes=either(BYTES, _UNKNOWN)),
    governor=text(100),
    frequency_mhz=either(number(0, 1e6), _UNKNOWN),
    temperature_c=either(number(-300, 1e4), _UNKNOWN),
    load=either(rows(number(0, 1e6), 10), _UNKNOWN),
    busy=either(whole(0, 1 << 31), _UNKNOWN),
)


ENVELOPE: Final = record(
    {"value": table(lambda value, where: value), "error": record({"class": text(100)}, message=text(MOST))},
    id=whole(),
    ok=flag,
)
"""Every answer; ``error`` where it is not ``ok``."""


def hello(value: Any, where: str) -> Any:
    """A rule: the first answer. Of another version of the protocol nothing else is looked at."""
    spoken = record(protocol=whole())(value, where)["protocol"]
    if spoken != VERSION:
        raise ValueError(
            f"it speaks protocol {spoken}, wanted {VERSION}; bring edgekit there and here to the same version"
        )
    return {"protocol": VERSION, **_HELLO(value, where)}


REPLIES: Final[Mapping[str, Reply]] = {
    "hello": Reply(hello),
    "find": Reply(record(path=maybe(_PLACE))),
    "put": Reply(record(path=maybe(_PLACE))),
    "together": Reply(record(path=_PLACE)),
    "storage": Reply(record(folder=text(), free_bytes=BYTES, kept_bytes=BYTES)),
    "lease": Reply(record(holder=maybe(_HOLDER))),
    "lease_is_mine": Reply(record(mine=flag)),
    "holder": Reply(record(holder=maybe(_HOLDER))),
    "load": Reply(
        record(
            signature=record(inputs=rows(_TENSOR), outputs=rows(_TENSOR)),
            load_ns=_NS,
            runtime=text(100),
            runtime_version=text(100),
            delegation=maybe(_DELEGATION),
            peak_memory_bytes=maybe(BYTES),
            resident=flag,
            chip=maybe(text(200)),
        ),
        raises=(ModelError, UnsupportedError, LimitError),
    ),
    "run": Reply(raises=OF_A_FEED),
    "time_block": Reply(
        record(suspended_ns=_NS, discarded=whole()),
        times=("samples_ns", "warmup_ns"),
        least_ns=1,
        raises=OF_A_FEED,
    ),
    "environment": Reply(_ENVIRONMENT),
    "memory": Reply(record(peak_memory_bytes=maybe(BYTES))),
    "reference": Reply(record(ns=whole(1, 1 << 56))),
}
"""Command -> what answers it; every other one is answered by an object, of which nothing is used."""
