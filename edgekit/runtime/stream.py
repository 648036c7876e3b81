"""Files of one step: a :class:`Stream` keeps the state between steps and makes a sequence of them.

with edgekit.load("lstm-step.tflite") as runner:
    stream = runner.stream()
    for frame in microphone:
        outputs = stream.step({"audio": frame})
    late = stream.finish()  # of a network that looks ahead: what the last frames were waited for
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import FeedError, ModelError
from edgekit.runtime.feeds import FeedPlan
from edgekit.types import TIME, Array, Card, Feed, Signature, Streaming, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.base import Runner


class Stream:
    """A file of one step, run over a sequence: the state is kept here, and begins at zero.

    Args:
        runner: of a file that was exported with ``--streaming``; it stays open and belongs to the caller.

    Attributes:
        signature: inputs and outputs of a whole sequence, without the states; the dimension ``time`` is free.
        frames: of a sequence that one step takes.
        delay: steps that the outputs lie behind: those of the first ``delay`` steps mean nothing, those of the last
            frames come from :meth:`finish`.

    Raises:
        ModelError: the file has no card that says how its steps make a sequence.
    """

    def __init__(self, runner: Runner) -> None:
        how = streaming_of(runner.artifact.card)
        if how is None:
            raise ModelError(
                f"{runner.artifact.path} is not a file of one step; export the network with --streaming, or give whole "
                "sequences to run()"
            )
        self.runner = runner
        self.name = runner.name
        self.signature = how.sequence
        self.frames, self.delay = how.frames, how.delay
        self._ended, self._skipped = how.ended, how.skipped
        self._states = dict(how.states)
        self._specs = {spec.name: spec for spec in runner.signature.inputs if spec.name in self._states}
        self._steps = tuple(spec for spec in runner.signature.inputs if spec.name not in self._states)
        self._accept = FeedPlan(how.sequence.inputs, runner.artifact.path.name).accept
        self._axes = {spec.name: spec.shape.index(TIME) for spec in how.sequence.inputs if TIME in spec.shape}
        self._timed = {spec.name: spec.shape.index(TIME) for spec in how.sequence.outputs if TIME in spec.shape}
        self._now: dict[str, Array] = {}
        self._last: Feed = {}

    def reset(self) -> None:
        """The next step is the first one of a sequence: the state goes back to zero."""
        self._now = {}

    def step(self, feed: Feed) -> dict[str, Array]:
        """One step: its inputs by name -> the outputs after it, by name, states left out.

        Raises:
            FeedError: the feed does not fit one step.
            DeviceError: the runtime failed; the state is what it was before.
        """
        if not self._now:
            self._now = self._zeros(feed)
        outputs = self.runner.run({**feed, **self._now})
        self._now = {name: outputs.pop(after) for name, after in self._states.items()}
        self._last = feed
        return outputs

    def finish(self) -> list[dict[str, Array]]:
        """The sequence ends here: the outputs of :attr:`delay` more steps; the next step is the first one of another.

        Raises:
            DeviceError: the runtime failed.
        """
        rows = []
        for _ in range(self.delay if self._now else 0):
            self._now[self._ended] = np.ones_like(self._now[self._ended])
            rows.append(self.step(self._last))
        self.reset()
        return rows

    def run(self, feed: Feed) -> dict[str, Array]:
        """A whole sequence, step by step from zeros: outputs of every step along their ``time``, those without it as
        they are after the last step.

        Raises:
            FeedError: the feed does not fit :attr:`signature`, or is not a whole number of steps.
            DeviceError: the runtime failed.
        """
        self.reset()
        results = [self.step(part) for part in self._parts(feed)]
        results += self.finish()
        return self.joined(results)

    def joined(self, results: Sequence[Feed]) -> dict[str, Array]:
        """The outputs of every step of a sequence and of :meth:`finish`, as those of the sequence."""
        made = dict(results[-1])
        for name, axis in self._timed.items():
            rows = np.concatenate([row[name] for row in results], axis)
            made[name] = rows.take(range(self._skipped.get(name, 0), rows.shape[axis]), axis)
        return made

    def step_feeds(self, feed: Feed) -> Iterator[dict[str, Array]]:
        """What the file is given at each step of a sequence, states included; the steps are run on the way.

        Raises:
            FeedError, DeviceError: as :meth:`run`.
        """
        self.reset()
        for part in self._parts(feed):
            yield {**part, **(self._now or self._zeros(part))}
            self.step(part)
        for _ in range(self.delay):
            self._now[self._ended] = np.ones_like(self._now[self._ended])
            yield {**self._last, **self._now}
            self.step(self._last)

    def _parts(self, feed: Feed) -> Iterator[dict[str, Array]]:
        """The steps of a sequence, states left out."""
        arrays = dict(zip([spec.name for spec in self.signature.inputs], self._accept(feed), strict=True))
        name, axis = next(iter(self._axes.items()))
        length, frames = arrays[name].shape[axis], self.frames
        if length % frames or not length:
            raise FeedError(
                f"{self.name}: {length} frames of {name!r} are not a whole number of steps of {frames}; "
                f"give {max(length // frames, 1) * frames} or {(length // frames + 1) * frames}"
            )
        for t in range(0, length, frames):
            yield {
                key: array.take(range(t, t + frames), self._axes[key]) if key in self._axes else array
                for key, array in arrays.items()
            }

    def _zeros(self, feed: Feed) -> dict[str, Array]:
        """States of zeros; named dimensions have the sizes that the feed shows."""
        dims = _sizes(self._steps, feed)
        return {name: np.zeros(spec.resolved(dims), spec.dtype) for name, spec in self._specs.items()}


def sequences(runner: Runner) -> Runner | Stream:
    """What runs whole sequences: a :class:`Stream` for a file of one step, else the runner itself."""
    return runner if streaming_of(runner.artifact.card) is None else Stream(runner)


def streaming_of(card: Card | None) -> Streaming | None:
    """How the model of a card is run step by step; None if it is not."""
    return None if card is None else card.streaming


def streaming_notes(card: Card | None) -> tuple[str, ...]:
    """What is to be known beside the states: how many frames a step takes, and how late its outputs are."""
    how = streaming_of(card)
    said = []
    if how is not None and how.frames > 1:
        said.append(f"one run takes {how.frames} frames, as many as the strides of the network skip")
    if how is not None and how.delay:
        runs, first = ("run", "the first") if how.delay == 1 else ("runs", f"the first {how.delay}")
        said.append(
            f"the outputs lie {how.delay} {runs} behind the inputs, since the network looks ahead: leave out those of "
            f"{first}, and after the last frames of a sequence make {how.delay} more {runs} with the state "
            f"{how.ended!r} set to 1"
        )
    if how is not None and not how.delay and how.skipped:
        lost = ", ".join(f"{count} frames of {name!r}" for name, count in how.skipped.items())
        said.append(f"the first {lost} come before the first one of the sequence, which loses them; leave them out")
    return tuple(said)


def from_zeros(feed: Feed, card: Card | None) -> Feed:
    """``feed`` with states of zeros where the card names states."""
    how = streaming_of(card)
    if how is None:
        return feed
    return {name: np.zeros_like(array) if name in how.states else array for name, array in feed.items()}


def sequence_signature(signature: Signature, card: Card | None) -> Signature:
    """The signature by which whole sequences are given: the card's for a file of one step, else ``signature``."""
    how = streaming_of(card)
    return signature if how is None else how.sequence


def _sizes(specs: tuple[TensorSpec, ...], feed: Feed) -> dict[str, int]:
    return {
        dim: int(size)
        for spec in specs
        if spec.name in feed
        for dim, size in zip(spec.shape, feed[spec.name].shape, strict=False)
        if isinstance(dim, str)
    }
