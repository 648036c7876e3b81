"""Steps that put the state of a fused LSTM or RNN back to zeros: what goes into them, and the weights it meets.

A layer that keeps its state between calls takes ``k`` steps more, in front of the first one, and ``n`` inputs more,
which are zero in every step but these and have columns of weights of their own. B: batch, I: inputs, H: hidden units.

- LSTM, real inputs: one step, one input. Its weights are minus the largest weight of each matrix of the input, forget
  and output gate, so that a matrix with one scale is quantized as before (with one a row: minus what the row's integers
  reach); its value is so large that these gates shut
  whatever the state is: c = f c + i g and h = o tanh(c) are 0 exactly.
- RNN with ReLU: the same, where the sum below zero gives 0.
- RNN with tanh, which is 0 at one place only: a step that makes every h -1, and one whose inputs cancel what the
  operator makes of that. One of them is 127 times finer than the others, so that weights of int8 cancel it, too.
- LSTM of integers: its inputs have one scale, so that some of the largest value are needed to reach -8, the end of the
  gates' numbers (Q3.12). The kernel adds the state's part to that, which may open a gate again: steps are taken until
  h is 0 and what c was counts for nothing, by bounds from the weights.

Sources: TensorFlow Lite, ``kernels/lstm_eval.cc`` (CalculateLstmGateFloat, CalculateLstmGateInteger8x8_16), and
``kernels/internal/kernel_utils.cc`` (RnnBatchStep).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.quantization.tflite.integers import Scale
from edgekit.types import Array

Weights = tuple[Array, Array, Array]
"""Of the input (H, I), of the state (H, H), bias (H)."""
SHUT = 128.0
"""What a gate's sum is below zero, at least: exp(-104) is 0 in float32, and rounded weights move the sum by less than
the rest. tanh is -1 from -9 on."""
BEYOND = 1e30
"""The same for an RNN with ReLU, whose state has no bound."""
_LEAST = 1e-6
"""Smaller weights get a column of this size: a matrix of them gives nothing for inputs below a hundred thousand."""
_INTEGER_END, _INTEGER_ONE = 8.0, 2.0**-15
"""End of the sum of an integer gate, and a step of its sigmoid."""
_FINE = 127.0
_APART = 16.0
"""Inputs are powers of this, so that most layers of a file have the same, which stand in it once."""
_MOST_STEPS = 16


@dataclass(frozen=True)
class Reset:
    """What a layer takes more.

    Attributes:
        columns: place of an input of the operator that holds weights -> (H, n).
        rows: (k, n), the added inputs in the added steps.
    """

    columns: Mapping[int, Array]
    rows: Array


def shut(sums: Mapping[int, Weights], beyond: float, reaches: Mapping[int, Array] | None = None) -> Reset:
    """One step whose one input takes all ``sums``, by the place of their weights, to ``-beyond`` or less.

    Args:
        reaches: place -> (H,), the largest weight that the scale of each row can hold, where each has its own.
    """
    columns, value = {}, 0.0
    for place, (w, r, b) in sums.items():
        one = np.full(len(w), max(float(np.abs(w).max()), _LEAST))
        largest = one if reaches is None else reaches.get(place, one)
        columns[place] = -largest[:, None]
        value = max(value, float(((np.abs(r).sum(1) + b + beyond) / largest).max()))
    return Reset(columns, np.array([[_power(value)]]))


def cancelled(place: int, weights: Weights, value: float, rounded: Callable[[Array], Array]) -> Reset:
    """Two steps: all units at -1, then at 0.

    Args:
        value: of the inputs that do it, at least :func:`cancelling` of the weights.
        rounded: numbers -> the nearest that the weights can hold.
    """
    w, r, b = weights
    largest = max(float(np.abs(w).max()), _LEAST)
    low = (float((np.abs(r).sum(1) + np.abs(w).sum(1) + b).max()) + SHUT) / largest  # inputs as of a layer before
    wanted = _missing(r, b) / value
    first = rounded(wanted / 2)
    second = rounded(wanted - first)
    fine = rounded((wanted - first - second) * _FINE)
    columns = np.stack([np.full(len(w), -largest), first, second, fine], 1)
    return Reset({place: columns}, np.array([[_power(low), 0, 0, 0], [0, value, value, value / _FINE]]))


def cancelling(weights: Weights) -> float:
    """The least value for :func:`cancelled`: with it, the largest weight of two inputs is what one unit needs. The less
    it is, the finer are the steps of rounded weights."""
    w, r, b = weights
    return float(np.abs(_missing(r, b)).max()) / (2 * max(float(np.abs(w).max()), _LEAST))


def _missing(r: Array, b: Array) -> Array:
    """What takes the sums of units at -1 to 0."""
    missing: Array = r.sum(1) - b
    return missing


def _power(least: float) -> float:
    return float(_APART ** math.ceil(math.log(max(least, 1.0), _APART)))


def shut_integers(sums: Mapping[int, Weights], taken: Scale, given: Scale, cell_step: float) -> Reset | None:
    """Steps that shut integer gates; None where the weights of the state are too large for that.

    Args:
        sums: of the input, forget and output gate.
        taken, given: scales of the input, and of h.
        cell_step: of the integers of c.
    """
    far = max(taken.reals(), key=abs)
    largest = {place: max(float(np.abs(w).max()), _LEAST) for place, (w, _, _) in sums.items()}
    inputs = (((_INTEGER_END + float(b.max())) / (largest[place] * abs(far))) for place, (_, _, b) in sums.items())
    count = max(1, math.ceil(max(inputs)))
    steps = _steps([r for _, r, _ in sums.values()], given, cell_step)
    columns = {
        place: np.full((len(w), count), -math.copysign(largest[place], far)) for place, (w, _, _) in sums.items()
    }
    return None if steps is None else Reset(columns, np.full((steps, count), far))


def _steps(states: list[Array], given: Scale, cell_step: float) -> int | None:
    """Steps after which gates that get -8 leave nothing of the state before; ``states``: weights of it at each."""
    h = np.full(len(states[0]), max(map(abs, given.reals())))
    c = np.full(len(h), cell_step / _INTEGER_ONE)
    for taken in range(1, _MOST_STEPS + 1):
        sums = (np.abs(r) @ h - _INTEGER_END for r in states)
        i, f, o = (1 / (1 + np.exp(-one)) + 2 * _INTEGER_ONE for one in sums)
        kept, settled = f * c, not h.any()
        c = kept + i
        h = o * np.tanh(c)
        h[h < given.step / 2] = 0
        if settled and kept.max() < cell_step / 2:
            return taken
    return None
