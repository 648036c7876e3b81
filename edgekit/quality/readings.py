"""What the operators of a quantized file read, where the operators of its float parent read their tensors.

A file is matched with its parent operator by operator, by name; a *reading* says which tensor of the file stands, at
one place of one operator, for which tensor of the parent, and what its integers can say. From the readings follow two
models: the file with all that is read as outputs (*shown*), and the parent cut at every reading (*cut*), so that each
of its operators is given what the file's operator is given. What the parent then computes is what the file should have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgekit.types import Array, Feed


@dataclass(frozen=True, slots=True)
class Steps:
    """What the integers of a tensor can say: multiples of ``step`` from ``low`` to ``high``, in real units."""

    step: float
    low: float
    high: float

    @property
    def fine(self) -> bool:
        """Whether these are more than 8 bits."""
        return self.high - self.low > 512 * self.step

    @classmethod
    def of(cls, scale: float, zero: int, dtype: str) -> Steps:
        """For ``scale * (integer - zero)`` with integers of ``dtype``."""
        limits = np.iinfo(dtype)
        return cls(scale, scale * (int(limits.min) - zero), scale * (int(limits.max) - zero))

    def within(self, values: Array) -> Array:
        """The nearest that can be said of each value, steps left out of account."""
        clipped: Array = np.clip(values, self.low, self.high)
        return clipped

    def nearest(self, values: Array) -> Array:
        """What the integers say of each value."""
        return self.within(np.rint(values / self.step) * self.step)

    def joined(self, other: Steps | None) -> Steps:
        """What is left after both, one behind the other: the coarser step, the common range."""
        if other is None:
            return self
        return Steps(max(self.step, other.step), max(self.low, other.low), min(self.high, other.high))


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the parent.

    Attributes:
        kind, name: as the passes know it (TFLite: the name of its first output).
        outputs: keys of the parent's tensors that it writes.
        inexact: why its kernel in the file rounds beyond what the file says: ``hybrid`` where it quantizes its inputs
            as it runs, ``loop`` where such rounding goes round; empty where it does not.
        integers: whether the file's operator reads or writes integers.
    """

    kind: str
    name: str
    outputs: tuple[str, ...]
    inexact: str = ""
    integers: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Reading:
    """One activation that one operator reads.

    Attributes:
        operator, place: which operator of the parent, and which of its inputs.
        tensor: key of what it reads in the parent.
        other: key of what the file's operator reads there.
        steps: of ``other``; None where it is real.
    """

    operator: int
    place: int
    tensor: str
    other: str
    steps: Steps | None


@dataclass(frozen=True)
class Constant:
    """One constant that one operator reads.

    Attributes:
        wanted: the parent's values.
        found: what the file's stand for, as large.
        allowed: how far rounding to the file's integers or halves may move a value, of any shape that broadcasts; 0
            for reals.
        bias: it is added to each channel, and may have been corrected.
        graph: of which subgraph the operator is; 0 is the main one.
    """

    operator: int
    place: int
    name: str
    wanted: Array
    found: Array
    allowed: Array
    bias: bool = False
    graph: int = 0


@dataclass(frozen=True)
class Loop:
    """A loop whose step computes on integers.

    Attributes:
        pair: the step in the parent and in the file.
        step, condition: subgraphs of the file, each as a file.
        start: input of the step -> what the loop begins with: the key of a tensor of the file, or a constant's values.
    """

    pair: Pair
    step: bytes
    condition: bytes
    start: Mapping[str, str | Array]


class Pair(Protocol):
    """A float file and the file that was quantized from it."""

    suffix: str

    @property
    def operators(self) -> Sequence[Operator]: ...
    @property
    def readings(self) -> Sequence[Reading]: ...
    @property
    def constants(self) -> Sequence[Constant]: ...
    @property
    def results(self) -> Mapping[str, tuple[str, str, Steps | None]]:
        """Output of the parent by the name a user sees -> key of its tensor, key in the file, steps there."""
        ...

    @property
    def loops(self) -> Sequence[Loop]:
        """Loops whose steps are compared operator by operator, too; what is read at them is among the readings."""
        ...

    def shown(self) -> bytes:
        """The file with every ``other`` of the readings and every result as an output, by its key, in real values."""
        ...

    def shown_feed(self, feed: Feed) -> dict[str, Array]:
        """``feed``, by the names a user sees, as :meth:`shown` takes it."""
        ...

    def cut(self, given: Mapping[str, Array], *, own_constants: bool = False) -> bytes:
        """The parent, which takes ``given`` (by ``other``) at its readings, with every tensor that is read, and every
        result, as an output by its key.

        Args:
            own_constants: with the parent's own constants in place of the file's.
        """
        ...

    def cut_feed(self, feed: Feed, given: Mapping[str, Array]) -> dict[str, Array]:
        """What :meth:`cut` takes."""
        ...

    def simulated(self, steps: Mapping[int, Steps]) -> bytes:
        """The parent with quantization that can be switched on and off while it runs.

        Its inputs are its own, as :meth:`cut_feed` names them, and booleans of one value: :func:`switch` of a reading
        rounds what is read there to ``steps`` (by the number of the reading), that of a constant takes the file's.
        Its outputs are the results, by their keys.
        """
        ...

    def rounded_while_running(self) -> frozenset[str]:
        """Keys of :meth:`cut_feed` that kernels of the file quantize as they run."""
        ...

    def channels(self, values: Array) -> Array:
        """What a convolution or a product of the parent gives, as (places, channels)."""
        ...


def given_key(other: str) -> str:
    """What the input of the cut parent is called that takes the place of a reading."""
    return f"given/{other}"


def switch(what: str, number: int) -> str:
    """The name of the input of the simulation that turns on the ``reading`` or the ``constant`` of this number."""
    return f"on/{what}/{number}"


def hybrid_inputs(pair: Pair, inputs: Iterable[str]) -> frozenset[str]:
    """``inputs`` of the parent, and what hybrid operators are given; nothing for a file without any."""
    hybrid = {number for number, one in enumerate(pair.operators) if one.inexact}
    if not hybrid:
        return frozenset()
    return frozenset((*inputs, *(given_key(r.other) for r in pair.readings if r.operator in hybrid)))
