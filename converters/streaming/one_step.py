"""A network of sequences becomes one of a single step: what its layers remember goes in and comes out.

A step gives what the network gives for the sequence up to that step. That only holds where nothing but recurrent layers
(here) and convolutions (:mod:`edgekit.converters.streaming.convolutional`) looks from one step to another, which is
checked by numbers: the network on the first n steps against n steps taken one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.converters.base import cause, own_prefix
from edgekit.converters.streaming.carry import Call, Carry
from edgekit.converters.streaming.convolutional import (
    Convolutional,
    Stepwise,
    feed_of,
    reads_time,
    run,
    tensors,
    windowed,
)
from edgekit.converters.streaming.steps import ENDED
from edgekit.converters.streaming.trace import trace
from edgekit.data.audio import live
from edgekit.data.seeded import seeded_feed
from edgekit.errors import UnsupportedError
from edgekit.types import TIME, Array, Feed, Network, Signature, Streaming, TensorSpec

TOLERANCE = 1e-4
"""Of an output's scale: torch sums the steps of a sequence and a single step in different orders (6e-8 a sum, through
tens of steps); a layer that mixes steps shows at 1e-2 and more."""
PREFIXES = (1, 2, 3, 4)
"""Lengths that are compared, besides the whole."""
PLANS = 64
"""Ways to take a step out of the inputs that are tried: a few axes of a few inputs."""


class OneStep(nn.Module):
    """``module`` for one step: (inputs, states) -> (outputs, next states)."""

    is_adapter = True

    def __init__(self, module: nn.Module, inputs: int) -> None:
        super().__init__()
        self.module, self._inputs = module, inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        with Carry(self.module, tensors[self._inputs :]) as carry:
            result = self.module(*tensors[: self._inputs])
        return (*([result] if isinstance(result, Tensor) else result), *carry.ends)


def one_step(network: Network, name: str | None = None, time: Mapping[str, int] | None = None) -> Network:
    """The network of one step that ``network`` is made of; its card says how steps make a sequence.

    Args:
        network: of sequences; its example input has two steps or more.
        name: of the new network; without it the old one's with ``-step``.
        time: input -> its axis of time, where somebody says it; otherwise it is found.

    Raises:
        UnsupportedError: it cannot be taken step by step; the message has the reason.
    """
    sequence = _Sequence(network, time)
    if sequence.has_windows():
        sequence.check_layers(needed=False)
        chosen = sequence.window_axes()
        if chosen is not None:
            made = Convolutional(network, chosen, sequence.refused).made()
            return _network_of(network, name or f"{network.name}-step", made, chosen)
    sequence.check_layers()
    axes = sequence.time_axes()
    steps = sequence.length(axes)
    first = sequence.sliced(sequence.typical, axes, 0, 1)
    calls = sequence.watched(first)
    sequence.check_starts(calls)
    states = {key: shape for call in calls for key, shape in call.state.items()}
    module = OneStep(network.module, len(network.signature.inputs)).eval()
    timed = sequence.timed_outputs(axes, steps)
    sequence.check_prefixes(module, states, axes, timed, steps)
    example = {spec.name: np.asarray(network.example_inputs[spec.name]) for spec in network.signature.inputs}
    made = Stepwise(
        module, 1, 0, [0] * len(network.signature.outputs), [timed.get(s.name) for s in network.signature.outputs],
        {key: np.zeros(shape, np.float32) for key, shape in states.items()}, sequence.sliced(example, axes, 0, 1),
    )  # fmt: skip
    return _network_of(network, name or f"{network.name}-step", made, axes)


def _network_of(network: Network, name: str, made: Stepwise, axes: Mapping[str, int]) -> Network:
    """The network of one step, with its card."""
    examples = {**made.examples, **made.states}
    pairs = {key: f"{key}_next" for key in made.states}
    inputs = tuple(TensorSpec(key, str(value.dtype), value.shape) for key, value in examples.items())
    specs = network.signature.outputs
    names = [*(spec.name for spec in specs), *pairs.values()]
    results = run(made.module, examples)
    outputs = tuple(TensorSpec(key, str(v.dtype), v.shape) for key, v in zip(names, results, strict=True))
    whole = Signature(
        tuple(_with_time(spec, axes.get(spec.name)) for spec in network.signature.inputs),
        tuple(_with_time(spec, axis) for spec, axis in zip(specs, made.axes, strict=True)),
    )
    skipped = {spec.name: count for spec, count in zip(specs, made.skipped, strict=True) if count}
    streaming = Streaming(whole, pairs, made.frames, made.delay, ENDED if made.delay else "", skipped)
    contract = {key: live(rule) for key, rule in network.card.contract.items()}
    card = replace(
        network.card,
        name=name,
        signature=Signature(inputs, outputs),
        contract=contract,
        selftest=None,
        streaming=streaming,
    )
    return Network(made.module, examples, card)


class _Sequence:
    """The network of sequences, tried on inputs of several lengths."""

    def __init__(self, network: Network, time: Mapping[str, int] | None) -> None:
        self.network, self._given = network, time
        seeded = seeded_feed(network.signature, network.card.contract, 0)
        self.typical: dict[str, Array] = {
            spec.name: np.asarray((seeded if np.dtype(spec.dtype).kind == "f" else network.example_inputs)[spec.name])
            for spec in network.signature.inputs
        }
        """Random numbers, since examples may be zeros; integers as in the example, since they may be indices."""

    def refused(self, reason: str, way_out: bool = True) -> UnsupportedError:
        rest = ". Export it for whole sequences, without --streaming" if way_out else ""
        return UnsupportedError(f"{self.network.name!r} cannot be taken step by step: {reason}{rest}")

    def outputs(self, module: nn.Module, feed: Feed) -> list[Array]:
        with torch.no_grad():
            result = module(*(torch.from_numpy(np.asarray(value, order="C")) for value in feed.values()))
        return [value.numpy() for value in ([result] if isinstance(result, Tensor) else result)]

    def watched(self, feed: Feed) -> list[Call]:
        carry = Carry(self.network.module)
        with carry:
            self.outputs(self.network.module, feed)
        return carry.calls

    def has_windows(self) -> bool:
        """Whether it has convolutions or pooling."""
        return windowed(trace(self.network.module, tensors(self.typical), [True] * len(self.typical)))

    def window_axes(self) -> dict[str, int] | None:
        """Input -> its axis of time: along which recurrent layers and convolutions go; None where none goes anywhere.

        Raises:
            UnsupportedError: a convolution goes along several axes, and nothing says which is time.
        """
        likely: list[dict[str, int]] = []
        possible: list[dict[str, int]] = []
        told = ""
        for axes in itertools.islice(self._plans(), PLANS):
            length = self.length(axes)
            timed = [spec.name in axes for spec in self.network.signature.inputs]
            feeds = [tensors(feed_of(self.network, axes, size)) for size in (length, 2 * length)]
            try:
                short, long = (trace(self.network.module, feed, timed) for feed in feeds)
            except Exception as error:
                told = told or f"; on sequences of {2 * length} frames instead of {length} it raises {cause(error)}"
                continue
            reads = reads_time(short, long)
            (likely if reads else possible if reads is None else []).append(axes)
        if not likely and len(possible) > 1:
            ways = " or ".join("--dynamic " + ",".join(f"{k}:{v}={TIME}" for k, v in one.items()) for one in possible)
            raise self.refused(f"its convolutions go along several axes; say which is time, by {ways}", way_out=False)
        found = [*likely, *possible]
        if not found and not self.watched(self.typical):
            shapes = ", ".join(map(str, self.network.signature.inputs))
            raise self.refused(f"no axis of its inputs ({shapes}) is one that a convolution goes along{told}")
        return found[0] if found else None

    def check_layers(self, needed: bool = True) -> None:
        """Refuses what no choice of steps can help."""
        calls = self.watched(self.typical)
        if not calls and needed:
            raise self.refused(
                "it has no convolution over time, and no nn.LSTM, nn.GRU or nn.RNN layer, nor a cell of those, to keep "
                "state of"
            )
        for call in calls:
            if call.bidirectional:
                raise self.refused(
                    f"{call.layer} reads the sequence in both directions, so that every output needs the last step"
                )
            if call.packed:
                raise self.refused(f"{call.layer} takes packed sequences, whose lengths are known only at their end")

    def check_starts(self, calls: Sequence[Call]) -> None:
        """Refuses a first step that does not start from zeros."""
        for call in calls:
            if call.begins:
                raise self.refused(
                    f"{call.layer} starts from a state that the network is given or has learned, while steps start "
                    "from zeros"
                )

    def time_axes(self) -> dict[str, int]:
        """Input -> its axis of time: where one step of it makes every recurrent layer take one step."""
        full = self.watched(self.typical)
        told = ""
        for axes in itertools.islice(self._plans(), PLANS):
            length = self.length(axes)
            try:
                calls = self.watched(self.sliced(self.typical, axes, 0, 1))
            except Exception as error:
                if self._is_time(axes, full):
                    told = f"; on a single step it raises {cause(error)}"
                continue
            layers = [call for call in calls if not call.cell]
            cells = len(calls) - len(layers)
            same = len(layers) == sum(not call.cell for call in full)
            fewer = cells * length == sum(call.cell for call in full)
            if same and fewer and all(call.steps == 1 for call in calls):
                return axes
        shapes = ", ".join(map(str, self.network.signature.inputs))
        raise self.refused(f"no axis of its inputs ({shapes}) holds two or more steps of its recurrent layers{told}")

    def _is_time(self, axes: Mapping[str, int], full: Sequence[Call]) -> bool:
        """Whether one step less on these axes is one step less for a recurrent layer."""
        try:
            fewer = self.watched(self.sliced(self.typical, axes, 0, self.length(axes) - 1))
        except Exception:  # not this axis: whatever the network says to another size of it
            return False
        return sum(call.steps for call in fewer) < sum(call.steps for call in full)

    def _plans(self) -> Iterator[dict[str, int]]:
        """Axes of one length, of as many inputs as have it, then of fewer; the given ones alone where there are."""
        if self._given:
            yield dict(self._given)
            return
        lengths = sorted({n for array in self.typical.values() for n in array.shape if n > 1}, reverse=True)
        for length in lengths:
            choices = []
            for name, array in self.typical.items():
                found = [(name, axis) for axis, n in enumerate(array.shape) if n == length]
                choices.append([*found, None])
            plans = [dict(filter(None, plan)) for plan in itertools.product(*choices)]
            yield from sorted(filter(None, plans), key=len, reverse=True)

    def length(self, axes: Mapping[str, int]) -> int:
        name, axis = next(iter(axes.items()))
        return int(self.typical[name].shape[axis])

    def sliced(self, feed: Feed, axes: Mapping[str, int], begin: int, end: int) -> dict[str, Array]:
        """The steps from ``begin`` to ``end`` of those inputs that have steps."""
        return {
            name: np.asarray(value.take(range(begin, end), axes[name]), order="C") if name in axes else value
            for name, value in feed.items()
        }

    def timed_outputs(self, axes: Mapping[str, int], steps: int) -> dict[str, int]:
        """Output -> its axis of time; outputs that are given once for the sequence are left out."""
        module = self.network.module
        whole = self.outputs(module, self.typical)
        single = self.outputs(module, self.sliced(self.typical, axes, 0, 1))
        found = {}
        for spec, a, b in zip(self.network.signature.outputs, whole, single, strict=True):
            other = [axis for axis, (m, n) in enumerate(zip(a.shape, b.shape, strict=False)) if m != n]
            if a.ndim != b.ndim or len(other) > 1 or any(a.shape[k] != steps or b.shape[k] != 1 for k in other):
                raise self.refused(
                    f"the output {spec.name!r} has shape {a.shape} for {steps} steps and {b.shape} for one, which is "
                    "not one value a step"
                )
            if other:
                found[spec.name] = other[0]
        return found

    def check_prefixes(
        self,
        module: nn.Module,
        states: Mapping[str, tuple[int, ...]],
        axes: Mapping[str, int],
        timed: Mapping[str, int],
        steps: int,
    ) -> None:
        """Steps taken one by one against the network on the first n of them."""
        specs = self.network.signature.outputs
        whole = self.outputs(self.network.module, self.typical)
        for n, results in enumerate(self._taken(module, states, axes, steps), 1):
            if n not in (*PREFIXES, steps):
                continue
            wanted = self.outputs(self.network.module, self.sliced(self.typical, axes, 0, n))
            for spec, got, prefix, all_steps in zip(specs, results, wanted, whole, strict=False):
                axis = timed.get(spec.name)
                values = [prefix] if axis is None else [x.take([n - 1], axis) for x in (prefix, all_steps)]
                scale = max(float(np.abs(prefix).max(initial=0.0)), 1.0)
                gap = max(float(np.abs(got - value).max(initial=0.0)) for value in values)
                if not gap <= TOLERANCE * scale:
                    raise self.refused(
                        f"its output {spec.name!r} after {n} steps differs by {gap:.3g} from that for the first {n} "
                        "steps as a whole, so something beside the recurrent layers mixes the steps (a convolution, a "
                        f"mean or a normalisation over time){self._suspect(module, states, axes, max(n, 2))}"
                    )

    def _taken(
        self, module: nn.Module, states: Mapping[str, tuple[int, ...]], axes: Mapping[str, int], steps: int
    ) -> Iterator[list[Array]]:
        """What each step gives, from states of zeros."""
        now = {key: np.zeros(shape, np.float32) for key, shape in states.items()}
        for n in range(steps):
            results = self.outputs(module, {**self.sliced(self.typical, axes, n, n + 1), **now})
            now = dict(zip(now, results[len(results) - len(now) :], strict=True))
            yield results

    def _suspect(
        self, module: nn.Module, states: Mapping[str, tuple[int, ...]], axes: Mapping[str, int], steps: int
    ) -> str:
        """The first layer whose outputs of single steps are not those of the steps as a whole, in words."""
        with _Outputs(self.network.module) as whole:
            self.outputs(self.network.module, self.sliced(self.typical, axes, 0, steps))
        with _Outputs(self.network.module) as single:
            list(self._taken(module, states, axes, steps))
        for name, values in whole.seen.items():
            if name not in single.seen:
                continue
            rows, last = values[-1], single.seen[name][-1]
            axis = [k for k, (m, n) in enumerate(zip(rows.shape, last.shape, strict=False)) if (m, n) == (steps, 1)]
            wanted = rows.take([steps - 1], axis[0]) if axis else rows
            if wanted.shape != last.shape or not np.allclose(wanted, last, rtol=TOLERANCE, atol=TOLERANCE):
                return f"; first to differ is {name}, by itself or by what is computed just before it"
        return ""


class _Outputs:
    """What every module without children gives while this is open; recurrent layers are left out."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.seen: dict[str, list[Array]] = {}

    def __enter__(self) -> _Outputs:
        prefix = own_prefix(self._module)
        self._hooks = [
            part.register_forward_hook(self._keep(f"{name.removeprefix(prefix)!r} ({type(part).__name__})"))
            for name, part in self._module.named_modules()
            if not list(part.children()) and not isinstance(part, nn.RNNBase | nn.RNNCellBase)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.seen.setdefault(name, []).append(output.detach().numpy().copy())

        return hook


def _with_time(spec: TensorSpec, axis: int | None) -> TensorSpec:
    if axis is None:
        return spec
    return replace(spec, shape=tuple(TIME if k == axis else size for k, size in enumerate(spec.shape)))
