"""A network that computes as its int8 files will: the same module inside, with every rounding put in.

Batch norms are folded into the products before them with their running statistics, as the back ends fold them, and
these statistics stay as they are. Ranges of activations are moving averages of the smallest and largest value of a
batch (Jacob et al. 2018, section 3.1), until they are frozen; from then on the weights settle to them.

Not rounded: the state of a recurrent layer between its steps, what happens inside attention or normalisation that is
one operation of torch, biases (int32 in the files).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import GateError
from edgekit.quantization.qat.plan import Norm, RoundingPlan, plan_of, tensors_in
from edgekit.quantization.qat.rounding import grid, rounded_activation, rounded_constant, rounded_weight
from edgekit.quantization.qat.walk import ATTENTION, PRODUCTS, RECURRENT, Walk

MOMENTUM = 0.01
"""What a batch adds to the moving average of a range."""
GROWTH = 100.0
"""A range so many times as wide as before the training is that of a network that runs away: its loss may still be a
finite number, since what leaves a range is clipped."""


class FakeQuantized(nn.Module):
    """``network`` with the roundings of its int8 files.

    In training mode the first ``freeze`` forwards move the ranges; all later ones, and those in eval mode, leave them.

    Args:
        network: the float module; trained in place.
        inputs, names: example inputs, and what they are called.
        freeze: forwards in training mode after which the ranges stay.
    """

    ranges: Tensor
    widths: Tensor
    forwards: Tensor

    def __init__(self, network: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], freeze: int) -> None:
        super().__init__()
        self.network, self.names, self.freeze = network, tuple(names), freeze
        self.plan: RoundingPlan = plan_of(network, inputs, names)
        self._index = {name: k for k, name in enumerate(self.plan.points)}
        start = [self.plan.fixed.get(name, (0.0, 0.0)) for name in self.plan.points]
        self.register_buffer("ranges", torch.tensor(start, dtype=torch.float32).reshape(-1, 2))
        self.register_buffer("widths", self.ranges[:, 1] - self.ranges[:, 0])
        self.register_buffer("forwards", torch.zeros((), dtype=torch.int64))
        self.train(network.training)

    def train(self, mode: bool = True) -> FakeQuantized:
        """Training mode, with the statistics of every batch norm frozen."""
        super().train(mode)
        for layer in self.network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
                layer.eval()
        return self

    def forward(self, *inputs: Tensor) -> Any:
        moving = self.training and int(self.forwards) < self.freeze
        if self.training:
            self._require_sane()
        result = self._run(inputs, MOMENTUM if moving else 0.0, rounding=True)
        if self.training:
            self.forwards += 1
        return result

    @torch.no_grad()
    def calibrate(self, batches: Iterator[Sequence[Tensor]]) -> int:
        """Sets the ranges to the mean, over ``batches``, of each batch's smallest and largest value; gives how many."""
        was_training, count = self.training, 0
        self.eval()
        for count, inputs in enumerate(batches, 1):
            self._run(inputs, 1.0 / count, rounding=False)
        self.widths.copy_(self.ranges[:, 1] - self.ranges[:, 0])
        self.train(was_training)
        return count

    @torch.no_grad()
    def observed(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """The float value of every point for ``inputs``, nothing rounded."""
        walk = _Forward(self, 0.0, rounding=False, keep=True)
        was_training = self.training
        self.eval()
        with walk:
            self.network(*walk.inputs(inputs))
        self.train(was_training)
        return walk.kept

    def learned(self) -> dict[str, tuple[float, float]]:
        """Point -> its range, which holds zero.

        Raises:
            GateError: a range that is not a finite number.
        """
        found = {}
        for name, (low, high) in zip(self.plan.points, self.ranges.tolist(), strict=True):
            if not (low == low and high == high and abs(low) < float("inf") and abs(high) < float("inf")):
                raise GateError(f"training diverged: the range of {name!r} is {low} .. {high}; lower the learning rate")
            found[name] = (min(low, 0.0), max(high, 0.0))
        return found

    def _require_sane(self) -> None:
        """Raises GateError where a weight is NaN or infinity, or a range has grown out of all proportion: a rounding
        gives a finite number for both, and would hide them from the loss."""
        grown = (self.ranges[:, 1] - self.ranges[:, 0]) > GROWTH * self.widths.where(self.widths > 0, torch.inf)
        if grown.any():
            k = int(grown.nonzero()[0])
            low, high = self.ranges[k].tolist()
            raise GateError(
                f"training diverged: the values of {self.plan.points[k]!r} spanned {float(self.widths[k]):.3g} at "
                f"first and {high - low:.3g} now; lower the learning rate"
            )
        for name, value in self.network.named_parameters():
            if not value.isfinite().all():
                raise GateError(f"training diverged: {name} holds NaN or infinity; lower the learning rate")

    def _run(self, inputs: Sequence[Tensor], momentum: float, rounding: bool) -> Any:
        walk = _Forward(self, momentum, rounding)
        with walk:
            return self.network(*walk.inputs(inputs))


class _Forward(Walk):
    """One forward of a :class:`FakeQuantized`, with its roundings."""

    def __init__(self, owner: FakeQuantized, momentum: float, rounding: bool, keep: bool = False) -> None:
        super().__init__(owner.network)
        self.owner, self.plan, self.index = owner, owner.plan, owner._index
        self.momentum, self.rounding = momentum, rounding
        self.tensors: Mapping[str, Tensor] = {
            **dict(owner.network.named_parameters()),
            **dict(owner.network.named_buffers()),
        }
        self.kept: dict[str, Tensor] = {}
        self.keep = keep
        self.scale, self.zero = grid(owner.ranges)

    def inputs(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The network's inputs, rounded where they are real numbers."""
        return [self._point(name, value) for name, value in zip(self.owner.names, given, strict=True)]

    def call(
        self, site: str | None, kind: str | None, function: Callable[..., Any], args: Sequence[Any], named: Any
    ) -> Any:
        if site is None or kind is None:
            return function(*args, **named)
        if site in self.plan.passed:
            return args[0]
        arguments = list(args)
        if site in self.plan.folded:
            _fold(arguments, named, self.plan.folded[site], self.tensors, PRODUCTS[kind][1])
        if self.rounding:
            self._round_weights(site, kind, arguments, named)
            self._round_constants(site, kind, arguments)
        return self._rounded(site, kind, function(*arguments, **named))

    def _rounded(self, site: str, kind: str, result: Any) -> Any:
        if kind == "multi_head_attention_forward":
            return (self._point(site, result[0]), *result[1:])
        if kind not in RECURRENT:
            return self._point(site, result)
        steps, state, *rest = result
        return (self._point(site, steps), self._point(f"{site}.state", state), *rest)

    def _point(self, name: str, value: Tensor) -> Tensor:
        """``value`` on the grid of its range, which is moved first where it is to be."""
        k = self.index.get(name)
        if k is None:
            return value
        if self.keep:
            self.kept[name] = value
        if self.momentum and name not in self.plan.fixed:
            self._move(k, value)
        return rounded_activation(value, self.scale[k], self.zero[k]) if self.rounding else value

    @torch.no_grad()
    def _move(self, k: int, value: Tensor) -> None:
        low, high = torch.aminmax(value)
        self.owner.ranges[k].lerp_(torch.stack([low.clamp(max=0), high.clamp(min=0)]), self.momentum)
        scale, zero = grid(self.owner.ranges[k : k + 1])
        self.scale[k], self.zero[k] = scale[0], zero[0]

    def _round_weights(self, site: str, kind: str, arguments: list[Any], named: dict[str, Any]) -> None:
        if site not in self.plan.weights:
            return
        if kind in RECURRENT:
            place = next(k for k, value in enumerate(arguments) if k > 0 and _is_weights(value))
            gates = 4 if kind == "lstm" else 1
            arguments[place] = [_rounded_matrix(value, gates) for value in arguments[place]]
            return
        if kind == "multi_head_attention_forward":
            for place in ATTENTION.values():
                if isinstance(arguments[place], Tensor):  # None where query, key and value have a weight each
                    arguments[place] = rounded_weight(arguments[place], 0)
            return
        position, axis = (1, None) if kind == "embedding" else PRODUCTS[kind]
        if len(arguments) > position:
            arguments[position] = rounded_weight(arguments[position], axis)
        else:
            named["weight"] = rounded_weight(named["weight"], axis)

    def _round_constants(self, site: str, kind: str, arguments: list[Any]) -> None:
        places = self.plan.constants.get(site, ())
        if not places:
            return
        operands = list(arguments[0]) if kind in ("cat", "stack") else arguments
        for place in places:
            operands[place] = (
                rounded_weight(operands[place], -1)
                if kind == "matmul" and operands[place].ndim > 1
                else rounded_constant(operands[place])
            )
        if kind in ("cat", "stack"):
            arguments[0] = operands


def _is_weights(value: Any) -> bool:
    """Whether an argument of a recurrent operation is its list of weights, and not its list of states."""
    return isinstance(value, list | tuple) and any(isinstance(one, nn.Parameter) for one in tensors_in(value))


def _rounded_matrix(value: Tensor, gates: int) -> Tensor:
    """A recurrent layer's matrix on one grid a gate, as TFLite's operators hold them; a bias as it is."""
    if value.ndim < 2:
        return value
    return (
        torch.cat([rounded_weight(part, None) for part in value.chunk(gates)])
        if gates > 1
        else rounded_weight(value, None)
    )


def _fold(arguments: list[Any], named: dict[str, Any], norm: Norm, tensors: Mapping[str, Tensor], axis: int) -> None:
    """Puts a batch norm into the weight and the bias of the product before it (Jacob et al. 2018, equation 14)."""
    names = ("input", "weight", "bias")
    given = {**dict(zip(names, arguments[:3], strict=False)), **{k: named.pop(k) for k in names if k in named}}
    weight, bias = given["weight"], given.get("bias")
    factor = torch.rsqrt(tensors[norm.variance] + norm.epsilon)
    if norm.weight is not None:
        factor = factor * tensors[norm.weight]
    shift = -tensors[norm.mean] if bias is None else bias - tensors[norm.mean]
    shift = shift * factor
    if norm.bias is not None:
        shift = shift + tensors[norm.bias]
    shape = [1] * weight.ndim
    shape[axis] = -1
    arguments[:3] = [given["input"], weight * factor.reshape(shape), shift]
