"""What recurrent layers and cells remember from one step to the next, taken in and given out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgekit.converters.base import own_prefix
from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.types import Format

_RECURRENT = {getattr(torch, op.name.split(".")[1]): op for op in ops.of(Format.PT2, Family.RECURRENT)}
"""Function of torch -> its operator; those that multiply at every step of a sequence are layers, the others cells."""
LAYERS = {function: op.cell for function, op in _RECURRENT.items() if op.macs is not None}
CELLS = {function: f"{op.cell}Cell" for function, op in _RECURRENT.items() if op.macs is None}


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
        self._names = layer_names(module)
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


def layer_names(module: nn.Module) -> dict[int, str]:
    """Identity of a layer's first weight -> the layer's name in the user's network."""
    prefix = own_prefix(module)
    found = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.RNNBase):
            found[id(part.weight_ih_l0)] = name.removeprefix(prefix)
        elif isinstance(part, nn.RNNCellBase):
            found[id(part.weight_ih)] = name.removeprefix(prefix)
    return found
