"""A network of sequences, run on one step: what its layers look back at is kept in states.

Every tensor has its place in time: of a step's frames there, the newest may lie some frames behind that of the input
(``delay``), since a layer that looks ahead has to wait. A convolution without zeros at its front keeps the frames it
looks back at; where tensors of different delays meet, the earlier one waits in a ring buffer. Frames before the first
one of the sequence, and those after its end, are zero wherever the network pads with zeros: a row of flags, which is a
state as well, says which they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from edgekit.converters.base import cause
from edgekit.converters.streaming.carry import CELLS, LAYERS, layer_names
from edgekit.converters.streaming.trace import Follow, Level, Line, tensors_of, title
from edgekit.converters.streaming.windows import (
    JOIN,
    PAD,
    SLICE,
    SLIDING,
    CannotStreamError,
    Window,
    along,
    padding_of,
    window_of,
)

STARTED, ENDED = "stream.valid", "stream.ended"
"""States: which of the last steps belong to the sequence; and whether it has ended, which the caller sets to 1."""


@dataclass(frozen=True)
class Timed:
    """A tensor's place in time: its level, and by how many of its frames it lies behind; of what has no axis, steps."""

    level: Level
    delay: int

    @property
    def steps(self) -> int:
        """Steps after the end of the sequence until its last frame is there."""
        return -((self.level.lost - self.delay) // self.level.rate)


@dataclass(frozen=True)
class Plan:
    """How a network is taken step by step.

    Attributes:
        lines: its calls on a short sequence, and on a longer one.
        levels: of each call the levels of what it gives.
        inputs: the level of each input; None where it is the same for every step.
        reach: steps that :data:`STARTED` looks back; as many as there are needed in a plan that is to be used.
        ends: the sequence may end, which :data:`ENDED` says: some layer pads behind its end.
    """

    lines: tuple[tuple[Line, ...], tuple[Line, ...]]
    levels: tuple[tuple[Level, ...], ...]
    inputs: tuple[Level | None, ...]
    reach: int
    ends: bool


class Stepping(Follow):
    """While it is active, ``module`` takes one step. Without ``states`` they are zeros, and :attr:`states` is what they
    were.

    Attributes:
        states: name -> shape and type of each state, in order.
        following: the values of the states for the next step, in that order.
        reach: steps back that were asked for.
        kept: of each call what it gave, and where that stands; only where ``keep``.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor] | None,
        keep: bool = False,
    ) -> None:
        timed = [(x, level) for x, level in zip(inputs, plan.inputs, strict=True) if level is not None]
        super().__init__([x for x, _ in timed])
        self._plan, self._given = plan, None if states is None else iter(states)
        self._names = layer_names(module)
        self._timed = {id(x): Timed(level, 0) for x, level in timed}
        self._waiting: dict[tuple[int, int], Tensor] = {}
        self.states: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        self.following: list[Tensor] = []
        self.reach = 0
        self._seen: dict[tuple[int, int], Tensor] = {}
        self._keep = keep
        self.kept: list[list[tuple[Timed, Tensor]]] = []
        self._flags = self._register()

    def outputs(self, results: Sequence[Tensor]) -> tuple[list[Tensor], int, list[int]]:
        """What the network gave, all with the same delay in steps; that delay; and of each how many frames of its first
        steps are none of the sequence's. Called once, when it is not active any more."""
        timed = [self._timed.get(id(x)) for x in results]
        delay = max((one.steps for one in timed if one is not None), default=0)
        aligned, skipped = [], []
        for x, one in zip(results, timed, strict=True):
            wait = 0 if one is None else delay * one.level.rate + one.level.lost
            aligned.append(x if one is None else self._delayed(x, one, wait))
            skipped.append(0 if one is None or one.level.axis is None else wait)
        return aligned, delay, skipped

    def axes(self, results: Sequence[Tensor]) -> list[int | None]:
        """The axis of time of each of them."""
        places = [self._timed.get(id(x)) for x in results]
        return [None if place is None else place.level.axis for place in places]

    def called(self, index: int, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        lines = self._plan.lines[0]
        if index >= len(lines) or title(lines[index].function) != title(func):
            result = func(*args, **kwargs)
            if tensors_of(result):
                raise CannotStreamError(
                    f"the network takes another path for a single step, where it calls {title(func)}()"
                )
            return result
        try:
            result, places = self._run(index, func, args, kwargs)
        except CannotStreamError as error:
            raise CannotStreamError(f"{lines[index].where} {error}") from None
        except Exception as error:
            raise CannotStreamError(f"{lines[index].where} does not take a single step: {cause(error)}") from error
        made = tensors_of(result)
        for tensor, place in zip(made, places, strict=True):
            axis, rate = place.level.axis, place.level.rate
            if axis is not None and (tensor.ndim <= axis or tensor.shape[axis] != rate):
                raise CannotStreamError(
                    f"{lines[index].where} gives the shape {tuple(tensor.shape)} for a step, where {rate} frames "
                    f"on axis {axis} were expected"
                )
            self._timed[id(tensor)] = place
        if self._keep:
            self.kept.append(list(zip(places, made, strict=True)))
        return result

    def _run(
        self, index: int, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, list[Timed]]:
        line, levels = self._plan.lines[0][index], self._plan.levels[index]
        x: Any = args[0] if args else kwargs.get("input")
        place = self._timed.get(id(x))
        if func in CELLS:
            raise CannotStreamError("is a cell, called in a loop over the steps; beside convolutions use the layer")
        if func in LAYERS:
            return self._layer(line, levels, func, args)
        if place is not None and place.level.axis is not None:
            if func in SLIDING:
                window = window_of(func, args, kwargs, place.level.axis)
                if window is not None:
                    return self._slide(line, levels, x, place, window)
            if func is PAD:
                before, after, rest = padding_of(args, kwargs, place.level.axis)
                if before or after:
                    x = self._padded(x, place, before, after)
                    return functional_pad(x, rest), [Timed(levels[0], place.delay - before)]
            if func is SLICE:
                return self._slice(index, func, args, place)
        if func in JOIN:
            joined = self._join(levels, args, kwargs)
            if joined is not None:
                return joined
        return self._step_by_step(levels, func, args, kwargs)

    def _step_by_step(
        self, levels: Sequence[Level], func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, list[Timed]]:
        """A function that does not look from one step to another: its tensors wait for the latest of them."""
        seen = {id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if id(leaf) in self._timed}
        places = {key: self._timed[key] for key in seen}
        common = self._common(list(places.values()), levels)
        now = {key: self._delayed(x, places[key], int(common * places[key].level.rate)) for key, x in seen.items()}
        args, kwargs = tree_map(lambda leaf: now.get(id(leaf), leaf), (list(args), dict(kwargs)))
        result = func(*args, **kwargs)
        lost = max(Fraction(one.level.lost, one.level.rate) for one in places.values())
        return result, [
            Timed(level, round((common - (lost if level.axis is None else 0)) * level.rate)) for level in levels
        ]

    def _common(self, places: Sequence[Timed], levels: Sequence[Level]) -> Fraction:
        """The smallest delay, in steps, that all of them can have together, and what is made of them as well."""
        whole = any(level.axis is None for level in levels)
        rates = {one.level.rate for one in places} | {level.rate for level in levels}
        grain = min(rates) if len(rates) > 1 else next(iter(rates))
        if any(rate % grain for rate in rates):
            grain = 1
        most = max(Fraction(one.delay, one.level.rate) for one in places)
        if whole and any(one.level.axis is not None for one in places):
            lost = max(Fraction(one.level.lost, one.level.rate) for one in places)
            return lost + -((lost - most) // 1)
        return Fraction(-((-most * grain) // 1), grain)

    def _slide(
        self, line: Line, levels: Sequence[Level], x: Tensor, place: Timed, window: Window
    ) -> tuple[Any, list[Timed]]:
        axis, rate, stride = place.level.axis, place.level.rate, window.stride
        assert axis is not None
        if rate % stride:
            raise CannotStreamError(f"strides by {stride} over {rate} frames a step")
        x = self._padded(x, place, window.before, window.after)
        ahead = window.extent - 1 - window.before
        delay = max(-((stride - 1 - ahead - place.delay) // stride), 0)
        back = delay * stride + window.before - place.delay
        frames = rate - stride + window.extent
        if back < 0:
            x = x.narrow(axis, -back, rate + back)
        elif back > 0:
            x = self._remembered(f"{line.name}.past", x, axis, back)
        result = window.call(x if x.shape[axis] == frames else x.narrow(axis, 0, frames))
        return result, [Timed(level, delay) for level in levels]

    def _slice(
        self, index: int, func: Callable[..., Any], args: Sequence[Any], place: Timed
    ) -> tuple[Any, list[Timed]]:
        """A part of the sequence, or its last frame."""
        x, level, axis = args[0], self._plan.levels[index][0], place.level.axis
        assert axis is not None
        found = along(args[1], x.ndim, axis)
        whole = slice(None)
        if found is None or found[1] == whole:
            return self._step_by_step([level], func, args, {})
        items = []
        for line in (lines[index] for lines in self._plan.lines):
            again = along(line.args[1], x.ndim, axis)
            assert again is not None
            size = line.args[0][axis]
            item = again[1]
            items.append(item.indices(size) if isinstance(item, slice) else (item % size, item % size + 1, 1))
            last = items[-1][:2] == (size - 1, size)
            if level.axis is None and not last:
                raise CannotStreamError("takes frames of the sequence other than its last one")
        at = found[0]
        if level.axis is None:
            part: Any = -1 if isinstance(found[1], int) else slice(-1, None)
            return self._step_by_step([level], func, (x, _with(args[1], at, part)), {})
        (start, _, stride), (other, _, _) = items
        if start != other or stride < 1:
            raise CannotStreamError("takes a part of the sequence that depends on its length")
        place = Timed(place.level, place.delay + start)
        window = Window(1, stride, 0, 0, lambda y: func(y, _with(args[1], at, slice(None, None, stride))))
        if stride == 1:
            return func(x, _with(args[1], at, whole)), [Timed(level, place.delay)]
        return self._slide(self._plan.lines[0][index], [level], x, place, window)

    def _join(
        self, levels: Sequence[Level], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, list[Timed]] | None:
        """Zeros before and after the sequence; None where nothing is joined along time."""
        parts = list(args[0] if args else kwargs["tensors"])
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        places = [self._timed.get(id(part)) for part in parts]
        timed = [k for k, one in enumerate(places) if one is not None and one.level.axis == int(dim) % parts[k].ndim]
        if not timed:
            return None
        k = timed[0]
        place, others = places[k], [part for n, part in enumerate(parts) if n != k]
        assert place is not None
        if len(timed) > 1 or (self._given is None and any(bool(part.any()) for part in others)):
            raise CannotStreamError("joins the sequence with others along time; only zeros can stand before it")
        before, after = (sum(part.shape[dim] for part in some) for some in (parts[:k], parts[k + 1 :]))
        x = self._padded(parts[k], place, before, after)
        return functional_pad(x, []), [Timed(levels[0], place.delay - before)]

    def _layer(
        self, line: Line, levels: Sequence[Level], func: Callable[..., Any], args: Sequence[Any]
    ) -> tuple[Any, list[Timed]]:
        """A recurrent layer: it begins where it ended, and forgets what came before the first frame."""
        x, given, place = args[0], args[1], self._timed.get(id(args[0]))
        pair = isinstance(given, list | tuple)
        if place is None or place.level.axis != (1 if args[8] and x.ndim == 3 else 0):
            raise CannotStreamError("does not read the sequence along time")
        rate = place.level.rate
        if place.level.lost % rate:
            raise CannotStreamError(
                f"reads {rate} frames a step, and the layers before it lose {place.level.lost} of them"
            )
        lag = -(-place.delay // rate)
        x = self._delayed(x, place, lag * rate)
        name = self._names.get(id(args[2][0])) or line.name
        states = [
            self._state(f"{name}.{part}", value.shape, value.dtype)
            for part, value in zip("hc", given if pair else [given], strict=False)
        ]
        result = func(x, tuple(states) if pair else states[0], *args[2:])
        for end in result[1:]:
            self.following.append(end * self._flag(lag).reshape((1,) * end.ndim) if lag > 0 else end)
        lost = place.level.lost // rate
        return result, [Timed(level, lag * rate if level.axis is not None else lag - lost) for level in levels]

    def _padded(self, x: Tensor, place: Timed, before: int, after: int) -> Tensor:
        """``x`` with zeros where the sequence has not begun or has ended, as far as a layer that pads can see those."""
        early, late = before > 0 and place.delay > 0, after > 0 and self._plan.ends
        level = place.level
        if not early and not late:
            return x
        if self._plan.ends and level.lost < 0:
            raise CannotStreamError("pads a sequence that was made longer before; cut what is too long first")
        flags = [self._of_frame(frame, place, late) for frame in range(level.rate)]
        same = len({id(flag) for flag in flags}) == 1
        row = flags[0] if same else torch.cat(flags, 1)
        shape = [row.shape[1] if k == level.axis else 1 for k in range(x.ndim)]
        return x * row.reshape(shape).to(x.dtype)

    def _of_frame(self, frame: int, place: Timed, late: bool) -> Tensor:
        """Whether a frame of this step belongs to the sequence; where ``late``, also whether that has not ended yet."""
        back, rate = -((frame - place.delay) // place.level.rate), place.level.rate
        behind = -((frame - place.delay + place.level.lost) // rate) if late else back
        key = max(back, 0), max(behind, 0)
        if key not in self._seen:
            began, lasts = (self._flag(steps) for steps in key)
            self._seen[key] = began if key[0] == key[1] else began * lasts
        return self._seen[key]

    def _flag(self, back: int) -> Tensor:
        """Whether the step that many steps ago belongs to the sequence: (1, 1)."""
        back = max(back, 0)
        self.reach = max(self.reach, back)
        return self._flags.narrow(1, self._plan.reach - back, 1)

    def _register(self) -> Tensor:
        """Flags of the last steps, oldest first, and of this one: (1, reach + 1)."""
        now = torch.ones(1, 1)
        if self._plan.ends:
            ended = self._state(ENDED, (1, 1), torch.float32)
            self.following.append(ended.clone())
            now = 1 - ended
        if not self._plan.reach:
            return now
        past = self._state(STARTED, (1, self._plan.reach), torch.float32)
        flags = torch.cat((past, now), 1)
        self.following.append(flags.narrow(1, 1, self._plan.reach))
        return flags

    def _delayed(self, x: Tensor, place: Timed, delay: int) -> Tensor:
        """``x`` as it was some frames ago."""
        wait = delay - place.delay
        if wait <= 0:
            return x
        if (id(x), delay) not in self._waiting:
            name = f"stream.wait_{len(self._waiting) + 1}"
            if place.level.axis is None:
                rows = self._remembered(name, x.reshape(1, -1), 0, wait)
                self._waiting[id(x), delay] = rows.narrow(0, 0, 1).reshape(x.shape)
            else:
                row = self._remembered(name, x, place.level.axis, wait)
                self._waiting[id(x), delay] = row.narrow(place.level.axis, 0, place.level.rate)
            self._known[id(x)] = x
        return self._waiting[id(x), delay]

    def _remembered(self, name: str, x: Tensor, axis: int, frames: int) -> Tensor:
        """``x`` with so many frames of the steps before in front."""
        shape = [frames if k == axis else size for k, size in enumerate(x.shape)]
        row = torch.cat((self._state(name, shape, x.dtype), x), axis)
        self.following.append(row.narrow(axis, x.shape[axis], frames))
        return row

    def _state(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        if self._given is not None:
            return next(self._given)
        unique, count = name, 1
        while unique in self.states:
            count += 1
            unique = f"{name}_{count}"
        self.states[unique] = tuple(shape), dtype
        return torch.zeros(tuple(shape), dtype=dtype)


class Step(nn.Module):
    """``module`` for one step: (inputs, states) -> (outputs, next states)."""

    is_adapter = True

    def __init__(self, module: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.module, self._plan = module, plan

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(self._plan.inputs)
        mode = Stepping(self.module, self._plan, tensors[:count], tensors[count:])
        with mode:
            result = self.module(*tensors[:count])
        outputs, _, _ = mode.outputs(flat(result))
        return (*outputs, *mode.following)


def flat(result: Any) -> list[Tensor]:
    """The outputs of a network: one tensor, a tuple of them, or those of a dict."""
    return list(_leaves(result))


def _leaves(result: Any) -> Iterator[Tensor]:
    yield from ([result] if isinstance(result, Tensor) else result)


def functional_pad(x: Tensor, rest: Sequence[int]) -> Tensor:
    """``x`` padded on its other axes; a tensor of its own in any case."""
    return PAD(x, list(rest)) if any(rest) else x.view(x.shape)


def _with(index: Any, place: int, item: Any) -> tuple[Any, ...]:
    items = list(index if isinstance(index, tuple) else (index,))
    items[place] = item
    return tuple(items)
