"""The data set: named raw samples with labels, a split, and how to open one from its spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import registry
from edgekit.errors import DataError, UsageError
from edgekit.types import Array
from edgekit.usercode import is_code

SPLITS = ("train", "test", "all")
OF_FOLDERS = (*SPLITS, "val")
"""Splits that data of the user's own may have."""
_FUNCTION = "function"
"""The reader of what is spelled ``file.py:function``."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")
TEST_SHARE = 0.2
"""Share of the samples in ``@test`` where a set has no split of its own."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader whose set is published in other splits than train and test; a plain function is a reader too.

    Attributes:
        open: (name, split) -> data set.
        splits: what may follow the ``@``.
        held_out: splits never trained on; the figures of a trained checkpoint are of these, the first is its headline.
    """

    open: Callable[[str, str], Dataset]
    splits: tuple[str, ...]
    held_out: tuple[str, ...]

    def __call__(self, name: str, split: str) -> Dataset:
        return self.open(name, split)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Raw samples by name, first axis = sample, and their labels.

    Attributes:
        name: as the user spelled it, without the split.
        split: ``train``, ``test``, ``all``, or another that the set is published in (``dev``).
        kind: ``image`` (uint8, height x width x channels each), ``table`` (float32, columns), ``audio`` (a
            :class:`~edgekit.data.wav.Waveform` each), ``text``, ``series`` (float32, time x columns each) or ``array``
            (tensors by model input name, fed as they are).
        arrays: name -> samples: one array, or a sequence that decodes on access (image files).
        labels: class index of each sample, int64 (N,), or None.
        targets: real-valued targets of each sample, float32 (N, ...), raw units (forecasting, regression), or None.
        answers: what else is right for each sample: masks, boxes, whatever the metric takes; or None.
        classes: class names in index order.
        columns: column names of a table or series.
        own_split: False where train and test come from a seeded split of one set.
        params: what the readers of one kind know besides (sampling rate of audio, columns and horizon of a series), and
            what was asked for: the class that is ``held_out``, the ``size`` (height, width) that images are brought to.
    """

    name: str
    split: str
    kind: str
    arrays: Mapping[str, Sequence[Array] | Array]
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = field(default=())
    own_split: bool = True
    targets: Array | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    answers: Sequence[Any] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def label(self) -> str:
        """Name and split as the user would spell them: ``cifar10@test``."""
        return f"{self.name}@{self.split}"

    def subset(self, indices: Array) -> Dataset:
        """The samples at ``indices`` (int, 1-D), in that order."""
        picked = {name: _take(samples, indices) for name, samples in self.arrays.items()}
        labels = None if self.labels is None else self.labels[indices]
        targets = None if self.targets is None else self.targets[indices]
        answers = None if self.answers is None else Picked(self.answers, indices)
        return replace(self, arrays=picked, labels=labels, targets=targets, answers=answers)


class Picked(Sequence[Array]):
    """Some samples of a sequence that decodes on access, without decoding them now."""

    def __init__(self, samples: Sequence[Array], indices: Array | Sequence[int]) -> None:
        self._samples, self._indices = samples, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        return self._samples[int(self._indices[index])]


def _take(samples: Sequence[Array] | Array, indices: Array) -> Sequence[Array] | Array:
    if isinstance(samples, np.ndarray):
        return samples[indices]
    return Picked(samples, indices)


def open_data(spec: str, *, default_split: str = "test") -> Dataset:
    """The data set spelled ``NAME``, ``KIND:PATH`` or either with ``@train``, ``@test`` or ``@all``.

    A set that has no split of its own is whole when no split is named and ``default_split`` is ``test``; ``@train`` and
    ``@test`` are then a seeded, stratified 80/20 split.

    Raises:
        DataError: the data cannot be read or downloaded.
        UsageError: no such data set or split.
    """
    base, at, split = spec.rpartition("@")
    splits = splits_of(base)
    if at and split in splits:
        name = base
    elif at and "/" not in split and ":" not in base and "." not in split:
        raise UsageError(f"no split is called {split!r} in {spec!r}; there are: {', '.join(splits)}")
    else:
        name, split = spec, ""
    kind, colon, argument = (_FUNCTION, ":", name) if is_code(name) else name.partition(":")
    if kind not in registry.names("data"):
        named = [name for name in registry.names("data") if name != _FUNCTION]
        known = ", ".join(named)
        path = next((text for text in (base, spec) if text and Path(text).exists()), None)
        if path is not None:
            kinds = (
                ("images", "text", "audio")
                if Path(path).is_dir()
                else ("table", "series")
                if ".csv" in path
                else ("npz",)
            )
            example = ", ".join(f"{one}:{path}" for one in kinds)
            raise UsageError(f"say what kind of data {path} holds, one of {known}; for example {example}")
        near = get_close_matches(kind.partition("@")[0], named, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"no data set is called {kind.partition('@')[0]!r}; {hint}there are: {known} (those of files take a path: "
            "images:DIR, npz:FILE), and your own as file.py:function"
        )
    reader = registry.lookup("data", kind)
    if colon:
        dataset = reader(name, argument, split, default_split)
    else:
        dataset = reader(name, split or default_split)
    if not isinstance(dataset, Dataset):
        raise DataError(f"the reader of {kind!r} gave {type(dataset).__name__}, a Dataset was expected")
    if len(dataset) == 0:
        raise DataError(f"{spec} holds no samples")
    return dataset


def splits_of(name: str) -> tuple[str, ...]:
    """What may follow the ``@`` of the data set ``name`` (without its split)."""
    return getattr(_reader(name), "splits", OF_FOLDERS if ":" in name else SPLITS)


def held_out_splits(name: str) -> tuple[str, ...]:
    """Splits of the data set ``name`` that are never trained on, the one that is quoted first: ``("test",)``."""
    return getattr(_reader(name), "held_out", ("test",))


def held_out_sets(name: str) -> tuple[Dataset, ...]:
    """What of the data set ``name`` is never trained on, the set that is quoted first: its test split; the validation
    split of folders that have no other.

    Raises:
        DataError: it cannot be read, or is too small to hold a part of it back.
    """
    if ":" in name:
        found = open_data(name)
        if found.own_split and found.split == "val":
            return (found,)
    return tuple(open_data(f"{name}@{split}") for split in held_out_splits(name))


def _reader(name: str) -> object:
    """The reader of the data set spelled ``name``; None if there is no such reader."""
    kind = name.partition(":")[0]
    return registry.lookup("data", kind) if kind in registry.names("data") else None


def choose_split(whole: Dataset, split: str, default_split: str) -> Dataset:
    """Applies a split to a set that has none of its own (``split`` is empty when the user named none).

    Raises:
        DataError: the set is empty.
    """
    if not len(whole):
        raise DataError(f"{whole.name} holds no samples")
    wanted = split or ("train" if default_split == "train" else "all")
    if wanted == "val":
        raise DataError(f"{whole.name} has no validation data of its own; there are @train, @test and @all")
    if wanted == "all":
        return replace(whole, split="all", own_split=False)
    train, test = split_indices(len(whole), whole.labels)
    part = train if wanted == "train" else test
    if not len(part):
        raise DataError(
            f"{whole.name} holds {len(whole)} sample{'' if len(whole) == 1 else 's'}, too few to divide: nothing is "
            f"left for @{wanted}; take all of it, {whole.name}@all, or give more"
        )
    return replace(whole.subset(part), split=wanted, own_split=False)


def split_indices(count: int, labels: Array | None, share: float = TEST_SHARE, seed: int = 0) -> tuple[Array, Array]:
    """Seeded, class-balanced (train, test) indices, each sorted; a class of two has one in test."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    groups = [order] if labels is None else [order[labels[order] == c] for c in np.unique(labels)]
    test = [group[: max(round(len(group) * share), 1 if len(group) > 1 else 0)] for group in groups]
    chosen = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(count), chosen), chosen


def class_indices(source: Path, labels: Sequence[str], otherwise: str = "") -> tuple[tuple[str, ...], Array]:
    """Class names in the order of their numbers (else letters), and the index of each label, int64 (N,).

    ``otherwise``: what a message says of a column that holds no classes.

    Raises:
        DataError: nearly as many classes as there are samples.
    """
    stripped = [label.strip() for label in labels]
    names = sorted(set(stripped))
    if len(names) > max(20, len(stripped) // 2):
        raise DataError(
            f"{source} has {len(names):,} different labels on {len(stripped):,} lines, for example {names[0]!r}: that "
            f"is not a column of classes; call the right one 'label'{otherwise}"
        )
    if all(_WHOLE.fullmatch(name) for name in names):
        names.sort(key=int)
    index = {label: k for k, label in enumerate(names)}
    return tuple(names), np.array([index[label] for label in stripped], np.int64)


def interleaved(labels: Array) -> Array:
    """An order in which the classes take turns, so that the first N samples of a set are of all classes."""
    rank = np.empty(len(labels), dtype=np.int64)  # position of each sample within its own class
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))


def stratified(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """At most ``count`` samples, the classes as balanced as they can be; all of it where it has no more."""
    if count >= len(dataset):
        return dataset
    return dataset.subset(stratified_indices(dataset, count, seed))


def stratified_indices(dataset: Dataset, count: int, seed: int = 0) -> Array:
    """Which samples :func:`stratified` takes, in order: int64 (at most ``count``,)."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset))
    if dataset.labels is not None:
        order = order[interleaved(dataset.labels[order])]
    return np.sort(order[:count])
