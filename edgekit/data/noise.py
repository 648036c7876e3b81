"""The ``noise`` kind: what a generator starts from, standard normal values, the same on every machine for a seed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from edgekit.data.kind import DataKind
from edgekit.errors import DataError
from edgekit.limits import check
from edgekit.types import Array, InputSpec

COUNT = 64
"""Samples where the user does not say how many: a grid of eight by eight."""
MOST = 65_536
"""More samples than this are taken for a slip of the finger."""
_BLOCK = 1 << 20
"""Values made at once."""
_WORK = 64
"""Bytes that making one value of a sample takes."""


def normal(seed: int, count: int, shape: tuple[int, ...]) -> Array:
    """``count`` float32 samples of ``shape``, standard normal (Box and Muller, 1958); sample k is the same for any
    ``count`` above k.

    Raises:
        LimitError: more than an input may have.
    """
    values = math.prod(shape)
    check("INPUT_BYTES", max(_WORK * values, 4 * values * count), f"{count:,} samples of noise of {shape}")
    pairs = -(-values // 2)
    bits = np.random.PCG64(np.random.SeedSequence([seed]))
    made = np.empty((count, values), np.float32)
    step = max(1, _BLOCK // max(values, 1))
    for start in range(0, count, step):
        part = made[start : start + step]
        raw = np.asarray(bits.random_raw(2 * pairs * len(part)), np.uint64)
        uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
        radius, angle = np.split(uniform.reshape(len(part), 2, pairs), 2, axis=1)
        radius = np.sqrt(-2.0 * np.log(radius))
        both = np.concatenate([radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)], axis=1)
        part[:] = both.reshape(len(part), 2 * pairs)[:, :values]
    return made.reshape(count, *shape)


def spelled(given: str) -> tuple[int, int] | None:
    """(samples, seed) of ``noise``, ``noise:64`` or ``noise:64@7``; None for any other text.

    Raises:
        DataError: a number of samples that is out of range.
    """
    match = re.fullmatch(r"noise(?::(-?[0-9]{1,18}))?(?:@([0-9]{1,18}))?", given)
    if match is None:
        return None
    count = COUNT if match[1] is None else int(match[1])
    if not 1 <= count <= MOST:
        raise DataError(f"{given} asks for {count} samples; give 1 to {MOST:,}, as in noise:{COUNT}")
    return count, int(match[2] or 0)


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """Noise is fed as it is."""
    return np.stack([np.asarray(row) for row in raw])


def read(given: str) -> Array:
    """Nothing but noise can be read as noise.

    Raises:
        DataError: always; noise of the right shape is made where the shape is known.
    """
    raise DataError(
        f"the model is a generator and takes noise, which {given!r} is not; give noise:{COUNT}, noise:{COUNT}@SEED, "
        "or an .npz"
    )


KIND = DataKind(encode, read)
