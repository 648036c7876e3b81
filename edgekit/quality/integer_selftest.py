"""The self-test of a quantized file: its own outputs, and how far another device may be from them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgekit.types import Feed, SelfTest

SEED = 0
STEPS = 3
"""Tolerance of a quantized file's self-test, in steps of its outputs: kernels of other CPUs round elsewhere, and a
rounding that falls the other way moves an output by one step; two on the way to it move it by another each."""
SELFTEST_VALUES = 64
"""Values of each output that a self-test keeps."""


def selftest_of(outputs: Feed, integers: bool, steps: Iterable[float] = ()) -> SelfTest | None:
    """The self-test of a quantized file: its own outputs, and how far another device may be from them; None where there
    are none, or none that are finite, as where a random mask hides everything.

    Integer arithmetic: :data:`STEPS` steps of the outputs. Such a step is the scale that the file itself gives an
    output, which covers what calibration saw and so may be larger than what one sample fills; or 1/255 of the range of
    these outputs, where that is larger: layers before the last have eight bits, too. Weights held in fewer bits only:
    1e-4 of the largest output, as for float files.

    Args:
        outputs: by name, of the seeded feed :data:`SEED`.
        integers: whether an operator of the file computes on integers.
        steps: scales of the outputs that come out of integers, in the units of the outputs.
    """
    if not outputs:
        return None
    values = np.concatenate([np.asarray(v, np.float64).ravel() for v in outputs.values()])
    if not np.isfinite(values).all():
        return None
    reach = float(np.abs(values).max(initial=0.0))
    spread = float(max(values.max(initial=0.0), 0.0) - min(values.min(initial=0.0), 0.0))
    tolerance = STEPS * max(spread / 255, *steps, 0.0) if integers else 1e-4 * max(reach, 1.0)
    kept = {name: np.asarray(v, np.float64).ravel()[:SELFTEST_VALUES] for name, v in outputs.items()}
    vectors = {name: tuple(values.round(7).tolist()) for name, values in kept.items()}
    return SelfTest(SEED, vectors, max(tolerance, 1e-6))
