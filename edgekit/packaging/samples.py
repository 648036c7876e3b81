"""Raw samples that a package's self-test makes tensors of: seeded, awkward on purpose (another size, unknown words)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit.data.logmel import from_params
from edgekit.data.preprocess import apply_contract
from edgekit.packaging.base import Sample
from edgekit.types import Array, InputSpec

_ROUNDING = 2e-5
"""Of float32 arithmetic in another order, relative to the largest value; logarithms of small powers add some."""
_OVERSHOOTING = ("bicubic", "lanczos")
"""A picture is resized along one side, rounded to bytes, and resized along the other. Which side is first depends on
Pillow (the horizontal one up to 12, the cheaper one in 13), which moves a byte by one; by two with filters that have
negative weights."""


def sample_of(rule: InputSpec, shape: tuple[int, ...], dtype: str, exact: bool = False) -> Sample | None:
    """A raw sample for an input and the tensor it becomes; None for a kind that is fed as it is.

    ``exact``: a picture has the size and channels of the input, for targets that do not resize.
    """
    make = _MAKERS.get(rule.kind)
    if make is None:
        return None
    raw = make(rule, shape, exact)
    whole = np.dtype(dtype).kind in "iu" and rule.kind == "text"
    given: Any = np.asarray(raw) if isinstance(raw, str) else raw
    tensor = apply_contract([given[0] if rule.kind == "table" else given], rule, dtype if whole else "float32")[:1]
    return Sample(raw, tensor, 0.0 if whole else _tolerance(rule, tensor, exact))


def _tolerance(rule: InputSpec, tensor: Array, exact: bool) -> float:
    rounding = _ROUNDING * float(np.abs(tensor).max(initial=1.0))
    if rule.kind == "audio":
        return 10 * rounding
    if rule.kind != "image" or exact:
        return rounding
    level = rule.scale / min(rule.std or (1.0,))
    return rounding + level * (2 if rule.params.get("interpolation") in _OVERSHOOTING else 1)


def _random(count: int) -> Array:
    """``count`` numbers from 0 to 1 that are the same everywhere."""
    raw = np.asarray(np.random.PCG64(np.random.SeedSequence([7])).random_raw(count), np.uint64)
    return np.asarray((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _image(rule: InputSpec, shape: tuple[int, ...], exact: bool) -> Array:
    """A slope with noise on it, somewhat larger than the input and not of its proportions."""
    height, width = rule.size or (shape[2:4] if rule.layout == "NCHW" else shape[1:3])
    channels = rule.channels or 3
    if not exact:
        height, width, channels = height + height // 3 + 5, width + width // 7 + 3, 3
    slope = np.linspace(0, 160, height)[:, None, None] + np.linspace(0, 60, width)[None, :, None]
    noise = 35 * _random(height * width * channels).reshape(height, width, channels)
    return np.asarray(slope + noise, np.uint8)


def _audio(rule: InputSpec, shape: tuple[int, ...], exact: bool) -> Array:
    """A tone that swells and falls off over noise, half as long again as the input takes."""
    features = from_params(rule.params)
    count = 3 * features.samples(int(rule.params["frames"])) // 2
    time = np.arange(count) / features.rate
    swell = np.exp(-(((np.arange(count) / count - 0.6) / 0.2) ** 2))
    tone = 0.4 * swell * np.sin(2 * math.pi * 0.1 * features.rate * time)
    return np.asarray(tone + 0.01 * (_random(count) - 0.5), np.float32)


def _text(rule: InputSpec, shape: tuple[int, ...], exact: bool) -> str:
    """Known words, longer forms of them, unknown ones, marks, and what English runs together."""
    words = [word for word in str(rule.params["vocabulary"]).split() if word.isalpha()][:400:37] or ["a"]
    return (
        f"{words[0].title()} isn’t THE {words[-1]}ings, qzx {words[len(words) // 2]}'s don't; “über” 42! "
        + " ".join(words)
    )


def _table(rule: InputSpec, shape: tuple[int, ...], exact: bool) -> Array:
    return _rows(1, shape[-1], rule)


def _series(rule: InputSpec, shape: tuple[int, ...], exact: bool) -> Array:
    return _rows(int(rule.params.get("history", shape[1])) + 3, shape[-1], rule)


def _rows(count: int, columns: int, rule: InputSpec) -> Array:
    mean = np.asarray(rule.mean or (0.0,) * columns)
    std = np.asarray(rule.std or (1.0,) * columns)
    values = (mean + std * (4 * _random(count * columns).reshape(count, columns) - 2)) / rule.scale
    return np.asarray(values, np.float32)


_MAKERS: Mapping[str, Callable[[InputSpec, tuple[int, ...], bool], Array | str]] = {
    "image": _image, "audio": _audio, "text": _text, "table": _table, "series": _series,
}  # fmt: skip
