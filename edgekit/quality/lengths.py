"""How far a quantized recurrent file is from its float parent, by the length of the sequence.

A rounding error of a state goes on into every later step; whether it dies out or adds up depends on the trained
weights, and a test set of one length does not show it. Seen where a file leaves the length free, by runs of several
lengths, and where it gives every step of a fixed length, step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.data.seeded import seeded_feed
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.quality.contents import operators
from edgekit.results.quantize import LengthError
from edgekit.types import Array, Artifact, Feed, Format, InputSpec, Signature, TensorSpec

LENGTHS = (8, 32, 128, 512)
"""Steps that are tried where the length is free."""
SEEDS = (0, 1, 2, 3)
"""Random sequences where there are no real ones."""
_RECURRENT = (*ops.names(Format.ONNX, Family.RECURRENT, Family.LOOP), *ops.names(Format.TFLITE, Family.LOOP))


@dataclass(frozen=True)
class Probe:
    """One run: what goes in, its length, and the axis of the outputs with the steps (None: compared as a whole)."""

    feed: Feed
    steps: int
    axis: int | None


def probes(
    artifact: Artifact, signature: Signature, contract: Mapping[str, InputSpec], samples: Iterable[Feed]
) -> tuple[Probe, ...]:
    """Runs that show the error by length; none for a file without recurrent operators, or that shows one length only.

    Args:
        samples: real ones, repeated along the time as often as a length needs; random ones where there are none.
    """
    if not any(name.endswith(_RECURRENT) for name in operators(artifact)):
        return ()
    found = _time(signature)
    if found is None:
        return ()
    spec, axis = found
    size = spec.shape[axis]
    if isinstance(size, str):
        given = list(samples) or [seeded_feed(signature, contract, seed, dims={size: LENGTHS[-1]}) for seed in SEEDS]
        return tuple(Probe(_of_length(feed, signature, size, n), n, None) for n in LENGTHS for feed in given)
    if not any(len(out.shape) > axis + 1 and out.shape[axis] == size for out in signature.outputs):
        return ()
    given = list(samples) or [seeded_feed(signature, contract, seed) for seed in SEEDS]
    return tuple(Probe(feed, size, axis) for feed in given)


def length_errors(probed: Sequence[Probe], wanted: Sequence[Feed], found: Sequence[Feed]) -> tuple[LengthError, ...]:
    """Errors of ``found`` against ``wanted``, the outputs of both files for each probe."""
    worst: dict[int, tuple[float, float]] = {}
    for probe, right, given in zip(probed, wanted, found, strict=True):
        for name, value in right.items():
            for steps, a, b in _steps(probe, value, given[name]):
                error, reach = worst.get(steps, (0.0, 0.0))
                worst[steps] = max(error, _largest(a - b)), max(reach, _largest(a))
    return tuple(LengthError(n, error, error / reach if reach else 0.0) for n, (error, reach) in sorted(worst.items()))


def _time(signature: Signature) -> tuple[TensorSpec, int] | None:
    """The input that is a sequence of real features, and its axis of time.

    (B, T, I), or (T, B, I) where only the first size is free, or the second is 1.
    """
    for spec in signature.inputs:
        if len(spec.shape) != 3 or np.dtype(spec.dtype).kind not in "fi" or spec.dtype in ("int32", "int64"):
            continue
        first, second, _ = spec.shape
        major = (isinstance(first, str) and isinstance(second, int)) or (second == 1 and first != 1)
        return spec, 0 if major else 1
    return None


def _of_length(feed: Feed, signature: Signature, dimension: str, steps: int) -> Feed:
    """``feed`` with every axis of the dimension repeated or cut to a number of steps."""
    made = {}
    for spec in signature.inputs:
        value = feed[spec.name]
        for axis, size in enumerate(spec.shape):
            if size == dimension:
                value = value.take(np.arange(steps) % value.shape[axis], axis)
        made[spec.name] = value
    return made


def _steps(probe: Probe, right: Array, given: Array) -> Iterable[tuple[int, Array, Array]]:
    """(length or step, part of each) that are compared with each other."""
    if probe.axis is None:
        yield probe.steps, right, given
    elif right.ndim > probe.axis + 1 and right.shape[probe.axis] == probe.steps:
        for step in sorted({max(1, round(probe.steps * share)) for share in (0, 0.25, 0.5, 0.75, 1)}):
            yield step, right.take(step - 1, probe.axis), given.take(step - 1, probe.axis)


def _largest(values: Array) -> float:
    return float(np.abs(values.astype(np.float64)).max(initial=0.0))
