"""Which tensors of a network the quantized files round, found by running it once.

The rules are those that both back ends share: weights of products and recurrent layers; the inputs; what every
operation makes, after the batch norm and the activation that are fused into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError
from edgekit.quantization.qat.walk import ARITHMETIC, FUSED, NORM, PRODUCTS, RECURRENT, Walk

FIXED = {
    "sigmoid": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
"""Ranges that TFLite's kernels fix, whatever the values (``tensorflow/lite/kernels/activations.cc``)."""
_NORM_ARGUMENTS = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


@dataclass(frozen=True, slots=True)
class Norm:
    """A batch norm that is folded into the product before it: names of its tensors, and its epsilon."""

    mean: str
    variance: str
    weight: str | None
    bias: str | None
    epsilon: float


@dataclass(frozen=True)
class RoundingPlan:
    """What is rounded, by site.

    Attributes:
        points: tensors with a range of their own: inputs by name, then sites in the order of the forward. A recurrent
            layer has two: what it gives at every step, and ``SITE.state`` after the last one.
        fixed: point -> range that no observation changes.
        folded: product -> the batch norm behind it.
        passed: batch norms that were folded.
        weights: sites whose weights are rounded.
        constants: site -> positions of constant operands.
    """

    points: tuple[str, ...]
    fixed: dict[str, tuple[float, float]]
    folded: dict[str, Norm]
    passed: frozenset[str]
    weights: frozenset[str]
    constants: dict[str, tuple[int, ...]]


@dataclass(slots=True)
class _Rounded:
    """An operation of the recorded forward: who reads what it made, and what it is made of."""

    site: str
    kind: str
    readers: list[str | None] = field(default_factory=list)
    norm: Norm | None = None
    constants: tuple[int, ...] = ()
    floating: bool = True
    weight_is_constant: bool = True


def plan_of(module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str]) -> RoundingPlan:
    """The plan of ``module``, run in eval mode on example ``inputs`` called ``names``.

    Raises:
        UnsupportedError: it has nothing to round (no product and no recurrent layer), or is an exported program.
    """
    was_training = module.training
    recorder = _Recorder(module, inputs)
    try:
        with recorder, torch.no_grad():
            module.eval()(*inputs)
    finally:
        module.train(was_training)
    made = recorder.made
    weights = frozenset(site for site, one in made.items() if one.weight_is_constant and _weighs(one))
    if not any(made[site].kind != "embedding" for site in weights):
        if any(isinstance(layer, torch.fx.GraphModule) for layer in module.modules()):
            raise UnsupportedError(
                "an exported program calls ATen's operators, which --qat does not round; give the checkpoint or the "
                "file.py:factory that it was exported from"
            )
        raise UnsupportedError(
            "this network has no layer that int8 files compute on integers (convolution, linear or recurrent), so "
            "there is nothing to learn with --qat; leave it out"
        )
    folded = {site: made[one.readers[0] or ""].norm for site, one in made.items() if _folds(one, made)}
    passed = frozenset(str(made[site].readers[0]) for site in folded)
    points = [name for name, value in zip(names, inputs, strict=True) if value.is_floating_point()]
    for site, one in made.items():
        behind = made[str(one.readers[0])] if site in folded else one
        if site in passed or not one.floating or one.kind == "embedding" or _fuses(behind, made):
            continue
        points += [site, f"{site}.state"] if one.kind in RECURRENT else [site]
    fixed = {site: FIXED[made[site].kind] for site in points if site in made and made[site].kind in FIXED}
    constants = {site: one.constants for site, one in made.items() if one.constants}
    return RoundingPlan(tuple(points), fixed, {k: v for k, v in folded.items() if v}, passed, weights, constants)


def _weighs(one: _Rounded) -> bool:
    return one.kind in PRODUCTS or one.kind in RECURRENT or one.kind in ("embedding", "multi_head_attention_forward")


def _folds(one: _Rounded, made: dict[str, _Rounded]) -> bool:
    """Whether all that a product makes goes into one batch norm whose statistics are kept."""
    if one.kind not in PRODUCTS or not one.weight_is_constant or len(one.readers) != 1:
        return False
    reader = made.get(one.readers[0] or "")
    return reader is not None and reader.norm is not None


def _fuses(one: _Rounded, made: dict[str, _Rounded]) -> bool:
    """Whether all that an operation makes goes into one activation that is fused into it."""
    reader = made.get(one.readers[0] or "") if len(one.readers) == 1 else None
    return (
        reader is not None
        and reader.kind in FUSED
        and (one.kind in PRODUCTS or one.kind in ("add", "sub", "mul", NORM))
    )


class _Recorder(Walk):
    """Runs beside a forward and keeps what each operation makes, and who reads it."""

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__(module)
        self.made: dict[str, _Rounded] = {}
        self._names = {id(t): n for n, t in [*module.named_parameters(), *module.named_buffers()]}
        self._alive: list[Tensor] = list(inputs)  # an id is that of one tensor as long as it is kept
        self._active = {id(value) for value in inputs}
        self._maker: dict[int, str] = {}

    def call(
        self, site: str | None, kind: str | None, function: Callable[..., Any], args: Sequence[Any], named: Any
    ) -> Any:
        outputs = function(*args, **named)
        results = tensors_in(outputs)
        if not results:
            return outputs
        given = tensors_in([*args, *named.values()])
        for value in given:
            if id(value) in self._maker:
                self.made[self._maker[id(value)]].readers.append(site)
        if any(id(value) in self._active for value in given):
            fresh = [value for value in results if id(value) not in self._active]
            self._active |= {id(value) for value in fresh}
            self._alive += fresh
            if site is not None and kind is not None:
                self.made[site] = self._described(site, kind, args, named, results[0])
                for value in fresh if kind != "lstm" else fresh[:2]:
                    self._maker[id(value)] = site
        return outputs

    def _described(self, site: str, kind: str, args: Sequence[Any], named: Any, result: Tensor) -> _Rounded:
        one = _Rounded(site, kind, floating=result.is_floating_point())
        if kind in PRODUCTS:
            weight = args[1] if len(args) > 1 else named.get("weight")
            one.weight_is_constant = id(weight) not in self._active
        elif kind == NORM:
            one.norm = self._norm(args, named)
        elif kind in ARITHMETIC:
            operands = args[0] if kind in ("cat", "stack") else args
            one.constants = tuple(k for k, value in enumerate(operands) if self._constant(value))
        return one

    def _constant(self, value: Any) -> bool:
        return (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.numel() > 1
            and id(value) not in self._active
        )

    def _norm(self, args: Sequence[Any], named: Any) -> Norm | None:
        """The names of a batch norm's tensors; None where it keeps no statistics, and so cannot be folded."""
        given = {**dict(zip(_NORM_ARGUMENTS, args[1:], strict=False)), **named}
        mean, variance = (self._names.get(id(given.get(key))) for key in ("running_mean", "running_var"))
        if mean is None or variance is None:
            return None
        weight, bias = (self._names.get(id(given.get(key))) for key in ("weight", "bias"))
        return Norm(mean, variance, weight, bias, float(given.get("eps", 1e-5)))


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors among values that may be nested in lists and tuples."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, list | tuple):
        return [found for value in values for found in tensors_in(value)]
    return []
