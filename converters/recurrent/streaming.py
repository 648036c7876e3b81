"""A network of sequences becomes one of a single step: what its recurrent layers remember goes in and comes out.

A step gives what the network gives for the sequence up to that step. That only holds where nothing but the recurrent
layers looks from one step to another, which is checked by numbers: the network on the first n steps against n steps
taken one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgekit.converters.base import cause, own_prefix
from edgekit.data.seeded import seeded_feed
from edgekit.errors import UnsupportedError
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.types import TIME, Array, Feed, Format, Network, Signature, Streaming, TensorSpec

_RECURRENT = {getattr(torch, op.name.split(".")[1]): op for op in ops.of(Format.PT2, Family.RECURRENT)}
"""Function of torch -> its operator; those that multiply at every step of a sequence are layers, the others cells."""
LAYERS = {function: op.cell for function, op in _RECURRENT.items() if op.macs is not None}
CELLS = {function: f"{op.cell}Cell" for function, op in _RECURRENT.items() if op.macs is None}
TOLERANCE = 1e-4
"""Of an output's scale: torch sums the steps of a sequence and a single step in different orders (6e-8 a sum, through
tens of steps); a layer that mixes steps shows at 1e-2 and more."""
PREFIXES = (1, 2, 3, 4)
"""Lengths that are compared, besides the whole."""
PLANS = 64
"""Ways to take a step out of the inputs that are tried: a few axes of a few inputs."""


@dataclass(frozen=True)
class Call:
    """One call of a recurrent layer or cell while a network ran.

    Attributes:
        layer: name of the module in the network, and the kind behind it: ``words.lstm (LSTM)``.
        state: name -> shape of what it starts from: ``words.lstm.h``, for an LSTM also ``words.lstm.c``.
        steps: steps it took; 1 for a cell.
        begins: largest magnitude of the state that the network starts it from.
        bidirectional, packed: what it is.
    """

    layer: str
    cell: bool
    state: Mapping[str, tuple[int, ...]]
    steps: int
    begins: float
    bidirectional: bool = False
    packed: bool = False


class Carry(TorchFunctionMode):
    """While it is active, recurrent layers start from ``states`` in the order of their calls, and what they end with
    is kept in ``ends``. Without states they run as the network says, and ``calls`` is what they were."""

    def __init__(self, module: nn.Module, states: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self._names = _layer_names(module)
        self._left = None if states is None else list(states)
        self._taken: dict[str, int] = {}
        self.calls: list[Call] = []
        self.ends: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in LAYERS and func not in CELLS:
            return func(*args, **(kwargs or {}))
        packed = func in LAYERS and not isinstance(args[3], bool)
        state = args[2] if packed else args[1]
        given = list(state) if isinstance(state, list | tuple) else [state]
        if self._left is None:
            self.calls.append(self._call(func, args, given, packed))
            return func(*args, **(kwargs or {}))
        own, self._left = self._left[: len(given)], self._left[len(given) :]
        result = func(args[0], tuple(own) if len(given) > 1 else own[0], *args[2:], **(kwargs or {}))
        parts = result if isinstance(result, tuple) else (result,)
        self.ends += parts[1:] if func in LAYERS else parts
        return result

    def _call(self, func: Callable[..., Any], args: Sequence[Any], given: list[Tensor], packed: bool) -> Call:
        cell = func in CELLS
        weights = args[2:] if cell else args[3] if packed else args[2]
        kind = (CELLS if cell else LAYERS)[func]
        name = self._names.get(id(weights[0])) or kind.lower()
        count = self._taken[name] = self._taken.get(name, 0) + 1
        unique = name if count == 1 else f"{name}_{count}"
        steps = 1 if cell or packed else args[0].shape[1 if args[8] else 0]
        return Call(
            layer=f"{name} ({kind})",
            cell=cell,
            state={f"{unique}.{part}": tuple(value.shape) for part, value in zip("hc", given, strict=False)},
            steps=int(steps),
            begins=max(float(value.abs().max()) for value in given),
            bidirectional=not cell and not packed and bool(args[7]),
            packed=packed,
        )


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


def one_step(network: Network, name: str | None = None) -> Network:
    """The network of one step that ``network`` is made of; its card says how steps make a sequence.

    Args:
        network: of sequences; its example input has two steps or more.
        name: of the new network; without it the old one's with ``-step``.

    Raises:
        UnsupportedError: it cannot be taken step by step; the message has the reason.
    """
    sequence = _Sequence(network)
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
    examples = {
        **sequence.sliced(example, axes, 0, 1),
        **{key: np.zeros(shape, np.float32) for key, shape in states.items()},
    }
    pairs = {key: f"{key}_next" for key in states}
    inputs = tuple(TensorSpec(key, str(value.dtype), value.shape) for key, value in examples.items())
    results = sequence.outputs(module, examples)
    names = [*(spec.name for spec in network.signature.outputs), *pairs.values()]
    outputs = tuple(TensorSpec(key, str(v.dtype), v.shape) for key, v in zip(names, results, strict=True))
    whole = Signature(
        tuple(_with_time(spec, axes.get(spec.name)) for spec in network.signature.inputs),
        tuple(_with_time(spec, timed.get(spec.name)) for spec in network.signature.outputs),
    )
    card = replace(
        network.card,
        name=name or f"{network.name}-step",
        signature=Signature(inputs, outputs),
        selftest=None,
        streaming=Streaming(whole, pairs),
    )
    return Network(module, examples, card)


class _Sequence:
    """The network of sequences, tried on inputs of several lengths."""

    def __init__(self, network: Network) -> None:
        self.network = network
        seeded = seeded_feed(network.signature, network.card.contract, 0)
        self.typical: dict[str, Array] = {
            spec.name: np.asarray((seeded if np.dtype(spec.dtype).kind == "f" else network.example_inputs)[spec.name])
            for spec in network.signature.inputs
        }
        """Random numbers, since examples may be zeros; integers as in the example, since they may be indices."""

    def refused(self, reason: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.network.name!r} cannot be taken step by step: {reason}. Export it for whole sequences, without "
            "--streaming"
        )

    def outputs(self, module: nn.Module, feed: Feed) -> list[Array]:
        with torch.no_grad():
            result = module(*(torch.from_numpy(np.asarray(value, order="C")) for value in feed.values()))
        return [value.numpy() for value in ([result] if isinstance(result, Tensor) else result)]

    def watched(self, feed: Feed) -> list[Call]:
        carry = Carry(self.network.module)
        with carry:
            self.outputs(self.network.module, feed)
        return carry.calls

    def check_layers(self) -> None:
        """Refuses what no choice of steps can help."""
        calls = self.watched(self.typical)
        if not calls:
            raise self.refused("it has no nn.LSTM, nn.GRU or nn.RNN layer, nor a cell of those, to keep state of")
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
        """Axes of one length, of as many inputs as have it, then of fewer."""
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


def _layer_names(module: nn.Module) -> dict[int, str]:
    """Identity of a layer's first weight -> the layer's name in the user's network."""
    prefix = own_prefix(module)
    found = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.RNNBase):
            found[id(part.weight_ih_l0)] = name.removeprefix(prefix)
        elif isinstance(part, nn.RNNCellBase):
            found[id(part.weight_ih)] = name.removeprefix(prefix)
    return found


def _with_time(spec: TensorSpec, axis: int | None) -> TensorSpec:
    if axis is None:
        return spec
    return replace(spec, shape=tuple(TIME if k == axis else size for k, size in enumerate(spec.shape)))
