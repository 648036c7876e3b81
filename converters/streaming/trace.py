"""What a network computes from its sequences, call by call: which axis of each tensor is time, and its frames there.

A network is run on sequences of two lengths. What differs between the shapes of the same tensor is its axis of time; by
how much, how many frames a step of the whole network has there (a stride divides them), and how many of the sequence
are lost at its ends (a convolution without padding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from edgekit.converters.base import own_prefix

MOST_FRAMES = 4096
"""Frames of one step, which is the product of all strides: those of networks on raw audio are some hundreds."""


@dataclass(frozen=True)
class Level:
    """Where a tensor stands in time.

    Attributes:
        axis: of time; None of what is given once for the whole sequence.
        rate: frames that one step has there.
        lost: frames fewer than ``rate`` times the steps of the sequence; negative where there are more.
    """

    axis: int | None
    rate: int = 1
    lost: int = 0


@dataclass(frozen=True)
class Line:
    """One call on tensors that come of the sequences.

    Attributes:
        function: of torch.
        where: the innermost module that made the call, for people: ``'front.conv' (Conv1d)``.
        name: that module's name, or the function's where the network itself calls it.
        args: of the call, tensors as their shapes.
        shapes: of the tensors it gave, in order.
        values: those tensors, where they were kept.
    """

    function: Callable[..., Any]
    where: str
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    values: tuple[Tensor, ...] = ()


class Follow(TorchFunctionMode):
    """While it is active, every call on a tensor that comes of ``inputs`` goes through :meth:`called`, counted."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._known = {id(tensor): tensor for tensor in inputs}  # holds them, so that an id stays its own
        self._count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_question(func) or not any(id(leaf) in self._known for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        result = self.called(self._count, func, args, kwargs)
        made = tensors_of(result)
        if made:
            self._count += 1
            self._known |= {id(tensor): tensor for tensor in made}
        return result

    def called(self, index: int, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return func(*args, **kwargs)


class Trace(Follow):
    """Keeps a :class:`Line` of every call. Module names are known inside :func:`located`."""

    def __init__(self, inputs: Sequence[Tensor], stack: Sequence[tuple[str, str]], values: bool = False) -> None:
        super().__init__(inputs)
        self._stack, self._values = stack, values
        self.lines: list[Line] = []

    def called(self, index: int, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = func(*args, **kwargs)
        made = tensors_of(result)
        if made:
            name, kind = self._stack[-1] if self._stack else ("", "")
            where = f"{name!r} ({kind})" if name else f"{title(func)}() of the network's own forward"
            shown = [_shown(value) for value in args]
            values = tuple(tensor.detach().clone() for tensor in made) if self._values else ()
            named = {key: _shown(value) for key, value in kwargs.items()}
            shapes = tuple(tuple(tensor.shape) for tensor in made)
            self.lines.append(Line(func, where, name or title(func), shown, named, shapes, values))
        return result


def trace(module: nn.Module, inputs: Sequence[Tensor], timed: Sequence[bool], values: bool = False) -> list[Line]:
    """The calls of ``module`` on what comes of those of ``inputs`` that are ``timed``."""
    with torch.no_grad(), located(module) as stack:
        mode = Trace([x for x, t in zip(inputs, timed, strict=True) if t], stack, values)
        with mode:
            module(*inputs)
    return mode.lines


@contextmanager
def located(module: nn.Module) -> Iterator[Sequence[tuple[str, str]]]:
    """Names and kinds of the modules that are running, innermost last; modules of torch.nn that have no children."""
    stack: list[tuple[str, str]] = []
    prefix = own_prefix(module)
    hooks = []
    for name, part in module.named_modules():
        entry = name.removeprefix(prefix), type(part).__name__
        hooks += [
            part.register_forward_pre_hook(lambda *_, entry=entry: stack.append(entry)),
            part.register_forward_hook(lambda *_: stack.pop() and None, always_call=True),
        ]
    try:
        yield stack
    finally:
        for hook in hooks:
            hook.remove()


def differing(short: Sequence[int], long: Sequence[int]) -> list[int]:
    """Axes whose sizes are not the same."""
    return [axis for axis, (m, n) in enumerate(zip(short, long, strict=False)) if m != n]


def stride_of(short: Sequence[Line], long: Sequence[Line], more: int) -> int | None:
    """Frames of the inputs in one step: the least common multiple of what the strides make, for inputs that differ by
    ``more`` frames. None where a tensor has no such number."""
    step = 1
    for a, b in zip(short, long, strict=True):
        for m, n in zip(a.shapes, b.shapes, strict=True):
            for axis in differing(m, n):
                if n[axis] > m[axis]:
                    step = math.lcm(step, max(round(more / (n[axis] - m[axis])), 1))
    return step if step <= MOST_FRAMES else None


def level_of(short: Sequence[int], long: Sequence[int], steps: tuple[int, int]) -> Level | None:
    """Where a tensor stands that has these shapes for sequences of so many steps; None where that cannot be said: two
    axes grow with the sequence, or not by whole frames a step."""
    axes = differing(short, long)
    if not axes:
        return Level(None)
    rate = Fraction(long[axes[0]] - short[axes[0]], steps[1] - steps[0])
    if len(axes) > 1 or len(short) != len(long) or rate.denominator != 1 or rate < 1:
        return None
    return Level(axes[0], int(rate), int(rate) * steps[0] - short[axes[0]])


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors of what a function gave: one, or those of a tuple or list."""
    parts = result if isinstance(result, tuple | list) else (result,)
    return [part for part in parts if isinstance(part, Tensor)]


def title(func: Callable[..., Any]) -> str:
    """The name of a function of torch, for people."""
    return str(getattr(func, "__name__", func)).strip("_")


def _is_question(func: Callable[..., Any]) -> bool:
    """Whether it asks for what a tensor is rather than to compute one."""
    return getattr(func, "__name__", "") == "__get__" and getattr(func, "__self__", None) in _QUESTIONS


_QUESTIONS = {getattr(Tensor, name) for name in ("shape", "dtype", "device", "is_cuda", "requires_grad", "layout")}


def _shown(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return type(value)(_shown(item) for item in value) if type(value) in (list, tuple) else value
