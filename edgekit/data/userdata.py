"""``file.py:function``: data that the user's own code gives.

``function(split)`` gives a torch Dataset, or an iterable of ``(inputs, target)``. ``inputs`` is a picture (of Pillow,
or uint8, height x width x 1 or 3), a text, or an array (a dict of arrays by the names of the model's inputs) that is
fed as it is. ``target`` is the number of a class, or whatever the metric takes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.images import flat
from edgekit.errors import DataError
from edgekit.types import Array
from edgekit.usercode import a_value, explained, named

SINGLE = "inputs"
"""Name of the array where a sample is one array and not a dict of them."""


def open_function(_name: str, spelled: str, split: str, default_split: str) -> Dataset:
    """The data set that ``file.py:function`` gives for ``split``.

    Raises:
        DataError: the function raises, or what it gives is not samples with their targets, all of one kind.
    """
    split = split or default_split
    function = named(spelled, DataError)
    if not callable(function):
        raise DataError(f"{spelled} is {a_value(function)}; data come from a function of the split")
    with explained(f"calling {spelled}({split!r})", DataError):
        given = function(split)
    pairs = _Pairs(given, spelled)
    if not len(pairs):
        raise DataError(f"{spelled} gave no samples for the split {split!r}")
    first = pairs.input(0)
    kind = _kind(first, spelled)
    arrays: dict[str, Sequence[Any]]
    if kind == "array":
        names = list(first) if isinstance(first, Mapping) else [SINGLE]
        arrays = {name: _Field(pairs, name if isinstance(first, Mapping) else None) for name in names}
    else:
        arrays = {kind: _Field(pairs, None, _pixels if kind == "image" else str)}
    data = Dataset(spelled, split, kind, arrays)
    first_target = pairs.target(0)
    if first_target is None:
        return data
    if _is_class(first_target):
        classes = getattr(given, "classes", ())
        known = tuple(str(one) for one in classes) if isinstance(classes, list | tuple) else ()
        return replace(data, labels=_labels(given, pairs, spelled), classes=known)
    if isinstance(first_target, float | np.floating):
        values = np.array([pairs.target(k) for k in range(len(pairs))], np.float32)
        return replace(data, targets=values[:, None])
    return replace(data, answers=_Targets(pairs))


class _Pairs:
    """``(inputs, target)`` by index: decoded on access where the data set has an index, else all at once.

    The sample that was asked for last is kept: its inputs and its target are asked for one after the other.
    """

    def __init__(self, given: Any, spelled: str) -> None:
        self._spelled = spelled
        self._last: tuple[int, Any] = (-1, None)
        if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, str | bytes | Mapping):
            self._given: Any = given
        elif isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
            with explained(f"reading what {spelled} gave", DataError):
                self._given = list(given)
        else:
            raise DataError(
                f"{spelled} gave {a_value(given)}; it gives a torch Dataset, or an iterable of (inputs, target)"
            )

    def __len__(self) -> int:
        return len(self._given)

    def _pair(self, index: int) -> tuple[Any, Any]:
        if index >= len(self):
            raise IndexError(index)  # which ends an iteration; what the user's code raises is an error of theirs
        if self._last[0] != index:
            with explained(f"reading sample {index} of {self._spelled}", DataError):
                pair = self._given[index]
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                shown = f"{len(pair)} values" if isinstance(pair, tuple | list) else a_value(pair)
                raise DataError(f"sample {index} of {self._spelled} is {shown}; a sample is (inputs, target)")
            self._last = (index, (pair[0], pair[1]))
        found: tuple[Any, Any] = self._last[1]
        return found

    def input(self, index: int) -> Any:
        return self._pair(index)[0]

    def target(self, index: int) -> Any:
        return plain(self._pair(index)[1])


class _Field(Sequence[Any]):
    """One input of all samples."""

    def __init__(self, pairs: _Pairs, name: str | None, read: Any = None) -> None:
        self._pairs, self._name, self._read = pairs, name, read or plain

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        value = self._pairs.input(operator.index(index))
        if self._name is not None:
            if not isinstance(value, Mapping) or self._name not in value:
                raise DataError(f"sample {index} has no input {self._name!r}, which the first one has")
            value = value[self._name]
        return self._read(value)


class _Targets(Sequence[Any]):
    def __init__(self, pairs: _Pairs) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        return self._pairs.target(operator.index(index))


def plain(value: Any) -> Any:
    """Tensors as arrays, in dicts, lists and tuples, too; everything else as it is."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value) if type(value) in (list, tuple) else value
    return value


def _kind(first: Any, spelled: str) -> str:
    """What the first sample's inputs are; the others have to be the same."""
    if isinstance(first, str):
        return "text"
    if _is_picture(first):
        return "image"
    values = [plain(value) for value in (first.values() if isinstance(first, Mapping) else [first])]
    for value in values:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DataError(f"the inputs of {spelled} are ragged: {error}; give arrays of one shape") from error
        if array.dtype.kind not in "fiub":
            raise DataError(
                f"the inputs of {spelled} are of the type {type(value).__name__}; give an array, a tensor, a picture, "
                "a text, or a dict of arrays by the names of the model's inputs"
            )
    return "array"


def _is_picture(value: Any) -> bool:
    if type(value).__module__.startswith("PIL."):
        return True
    array = plain(value)
    return isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] in (1, 3)


def _pixels(value: Any) -> Array:
    if type(value).__module__.startswith("PIL."):
        value = np.asarray(flat(value), np.uint8)
    array = np.asarray(plain(value))
    return array[..., None] if array.ndim == 2 else array


def _labels(given: Any, pairs: _Pairs, spelled: str) -> Array:
    """The number of each sample's class; from ``targets``, as torchvision's data sets have it, without decoding."""
    known = getattr(given, "targets", None)
    listed = known if known is not None and len(known) == len(pairs) else None
    values = [plain(v) for v in listed] if listed is not None else [pairs.target(k) for k in range(len(pairs))]
    for index, value in enumerate(values):
        if not _is_class(value):
            raise DataError(
                f"the target of sample {index} of {spelled} is {str(value)[:60]}, that of sample 0 is a class's number"
            )
        if int(value) < 0:
            raise DataError(f"the target of sample {index} of {spelled} is {int(value)}; classes are counted from 0")
    return np.array([int(value) for value in values], np.int64)


def _is_class(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu")
    return whole and not isinstance(value, bool | np.bool_) and np.ndim(value) == 0
