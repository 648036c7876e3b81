"""Values that a torch module has no tensor for, and yet a file made from it needs their ranges: what exporters write
out where eager torch has one operator (the parts of a normalisation), and what happens inside of stacked recurrent
layers, which give their last layer only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Parts = Mapping[str, Tensor]


def parts_of(operator: str, args: Sequence[Any]) -> Parts:
    """Name -> value inside of an ATen operator; nothing for one that exporters keep whole."""
    made = _PARTS.get(operator)
    return {} if made is None else made(*args)


def _layer_norm(x: Tensor, shape: Sequence[int], weight: Any, bias: Any, epsilon: float) -> Parts:
    """Ba et al. 2016, as litert-torch writes it, with and without the scale and shift folded in."""
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    square = centred * centred
    variance = square.mean(axes, keepdim=True)
    rate = torch.rsqrt(variance + epsilon)
    parts = {
        "mean": mean,
        "centred": centred,
        "square": square,
        "variance": variance,
        "variance+epsilon": variance + epsilon,
        "deviation": 1 / rate,
        "rate": rate,
        "scaled": x * rate,
        "mean*rate": mean * rate,
        "-mean*rate": -mean * rate,
        "normalised": centred * rate,
    }
    if weight is not None:
        scale = rate * weight
        parts |= {
            "scale": scale,
            "scaled*weight": x * scale,
            "mean*scale": mean * scale,
            "-mean*scale": -mean * scale,
            "normalised*weight": centred * scale,
        }
        if bias is not None:
            parts["bias-mean*scale"] = bias - mean * scale
    return parts


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Parts:
    """A linear layer on more than two axes is a product and an addition in ONNX."""
    return {"product": x @ weight}


def _gelu(x: Tensor) -> Parts:
    """Hendrycks and Gimpel 2016: x/2 (1 + erf(x / sqrt 2)), and the form with tanh."""
    cubic = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return {
        "half": x / 2,
        "x/sqrt2": x / math.sqrt(2),
        "erf": torch.erf(x / math.sqrt(2)),
        "1+erf": 1 + torch.erf(x / math.sqrt(2)),
        "x*(1+erf)": x * (1 + torch.erf(x / math.sqrt(2))),
        "cube": x**3,
        "inner": cubic,
        "tanh": torch.tanh(cubic),
        "1+tanh": 1 + torch.tanh(cubic),
    }


def _silu(x: Tensor) -> Parts:
    return {"sigmoid": torch.sigmoid(x)}


def _hardswish(x: Tensor) -> Parts:
    gate = torch.clamp(x + 3, 0, 6)
    return {"x+3": x + 3, "gate": gate, "gate/6": gate / 6, "x*gate": x * gate}


_PARTS: Mapping[str, Callable[..., Parts]] = {
    "native_layer_norm": _layer_norm,
    "addmm": _addmm,
    "gelu": _gelu,
    "silu": _silu,
    "hardswish": _hardswish,
}


def inner_states(stack: nn.RNNBase, given: Any, state: Any = None) -> Iterator[tuple[str, Tensor]]:
    """Values inside of an RNN, GRU or LSTM ``stack`` on the input ``given``, for layer 0 (T steps, B batch, H units):

    ``l0`` its outputs, as the stack gives its own; ``l0:state`` its last (B, H); ``l0:gates`` what the input gives to
    the gates (T, B, G H), ``l0:gates:first`` the first of them; ``l0:cell`` an LSTM's cell states (T, B, H). In the
    other direction ``_reverse`` is added.

    Nothing for packed sequences, projections and a state that is given: files with these are calibrated themselves.
    """
    if not isinstance(given, Tensor) or given.ndim != 3 or state is not None or stack.proj_size:
        return
    x = given
    for layer in range(stack.num_layers):
        directions = []
        for suffix in ("", "_reverse")[: 2 if stack.bidirectional else 1]:
            steps = x.transpose(0, 1) if stack.batch_first else x
            steps = steps.flip(0) if suffix else steps
            single = _single(stack, layer, suffix)
            outputs, cells = _run(single, steps)
            gates = _gates(single, steps)
            yield f"l{layer}:state{suffix}", outputs[-1]
            yield f"l{layer}:gates{suffix}", gates
            yield f"l{layer}:gates:first{suffix}", gates[..., : stack.hidden_size]
            if cells is not None:
                yield f"l{layer}:cell{suffix}", cells
            outputs = outputs.flip(0) if suffix else outputs
            directions.append(outputs.transpose(0, 1) if stack.batch_first else outputs)
        x = torch.cat(directions, -1)
        yield f"l{layer}", x


def _single(stack: nn.RNNBase, layer: int, suffix: str) -> nn.RNNBase:
    """One layer in one direction, time first, with the stack's own weights."""
    weight = getattr(stack, f"weight_ih_l{layer}{suffix}")
    options = {"nonlinearity": stack.nonlinearity} if isinstance(stack, nn.RNN) else {}
    single = type(stack)(weight.shape[1], stack.hidden_size, 1, bias=stack.bias, **options)
    single.load_state_dict(
        {name: getattr(stack, name.replace("_l0", f"_l{layer}{suffix}")) for name in single.state_dict()}
    )
    return single.eval()


def _gates(layer: nn.RNNBase, x: Tensor) -> Tensor:
    """Weights of the input and both biases; a GRU's bias of the state at n stands inside of its reset gate."""
    named = dict(layer.named_parameters())
    gates = x @ named["weight_ih_l0"].T
    if not layer.bias:
        return gates
    inner, both = named["bias_ih_l0"], named["bias_ih_l0"] + named["bias_hh_l0"]
    if isinstance(layer, nn.GRU):
        new = 2 * layer.hidden_size
        both = torch.cat([both[:new], inner[new:]])
    return gates + both


def _run(layer: nn.RNNBase, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(T, B, I) -> outputs (T, B, H), and the cell states of an LSTM (T, B, H), one step at a time."""
    if not isinstance(layer, nn.LSTM):
        return layer(x)[0], None
    outputs, cells, state = [], [], None
    for step in x:
        output, state = layer(step[None], state)
        outputs.append(output)
        cells.append(state[1])
    return torch.cat(outputs), torch.cat(cells)
