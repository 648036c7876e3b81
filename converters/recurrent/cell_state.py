"""The last cell state of an LSTM on packed sequences: it is held behind the end of each, up to the end of all.

A layer gives all outputs, of which that at the length is taken, but of the cell state the last one alone. Such a layer
gets one more input, which is 1 behind a length and 0 before it, with weights that close the input gate and open the
forget gate: i is below 1e-17 and f is 1 in float32, so c = f c + i g stays as it is (Gers et al., 2000, for the gates).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from edgekit.converters.recurrent.packing import Rows
from edgekit.errors import UnsupportedError

CELL = (
    "it takes the last cell state (c_n) of an nn.LSTM with a projection, or with computed weights, on packed "
    "sequences, which no file gives at a length of its own. Start from h_n, or give the layer sequences of one length"
)


class Hold:
    """Makes chosen LSTM layers of one network hold their cell state.

    Attributes:
        module: the whole network; it has the weights with one more column as buffers while :meth:`holding`.
        weights: name of a layer's weight_ih -> name of the buffer that stands for it.
    """

    CLOSED = 40.0
    """What the gates get beyond all that the layer can put against it: sigmoid(-40) is 4e-18."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.weights = module, dict[str, str]()

    @contextmanager
    def holding(self, names: Iterable[str]) -> Iterator[None]:
        """While it is active, the layers of ``names`` (of their weight_ih) hold their cell state.

        Raises:
            UnsupportedError: one of them has a projection, or no weights of its own.
        """
        try:
            for k, name in enumerate(sorted(names)):
                self.weights[name] = f"edgekit_held_{k}"
                self.module.register_buffer(self.weights[name], self._widened(name))
            yield
        finally:
            for buffer in self.weights.values():
                if hasattr(self.module, buffer):
                    delattr(self.module, buffer)

    def name(self, weight: Tensor) -> str:
        """The name of ``weight`` in the network; empty for a computed one."""
        return next((name for name, known in self.module.named_parameters() if known is weight), "")

    def given(self, rows: Rows, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """``x`` with one more column, and the weight for it; None for a layer that holds nothing."""
        buffer = self.weights.get(self.name(weight))
        if buffer is None:
            return None
        within = rows.within()
        return torch.cat([torch.where(within, x, 0.0), 1 - within.to(x.dtype)], -1), getattr(self.module, buffer)

    def _widened(self, name: str) -> Tensor:
        """weight_ih (4 H, F) of ``name`` with the column that closes i and opens f: (4 H, F + 1)."""
        known = dict(self.module.named_parameters())
        if name not in known or name.replace("weight_ih", "weight_hr") in known:
            raise UnsupportedError(CELL)
        weight, state = known[name].detach(), known[name.replace("weight_ih", "weight_hh")].detach()
        biases = [
            known[part].detach()
            for kind in ("ih", "hh")
            if (part := name.replace("weight_ih", f"bias_{kind}")) in known
        ]
        against = state.abs().sum(1) + sum(bias.abs() for bias in biases)  # of a state within -1..1
        gate = torch.tensor([-1.0, 1.0, 0.0, 0.0]).repeat_interleave(len(weight) // 4)
        return torch.cat([weight, (gate * (against.max() + self.CLOSED))[:, None]], 1)
