"""What a kind of data is: how its raw samples become tensors, and how one user input is read. One module a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import DataError
from edgekit.types import Array, InputSpec


@dataclass(frozen=True, slots=True)
class DataKind:
    """One entry of the registry's table ``kinds``.

    Attributes:
        encode: raw samples (first axis = sample) and the spec -> one model-ready batch, without the dtype cast.
        read: what the user gave for one input (a path, a sentence) -> one raw sample.
        suffixes: file suffixes by which an input is recognised where the model has no contract.
        columns: the names of the columns of one input, where its file gives them (the path -> names, or none).
        arrange: samples, the names of their columns and the spec -> samples with the spec's columns, in its
            order.
        remarks: raw samples and the spec -> what the user should know about them (words that are not known, a text
            that is cut), one line each.
    """

    encode: Callable[[Sequence[Array] | Array, InputSpec], Array]
    read: Callable[[str], Array]
    suffixes: tuple[str, ...] = ()
    columns: Callable[[str], tuple[str, ...]] | None = None
    arrange: Callable[[Sequence[Array] | Array, tuple[str, ...], InputSpec], Sequence[Array] | Array] | None = None
    remarks: Callable[[Sequence[Array] | Array, InputSpec], tuple[str, ...]] | None = None


LUMA = (0.299, 0.587, 0.114)
"""Grey of red, green and blue, as Pillow and ITU-R BT.601 have it."""


def colours(contract: InputSpec) -> str:
    """``RGB``, ``BGR`` or ``grey``: what the channels of an image are."""
    return "grey" if contract.channels == 1 else str(contract.params.get("color", "RGB"))


def mixing(source: str, target: str) -> Array:
    """The channels of ``target`` of those of ``source``, float64 (channels out, channels in)."""
    if source == target:
        return np.eye(1 if source == "grey" else len(LUMA))
    if source == "grey":
        return np.ones((len(LUMA), 1))
    if target == "grey":
        return np.array([LUMA if source == "RGB" else LUMA[::-1]])
    return np.eye(len(LUMA))[::-1]


def affine(contract: InputSpec, width: int) -> tuple[Array, Array]:
    """``(factor, offset)``, float32 of length ``width``, with model value = raw * factor + offset.

    Raises:
        DataError: the spec has another number of channels or columns than the raw samples.
    """
    mean = np.asarray(contract.mean or (0.0,) * width, np.float64)
    std = np.asarray(contract.std or (1.0,) * width, np.float64)
    if mean.size != width or std.size != width:
        raise DataError(
            f"the samples have {width} {'channels' if contract.kind == 'image' else 'columns'}, the model was made for "
            f"{max(mean.size, std.size)}; give data of the kind it was trained on"
        )
    return (contract.scale / std).astype(np.float32), (-mean / std).astype(np.float32)
