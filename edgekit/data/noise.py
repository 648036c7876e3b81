"""The ``noise`` kind: what a generator starts from, standard normal values, the same on every machine for a seed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from edgekit.data.kind import Kind
from edgekit.errors import DataError
from edgekit.types import Array, InputContract

COUNT = 64
"""Samples where the user does not say how many: a grid of eight by eight."""
MOST = 65_536
"""More samples than this are taken for a slip of the finger."""


def normal(seed: int, count: int, shape: tuple[int, ...]) -> Array:
    """``count`` float32 samples of ``shape``, standard normal (Box and Muller, 1958); sample k is the same for any
    ``count`` above k."""
    values = int(np.prod(shape, dtype=np.int64))
    pairs = -(-values // 2)
    bits = np.random.PCG64(np.random.SeedSequence([seed])).random_raw(2 * pairs * count)
    uniform = ((np.asarray(bits, np.uint64) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
    radius, angle = np.split(uniform.reshape(count, 2, pairs), 2, axis=1)
    radius = np.sqrt(-2.0 * np.log(radius))
    both = np.concatenate([radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)], axis=1)
    return both.reshape(count, 2 * pairs)[:, :values].reshape(count, *shape).astype(np.float32)


def spelled(given: str) -> tuple[int, int] | None:
    """(samples, seed) of ``noise``, ``noise:64`` or ``noise:64@7``; None for text that is none of these.

    Raises:
        DataError: a number of samples that makes no sense.
    """
    match = re.fullmatch(r"noise(?::(-?\d+))?(?:@(\d+))?", given)
    if match is None:
        return None
    count = COUNT if match[1] is None else int(match[1])
    if not 1 <= count <= MOST:
        raise DataError(f"{given} asks for {count} samples; give 1 to {MOST:,}, as in noise:{COUNT}")
    return count, int(match[2] or 0)


def encode(raw: Sequence[Array] | Array, contract: InputContract) -> Array:
    """Noise is fed as it is."""
    return np.stack([np.asarray(row) for row in raw])


def read(given: str) -> Array:
    """Nothing but noise can be read as noise.

    Raises:
        DataError: always; noise of the right shape is made where the shape is known.
    """
    raise DataError(
        f"a generator starts from noise, which {given!r} is not; give noise:{COUNT}, noise:{COUNT}@SEED, or an .npz"
    )


KIND = Kind(encode, read)
