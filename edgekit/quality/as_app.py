"""A compressed file as an app runs it: call after call in the bare runtime, nothing reset in between.

It runs in a worker, on real samples, on zeros and on the ends of the range, one sample a call. What kills the worker,
fails, or gives NaN or infinity where the parent does not, is refused; so is an answer that depends on the calls before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edgekit.devices import open_runner
from edgekit.errors import DeviceError, QualityError, WorkerCrashError
from edgekit.quality.cases import cases
from edgekit.quality.fidelity import Fidelity, FidelityMeter
from edgekit.quality.state import is_recurrent
from edgekit.runtime.base import Runner
from edgekit.types import Array, Artifact, Closing, Feed, Format, InputSpec, Signature

KEPT = 8
"""Calls that are kept for what is looked at besides."""
INVENTED = ("random", "zeros", "lowest", "highest")
"""Kinds of :func:`edgekit.quality.cases.cases` that are run beside the samples."""
_WHAT = "the compressed file"
_ADVICE = "Nothing was published. Keep the operator in float with --keep-float, or take --scheme int8-weights"


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turns the failure of a file that was just made into a refusal: a runtime that fails on it, a worker that dies.

    Raises:
        QualityError: in place of these.
    """
    try:
        yield
    except DeviceError as error:
        if type(error) not in (DeviceError, WorkerCrashError):
            raise  # the device is gone, or lacks memory, time or a package: that says nothing of the file
        raise QualityError(f"{what} does not run: {error}. {_ADVICE}") from error


@dataclass(frozen=True)
class Call:
    """One call on a sample: what went in, what the parent gave, what the file gave."""

    feed: Feed
    wanted: Mapping[str, Array]
    found: Mapping[str, Array]


@dataclass(frozen=True)
class AppRun:
    """What the calls showed; the first :data:`KEPT` of them as they were."""

    fidelity: Fidelity
    calls: tuple[Call, ...]


class NotFiniteError(QualityError):
    """The file gives NaN or infinity where its parent does not; ``feed`` is what it was called with."""

    def __init__(self, message: str, feed: Feed) -> None:
        super().__init__(message)
        self.feed = feed


def run_as_app(
    parent: Artifact, made: Artifact, feeds: Iterable[Feed], contract: Mapping[str, InputSpec], data: str
) -> AppRun:
    """Runs ``made`` as an app does, and says how near its outputs are to those of its parent.

    A parent that keeps state between calls (a recurrent TFLite file whose state the caller resets) is reset before
    every call, and so is the file made from it, or one that keeps its state because it was asked to: its card says it.

    Args:
        feeds: samples, one or more; the first is run twice, with all else between.
        contract: input name -> what raw samples become, for the invented inputs.
        data: what the samples are, in words.

    Raises:
        QualityError: a call fails, gives NaN or infinity, or another answer than the same call before.
    """
    waiting = iter(feeds)
    first = next(waiting)
    asked = made.card is not None and made.card.stateful is True
    resets = asked or keeps_state(parent, first)
    meter, calls = FidelityMeter(channels_last=parent.format is Format.TFLITE), []
    with _Parent(parent) as reference, _opened(made, stateful=not resets) as candidate:

        def call(feed: Feed) -> dict[str, Array]:
            with refusing(_WHAT):
                return candidate.run(feed)

        def compared(feed: Feed) -> Call:
            done = Call(feed, reference.run(feed), call(feed))
            meter.add(*finite_where(done, "a sample"))
            return done

        calls.append(compared(first))
        for kind, feed in _invented(candidate.signature, contract, first):
            wanted = reference.attempt(feed)
            if wanted is not None:
                finite_where(Call(feed, wanted, call(feed)), kind)
        _require_same(calls[0], call(first))
        for feed in waiting:
            done = compared(feed)
            calls += [done] if len(calls) < KEPT else []
    return AppRun(meter.result(data), tuple(calls))


def keeps_state(artifact: Artifact, feed: Feed) -> bool:
    """Whether a file answers otherwise when it is called again with nothing reset in between."""
    if artifact.format is not Format.TFLITE or not is_recurrent(artifact):
        return False
    with open_runner(artifact.path, stateful=True) as runner:
        first, second = runner.run(feed), runner.run(feed)
    return any(not np.array_equal(value, second[name], equal_nan=True) for name, value in first.items())


def finite_where(call: Call, kind: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """What both sides gave, with zeros where the parent has NaN or infinity, as a mask gives them.

    Raises:
        NotFiniteError: the file has NaN or infinity where its parent has none.
    """
    wanted, found = {}, {}
    for name, value in call.wanted.items():
        other, there = call.found[name], np.isfinite(value)
        same = other.shape == value.shape
        if not np.isfinite(other[there] if same else other).all():
            raise NotFiniteError(
                f"{_WHAT} gives NaN or infinity in output {name!r} on {kind}, where its parent does not. {_ADVICE}",
                call.feed,
            )
        whole = bool(there.all())
        wanted[name] = value if whole else np.where(there, value, 0)
        found[name] = other if whole or not same else np.where(there, other, 0)
    return wanted, found


def _require_same(first: Call, again: Mapping[str, Array]) -> None:
    for name, value in first.found.items():
        other = again[name]
        if not np.array_equal(value, other, equal_nan=True):
            gap = float(np.nanmax(np.abs(value.astype(np.float64) - other))) if value.shape == other.shape else np.inf
            raise QualityError(
                f"{_WHAT} answers {name!r} otherwise when it is called again on the same input (by {gap:.3g}): it "
                "keeps state between calls, its parent does not. Nothing was published; take --scheme int8-weights"
            )


def _opened(made: Artifact, *, stateful: bool) -> Runner:
    with refusing(_WHAT):
        return open_runner(made.path, stateful=stateful)


def _invented(signature: Signature, contract: Mapping[str, InputSpec], first: Feed) -> Iterator[tuple[str, Feed]]:
    for case in cases(signature, contract, examples=first):
        if case.kind in INVENTED:
            yield f"the case {case.kind!r}", case.feed


class _Parent(Closing):
    """The parent in a worker of its own, opened again where an invented input killed it."""

    def __init__(self, artifact: Artifact) -> None:
        self._open: Callable[[], Runner] = lambda: open_runner(artifact.path)
        self._runner = self._open()

    def run(self, feed: Feed) -> dict[str, Array]:
        return self._runner.run(feed)

    def attempt(self, feed: Feed) -> dict[str, Array] | None:
        """Its outputs; None where it does not take such an input itself."""
        try:
            return self._runner.run(feed)
        except DeviceError as error:
            if type(error) not in (DeviceError, WorkerCrashError):
                raise
            self._runner.close()
            self._runner = self._open()
            return None

    def close(self) -> None:
        """Ends the worker."""
        self._runner.close()
