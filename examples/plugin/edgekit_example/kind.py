"""The kind ``wave``: raw samples are 16 levels each; one input is a ``.wave`` file with a level a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.data.kind import DataKind, affine
from edgekit.errors import DataError
from edgekit.types import Array, InputSpec


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """Raw samples -> float32 (N, 16), normalised as the model was trained."""
    levels = np.stack([np.asarray(one, np.float32) for one in raw])
    factor, offset = affine(contract, levels.shape[1])
    return levels * factor + offset


def read(path: str) -> Array:
    """``edgekit run s.onnx one.wave``: the levels in a file."""
    try:
        return np.loadtxt(path, np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a wave: {error}; give a file with one number a line") from error


KIND = DataKind(encode, read, suffixes=(".wave",))
