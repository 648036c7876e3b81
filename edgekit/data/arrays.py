"""``npz:FILE``: arrays named like the model's inputs (or ``inputs``), plus ``labels``; fed as they are."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from edgekit.data.dataset import Dataset, choose_split
from edgekit.errors import DataError
from edgekit.types import Array


def read_npz(file: Path) -> dict[str, Array]:
    """The arrays of an .npz file, by name. Object arrays are refused: they are pickles.

    Raises:
        DataError: missing, not an .npz file, cut short, or holding objects.
    """
    try:
        opened = np.load(file, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{file} holds one bare array; an .npz with named arrays is needed (numpy.savez)")
        with opened:
            return {name: opened[name] for name in opened.files}
    except FileNotFoundError as error:
        raise DataError(f"{file} does not exist; npz:FILE takes the path of an .npz file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as .npz: {error}") from error


def open_npz(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``npz:FILE``.

    Raises:
        DataError: see :func:`read_npz`; or arrays of different length, labels that are no class indices.
    """
    arrays = read_npz(Path(argument))
    labels = arrays.pop("labels", None)
    if not arrays:
        raise DataError(f"{argument} holds no input array; it needs one named like each model input, or 'inputs'")
    lengths = {key: len(value) if value.ndim else -1 for key, value in arrays.items()}
    if labels is not None:
        lengths["labels"] = len(labels) if labels.ndim else -1
    if len(set(lengths.values())) != 1 or -1 in lengths.values():
        listed = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise DataError(
            f"{argument}: the arrays must have the same number of samples on their first axis, got {listed}"
        )
    classes: tuple[str, ...] = ()
    if labels is not None:
        labels = _class_indices(argument, labels)
        classes = tuple(str(k) for k in range(int(labels.max(initial=-1)) + 1))
    whole = Dataset(name, "all", "array", arrays, labels, classes)
    return choose_split(whole, split, default_split)


def _class_indices(argument: str, labels: Array) -> Array:
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise DataError(
            f"{argument}: labels must be one class index a sample (integers, 1-D), got {labels.dtype} with shape "
            f"{labels.shape}"
        )
    if labels.size and int(labels.min()) < 0:
        raise DataError(f"{argument}: labels must be 0 or more, got {int(labels.min())}")
    return labels.astype(np.int64)
