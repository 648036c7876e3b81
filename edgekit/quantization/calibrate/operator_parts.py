"""Values that exporters write out where eager torch has one operator: the parts of a normalisation, say.

They have no tensor in the module, and yet a file made from it needs their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

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
