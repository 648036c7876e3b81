"""The self-test of a quantized file: its own outputs, and how far another device may be from them."""

from __future__ import annotations

import numpy as np

from edgekit.types import Feed, SelfTest

CALIBRATED = ("int8", "int16x8")
"""Schemes with integer activations, whose ranges come from data."""
SEED = 0
STEPS = 3
"""Tolerance of a quantized file's self-test, in steps of 1/255 of the outputs' range: kernels of other CPUs round
elsewhere, and a rounding that falls the other way moves an output by one step."""
SELFTEST_VALUES = 64
"""Values of each output that a self-test keeps."""


def selftest_of(outputs: Feed, scheme: str) -> SelfTest:
    """The self-test of a quantized file: its own outputs, and how far another device may be from them.

    Integer arithmetic: :data:`STEPS` steps of 1/255 of the range of the outputs. Weights held in fewer bits only:
    1e-4 of the largest output, as for float files.
    """
    values = np.concatenate([np.asarray(v, np.float64).ravel() for v in outputs.values()])
    reach = float(np.abs(values).max(initial=0.0))
    spread = float(max(values.max(initial=0.0), 0.0) - min(values.min(initial=0.0), 0.0))
    tolerance = STEPS * spread / 255 if scheme in (*CALIBRATED, "int8-dynamic") else 1e-4 * max(reach, 1.0)
    kept = {name: np.asarray(v, np.float64).ravel()[:SELFTEST_VALUES] for name, v in outputs.items()}
    vectors = {name: tuple(values.round(7).tolist()) for name, values in kept.items()}
    return SelfTest(SEED, vectors, max(tolerance, 1e-6))
