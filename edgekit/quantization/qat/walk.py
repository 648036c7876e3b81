"""A network's forward, call by call: each tensor operation under a name that is the same at every run.

A site is ``PATH.KIND`` of the module that calls the operation (``blocks.0.conv1.conv2d``), with ``#2`` on its second
call in one forward. Operations are seen as functions of torch (``TorchFunctionMode``), so that ``x + y`` and
``torch.relu(x)`` are seen as well as layers, and the module itself stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

PRODUCTS: Mapping[str, tuple[int, int]] = {
    **{f"conv{n}d": (1, 0) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (1, 1) for n in (1, 2, 3)},
    "linear": (1, 0),
}
"""Operations with a weight: its position among the arguments, and the axis that keeps a scale of its own."""
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
ATTENTION: Mapping[str, int] = {"in_proj_weight": 5, "out_proj_weight": 11}
"""Weights of torch's own multi-head attention, and their positions among its arguments."""
NORM = "batch_norm"
FUSED = ("relu", "relu6")
"""Activations that both back ends fuse into the operation before: only what comes out is rounded."""
_SAME = {
    **dict.fromkeys(("radd", "iadd"), "add"),
    **dict.fromkeys(("rsub", "isub", "subtract"), "sub"),
    **dict.fromkeys(("rmul", "imul", "multiply"), "mul"),
    **dict.fromkeys(("truediv", "rtruediv", "itruediv", "true_divide", "divide"), "div"),
    **dict.fromkeys(("rmatmul", "mm", "bmm"), "matmul"),
    **dict.fromkeys(("concat", "concatenate"), "cat"),
    "rpow": "pow",
}
ARITHMETIC = ("add", "sub", "mul", "div", "cat", "matmul", "maximum", "minimum", "stack")
"""Operations of which an operand may be a constant, which is rounded too."""
_VALUES = (
    *("mean", "sum", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "pow", "sqrt", "rsqrt"),
    *("sigmoid", "tanh", "softmax", "gelu", "silu", "elu", "hardswish", "hardsigmoid", "leaky_relu", "prelu", "clamp"),
    *("hardtanh", "layer_norm", "group_norm", "instance_norm", "interpolate", "exp", "square"),
    *("scaled_dot_product_attention", "multi_head_attention_forward", "embedding"),
)
KINDS = frozenset([*PRODUCTS, *RECURRENT, NORM, *FUSED, *ARITHMETIC, *_VALUES])
"""Operations that make new values. All others (reshape, slice, maximum pooling, dropout) pass on what they get."""


def kind_of(function: Any) -> str | None:
    """The kind of an operation of torch; None for one that makes no new values."""
    name = str(getattr(function, "__name__", "")).strip("_")
    name = _SAME.get(name, name)
    return name if name in KINDS else None


class Walk(TorchFunctionMode, ABC):
    """Hands every operation of a forward to :meth:`call`, which a subclass writes. To be used once, by ``with``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._paths = {id(layer): name for name, layer in module.named_modules()}
        self._within = [""]
        self._calls: Counter[str] = Counter()

    @abstractmethod
    def call(
        self, site: str | None, kind: str | None, function: Callable[..., Any], args: Sequence[Any], named: Any
    ) -> Any:
        """One operation; ``site`` and ``kind`` are None for one that makes no new values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kind = kind_of(func)
        return self.call(self._site(kind) if kind else None, kind, func, args, dict(kwargs or {}))

    def __enter__(self) -> Walk:
        self._hooks = [
            register_module_forward_pre_hook(self._entered),
            register_module_forward_hook(self._left, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def _entered(self, layer: nn.Module, inputs: Any) -> None:
        self._within.append(self._paths.get(id(layer), self._within[-1]))

    def _left(self, layer: nn.Module, inputs: Any, outputs: Any) -> None:
        self._within.pop()

    def _site(self, kind: str) -> str:
        name = f"{self._within[-1]}.{kind}".lstrip(".")
        self._calls[name] += 1
        count = self._calls[name]
        return name if count == 1 else f"{name}#{count}"
