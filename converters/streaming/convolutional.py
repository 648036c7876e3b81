"""Networks with convolutions over time, taken step by step: the plan, and its proof by numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.converters.base import cause
from edgekit.converters.streaming.carry import CELLS, LAYERS
from edgekit.converters.streaming.steps import ENDED, Plan, Step, Stepping, Timed, flat
from edgekit.converters.streaming.trace import Level, Line, differing, level_of, stride_of, title, trace
from edgekit.converters.streaming.windows import SLIDING, CannotStreamError
from edgekit.data.seeded import seeded_feed
from edgekit.types import Array, Feed, Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgekit.errors import UnsupportedError

TOLERANCE = 1e-4
"""Of a tensor's scale: torch sums a convolution of many frames and one of a single frame in different orders (6e-8 a
sum, through tens of layers); a layer that mixes frames shows at 1e-2 and more."""
STEPS = 40
"""Steps that are compared, beside the shortest sequences that the network takes."""
REACH = 100_000
"""Steps that a network may look ahead, while it is not known how many it does."""
LEAST = 64
"""Frames at least of the sequences by which strides are found."""


@dataclass(frozen=True)
class Stepwise:
    """A network of one step, and how its steps make a sequence.

    Attributes:
        module: (inputs, states) -> (outputs, next states).
        frames: of each input in a step.
        delay: steps that the outputs lie behind.
        skipped: of each output, frames of its first steps that are none of the sequence's.
        axes: of time, of the outputs that have one.
        states: name -> zeros, in order.
        examples: inputs of one step.
    """

    module: nn.Module
    frames: int
    delay: int
    skipped: Sequence[int]
    axes: Sequence[int | None]
    states: Mapping[str, Array]
    examples: Mapping[str, Array]


class Convolutional:
    """A network, tried on sequences of several lengths along ``axes``."""

    def __init__(self, network: Network, axes: Mapping[str, int], refused: Callable[[str], UnsupportedError]) -> None:
        self.network, self.axes, self.refused = network, axes, refused
        self._timed = [spec.name in axes for spec in network.signature.inputs]

    def feed(self, length: int, seed: int = 0) -> dict[str, Array]:
        """Inputs with so many frames: random numbers, integers as in the example, again and again."""
        return feed_of(self.network, self.axes, length, seed)

    def traced(self, length: int, values: bool = False) -> list[Line]:
        return trace(self.network.module, tensors(self.feed(length)), self._timed, values)

    def made(self) -> Stepwise:
        """Raises UnsupportedError: the network cannot be taken step by step; the message has the reason."""
        frames, plan = self._planned()
        module = Step(self.network.module, plan).eval()
        mode, results = self._once(plan, frames)
        _, delay, skipped = mode.outputs(results)
        axes = mode.axes(results)
        states = {name: torch.zeros(shape, dtype=kind).numpy() for name, (shape, kind) in mode.states.items()}
        made = Stepwise(module, frames, delay, skipped, axes, states, self.feed(frames))
        self._check(made, plan)
        return made

    def _planned(self) -> tuple[int, Plan]:
        """Frames of one step, and the plan: first as if the sequence could end anywhere, then with what is needed."""
        example = next(self.network.example_inputs[name].shape[axis] for name, axis in self.axes.items())
        length = example * max(1, -(-LEAST // example))
        short, long = self._pair(length, 2 * length)
        frames = stride_of(short, long, length)
        if frames is None:
            raise self.refused("its strides make too many frames a step")
        steps = -(-example // frames)
        short, long = self._pair(steps * frames, 2 * steps * frames)
        levels = tuple(self._levels(a, b, (steps, 2 * steps)) for a, b in zip(short, long, strict=True))
        inputs = tuple(Level(self.axes[s.name], frames) if s.name in self.axes else None
                       for s in self.network.signature.inputs)  # fmt: skip
        plan = Plan((tuple(short), tuple(long)), levels, inputs, reach=REACH, ends=True)
        mode, results = self._once(plan, frames)
        _, delay, _ = mode.outputs(results)
        if not delay:  # no layer has to wait for what comes behind the end
            plan = replace(plan, ends=False)
            mode, results = self._once(plan, frames)
            mode.outputs(results)
        return frames, replace(plan, reach=mode.reach)

    def _pair(self, short: int, long: int) -> tuple[list[Line], list[Line]]:
        """The calls on sequences of two lengths, which are the same calls."""
        try:
            pair = self.traced(short), self.traced(long)
        except Exception as error:
            raise self.refused(f"on sequences of {short} and {long} frames it raises {cause(error)}") from error
        if any(line.function in CELLS for line in pair[0]):
            raise self.refused(
                "beside convolutions, loops over the steps that call cells have to be layers (nn.LSTM, nn.GRU, nn.RNN)"
            )
        for a, b in zip(*pair, strict=False):
            if title(a.function) != title(b.function):
                raise self.refused(f"{a.where} is followed by {title(b.function)}() in a longer sequence only")
        if len(pair[0]) != len(pair[1]):
            raise self.refused("it makes more calls for a longer sequence, as a loop over the steps does")
        return pair

    def _levels(self, short: Line, long: Line, steps: tuple[int, int]) -> tuple[Level, ...]:
        found = []
        for a, b in zip(short.shapes, long.shapes, strict=True):
            level = level_of(a, b, steps)
            if level is None:
                grown = f"the shape {a} for {steps[0]} steps and {b} for {steps[1]}"
                raise self.refused(
                    f"{short.where} gives {grown}, which is not one row a step; leave out what compares all steps with "
                    "each other, such as attention, or limit it to a convolution"
                )
            found.append(level)
        return tuple(found)

    def _once(self, plan: Plan, frames: int) -> tuple[Stepping, list[Tensor]]:
        """The first step, from zeros."""
        inputs = tensors(self.feed(frames))
        mode = Stepping(self.network.module, plan, inputs, None)
        try:
            with torch.no_grad(), mode:
                return mode, flat(self.network.module(*inputs))
        except CannotStreamError as error:
            raise self.refused(str(error)) from error
        except Exception as error:
            raise self.refused(f"on a single step of {frames} frames it raises {cause(error)}") from error

    def _check(self, made: Stepwise, plan: Plan) -> None:
        """Steps taken one by one against the network on sequences of several lengths."""
        specs = self.network.signature.outputs
        compared = 0
        for steps in (1, 2, 3, STEPS):
            feed = self.feed(steps * made.frames, seed=steps)
            try:
                wanted = run(self.network.module, feed)
            except RuntimeError:
                if steps == STEPS:
                    raise
                continue  # shorter than what a layer of the network itself takes
            got = self._taken(made, feed, steps)
            compared += 1
            for spec, a, b in zip(specs, wanted, got, strict=True):
                scale = max(float(np.abs(a).max(initial=0.0)), 1.0)
                gap = float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf
                if not gap <= TOLERANCE * scale:
                    raise self.refused(
                        f"its output {spec.name!r} of {steps} steps differs by {gap:.3g} from that of the sequence "
                        f"as a whole, so something mixes the steps (a mean, a normalisation or attention over time)"
                        f"{self._suspect(made, plan)}"
                    )

    def _taken(self, made: Stepwise, feed: Feed, steps: int) -> list[Array]:
        """The outputs of a whole sequence, from single steps and those after its end."""
        now, rows = dict(made.states), []
        for part in self._parts(made, feed, steps):
            results = run(made.module, {**part, **now, **({ENDED: part[ENDED]} if ENDED in part else {})})
            now = dict(zip(now, results[len(results) - len(now) :], strict=True))
            rows.append(results)
        joined = []
        for k, (axis, skip) in enumerate(zip(made.axes, made.skipped, strict=True)):
            whole = rows[-1][k] if axis is None else np.concatenate([row[k] for row in rows], axis)
            joined.append(whole if axis is None else whole.take(range(skip, whole.shape[axis]), axis))
        return joined

    def _parts(self, made: Stepwise, feed: Feed, steps: int) -> Iterator[dict[str, Array]]:
        """Inputs of every step, and of those after the end, which :data:`ENDED` says."""
        for n in range(steps + made.delay):
            k = min(n, steps - 1) * made.frames
            frames = range(k, k + made.frames)
            part = {key: v.take(frames, self.axes[key]) if key in self.axes else v for key, v in feed.items()}
            yield {**part, **({ENDED: np.ones((1, 1), np.float32)} if n >= steps else {})}

    def _suspect(self, made: Stepwise, plan: Plan) -> str:
        """The first call whose results of single steps are not those of the sequence, in words."""
        feed = self.feed(STEPS * made.frames)
        whole = trace(self.network.module, tensors(feed), self._timed, values=True)
        now = {name: torch.from_numpy(value) for name, value in made.states.items()}
        seen: list[list[list[tuple[Timed, Tensor]]]] = []
        for part in self._parts(made, feed, STEPS):
            now |= {name: torch.from_numpy(part.pop(name)) for name in (ENDED,) if name in part}
            inputs = tensors(part)
            mode = Stepping(self.network.module, plan, inputs, list(now.values()), keep=True)
            with torch.no_grad(), mode:
                results = flat(self.network.module(*inputs))
            mode.outputs(results)
            now = dict(zip(now, mode.following, strict=True))
            seen.append(mode.kept)
        for index, line in enumerate(whole):
            for k, value in enumerate(line.values):
                place, rows = seen[0][index][k][0], [row[index][k][1] for row in seen]
                if not _same(value, rows, place):
                    return f"; first to differ is {line.where}, in {title(line.function)}()"
        return ""


def _same(value: Tensor, rows: Sequence[Tensor], place: Timed) -> bool:
    """Whether ``rows`` of single steps are those of a whole sequence; where they have not come yet, it is not asked."""
    axis, late = place.level.axis, max(place.delay, 0)
    if axis is None:
        got = rows[min(STEPS - 1 + late, len(rows) - 1)]
    else:
        joined = torch.cat(list(rows), axis)
        count = min(joined.shape[axis] - late, value.shape[axis])
        value = value.narrow(axis, value.shape[axis] - count if place.delay < 0 else 0, count)
        got = joined.narrow(axis, late, count)
    scale = max(float(value.abs().max()), 1.0) if value.numel() else 1.0
    return value.shape != got.shape or torch.allclose(value, got, rtol=0, atol=TOLERANCE * scale)


def windowed(lines: Sequence[Line]) -> bool:
    """Whether some call looks at several frames, other than recurrent layers."""
    return any(line.function in SLIDING for line in lines)


def reads_time(short: Sequence[Line], long: Sequence[Line]) -> bool | None:
    """Whether layers go along the axis by which two sequences differ: convolutions and pooling of one axis, recurrent
    layers. None where only layers of two axes do, which could be either; False where a layer goes another way."""
    sure = maybe = False
    for a, b in zip(short, long, strict=False):
        if a.function not in SLIDING and a.function not in LAYERS:
            continue
        before, after = (line.args[0] if line.args else line.kwargs["input"] for line in (a, b))
        axes = differing(before, after)
        if not axes:
            continue
        if a.function in LAYERS:
            if axes[0] != (1 if a.args[8] and len(before) == 3 else 0):
                return False
            sure = True
            continue
        count = SLIDING[a.function]
        if axes[0] < len(before) - count:
            if count == 1:
                return False
            continue
        sure, maybe = sure or count == 1, True
    return True if sure else None if maybe else False


def feed_of(network: Network, axes: Mapping[str, int], length: int, seed: int = 0) -> dict[str, Array]:
    """Inputs of ``network`` with ``length`` frames along ``axes``."""
    signature = network.signature
    longer = tuple(
        replace(spec, shape=tuple(length if k == axes.get(spec.name) else size for k, size in enumerate(spec.shape)))
        for spec in signature.inputs
    )
    seeded = seeded_feed(replace(signature, inputs=longer), network.card.contract, seed)
    made = {}
    for spec in longer:
        value = np.asarray(seeded[spec.name])
        if np.dtype(spec.dtype).kind != "f":  # they may be indices
            example = np.asarray(network.example_inputs[spec.name])
            axis = axes.get(spec.name)
            value = example if axis is None else example.take(np.arange(length) % example.shape[axis], axis)
        made[spec.name] = np.asarray(value, order="C")
    return made


def tensors(feed: Feed) -> list[Tensor]:
    """The arrays of a feed, in order."""
    return [torch.from_numpy(np.array(value, order="C")) for value in feed.values()]


def run(module: nn.Module, feed: Feed) -> list[Array]:
    """What ``module`` gives."""
    with torch.no_grad():
        return [value.numpy() for value in flat(module(*tensors(feed)))]
