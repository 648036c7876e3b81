"""The proof of a file of one step: its steps, one after the other, against the network on the sequence so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgekit.errors import DeviceError
from edgekit.quality.parity import Function
from edgekit.results.proof import CaseResult
from edgekit.runtime.stream import Stream
from edgekit.types import TIME, Array, Feed, Signature

KIND = "stream"
LONG = 40
"""Steps of one of the sequences: a state that drifts, or a ring buffer in another order, has shown by then."""
WHERE = "no layer, since single steps are right; the states are not what the next step starts from"
LIMIT = 1e-5
"""Largest difference, of an output's scale where that is above 1: what rounding (6e-8 a sum) makes of hundreds of steps
whose errors a recurrent layer carries on and forgets. A state that is lost or swapped shows at 1e-2 and more."""
PREFIXES = (1, 2, 3)
"""Sequences so far that are compared, besides the whole; of a network whose outputs are delayed, the whole alone."""


def stream_cases(
    stream: Stream, reference: Function, feeds: Iterable[Feed], tolerance: float | None = None
) -> tuple[CaseResult, ...]:
    """One line for each sequence of ``feeds``: every step of it, from zeros.

    Args:
        reference: the network of sequences: a feed of :attr:`Stream.signature` -> arrays by output name.
        tolerance: largest absolute difference that passes; None takes :data:`LIMIT`.
    """
    return tuple(_one(stream, reference, feed, tolerance) for feed in feeds)


def _one(stream: Stream, reference: Function, feed: Feed, tolerance: float | None) -> CaseResult:
    frames = stream.frames
    steps = length(feed, stream.signature) // frames
    types = {spec.name: spec.dtype for spec in stream.signature.inputs}
    narrow = {name: array.astype(types[name], copy=False) for name, array in feed.items()}
    worst, allowed, output, cosine = -1.0, LIMIT, "", 1.0
    stream.reset()
    rows = [stream.step(part(narrow, stream.signature, t * frames, (t + 1) * frames)) for t in range(steps)]
    late = stream.finish()
    for n in sorted({*(k for k in PREFIXES if k < steps and not stream.delay), steps}):
        begun = part(feed, stream.signature, 0, n * frames)
        if n < steps and not _answers(reference, begun):  # fewer frames than the network itself takes
            continue
        answers = stream.joined([*rows[:n], *(late if n == steps else ())])
        for name, wanted in reference(begun).items():
            got = answers[name]
            a, b = np.asarray(wanted, np.float64).ravel(), np.asarray(got, np.float64).ravel()
            limit = LIMIT * max(1.0, float(np.abs(a).max(initial=0.0))) if tolerance is None else tolerance
            gap = float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf
            gap = np.inf if np.isnan(gap) else gap
            if gap / max(limit, 1e-300) > worst / max(allowed, 1e-300) or worst < 0:
                worst, allowed, output = gap, limit, name
                cosine = _cosine(a, b)
    if worst <= allowed:
        return CaseResult(KIND, worst, allowed, cosine, output, True)
    reason = (
        f"output {output!r} of {steps} steps differs by {worst:.3g} from the whole sequence, {allowed:.3g} is allowed"
    )
    return CaseResult(KIND, worst if np.isfinite(worst) else None, allowed, None, output, False, reason)


def whole_steps(feed: Feed, stream: Stream, steps: int | None = None) -> dict[str, Array]:
    """``feed`` cut to a whole number of steps, or to ``steps``; repeated where it is shorter."""
    axes = {spec.name: spec.shape.index(TIME) for spec in stream.signature.inputs if TIME in spec.shape}
    size = length(feed, stream.signature)
    wanted = max(size // stream.frames, 1) if steps is None else steps
    rows = np.arange(wanted * stream.frames) % size
    return {name: array.take(rows, axes[name]) if name in axes else array for name, array in feed.items()}


def accepted(feeds: Iterable[Feed], reference: Function) -> list[Feed]:
    """Those of the feeds that the network takes: its layers may need more frames than a short one has."""
    return [feed for feed in feeds if _answers(reference, feed)]


def _answers(reference: Function, feed: Feed) -> bool:
    try:
        reference(feed)
    except DeviceError:
        return False
    return True


def length(feed: Feed, signature: Signature) -> int:
    """Steps of a sequence."""
    spec = next(spec for spec in signature.inputs if TIME in spec.shape)
    return int(feed[spec.name].shape[spec.shape.index(TIME)])


def part(feed: Feed, signature: Signature, begin: int, end: int) -> dict[str, Array]:
    """The steps from ``begin`` to ``end`` of a sequence; inputs without steps as they are."""
    axes: Mapping[str, int] = {spec.name: spec.shape.index(TIME) for spec in signature.inputs if TIME in spec.shape}
    return {
        name: np.asarray(array.take(range(begin, end), axes[name]), order="C") if name in axes else array
        for name, array in feed.items()
    }


def _cosine(a: Array, b: Array) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b)) if a.shape == b.shape else 0.0
    return float(a @ b) / norm if norm > 0 else 1.0
