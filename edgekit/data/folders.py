"""One folder a class, or ``train/`` and ``test/`` folders that hold them: what ``images:`` and ``audio:`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.archive import is_archive
from edgekit.data.cache import forget, unpacked
from edgekit.data.dataset import Dataset, choose_split, interleaved
from edgekit.errors import DataError
from edgekit.types import Array


@dataclass(frozen=True, slots=True)
class Folders:
    """What a reader of folders reads.

    Attributes:
        spelling: of the reader (``images``).
        kind: of its samples (``image``).
        suffixes: of the files that are samples.
        decode: one file -> one raw sample.
        noun: what a file is, for messages (``image``).
    """

    spelling: str
    kind: str
    suffixes: tuple[str, ...]
    decode: Callable[[Path], Any]
    noun: str

    def open(self, name: str, argument: str, split: str, default_split: str) -> Dataset:
        """The data set in the folder ``argument``; an archive stands for the folder it holds.

        Raises:
            DataError: no such folder, fewer than two classes, or a class without a file that can be read.
        """
        root = Path(argument)
        if not argument or not root.exists():
            raise DataError(
                f"{argument or self.spelling + ':'} does not exist; {self.spelling}:DIR takes a folder with one folder "
                "a class"
            )
        if root.is_dir():
            return self._split(name, root, split, default_split)
        if not is_archive(root):
            raise DataError(f"{root} is a file; {self.spelling}:DIR takes a folder (or a .tar.gz or .zip of one)")
        folder = unpacked(root)
        try:
            return self._split(name, folder, split, default_split)
        except DataError:
            forget(root)
            raise

    def _split(self, name: str, root: Path, split: str, default_split: str) -> Dataset:
        own = split_folders(root)
        if not own:
            return choose_split(self._scan(name, root), split, default_split)
        chosen = chosen_split(root, own, split, default_split, whole=True)
        parts = [self._scan(name, folder) for part, folder in reversed(own.items()) if chosen in ("all", part)]
        classes = self._scan(name, own["train"]).classes
        if any(part.classes != classes for part in parts):
            raise DataError(f"{root}: {' and '.join(own)} hold different classes; give all the same folders")
        return self._joined(parts, chosen)

    def _scan(self, name: str, folder: Path) -> Dataset:
        groups = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        if len(groups) < 2:
            raise DataError(
                f"{folder} holds {len(groups)} class folder{'' if len(groups) == 1 else 's'}, at least 2 are needed: "
                f"DIR/CLASS/*{self.suffixes[0]}"
            )
        paths: list[Path] = []
        labels: list[int] = []
        for index, group in enumerate(groups):
            found = sorted(p for p in group.iterdir() if p.suffix.lower() in self.suffixes and p.name[0] != ".")
            if not found:
                raise DataError(f"the class folder {group} holds no {self.noun} ({', '.join(self.suffixes)})")
            paths += found
            labels += [index] * len(found)
        classes = tuple(group.name for group in groups)
        indices = np.array(labels, np.int64)
        order = interleaved(indices)
        return self._dataset(name, "all", [paths[k] for k in order], indices[order], classes)

    def _joined(self, parts: list[Dataset], split: str) -> Dataset:
        paths = [path for part in parts for path in part.arrays[self.kind].paths]  # type: ignore[union-attr]
        labels = np.concatenate([part.labels for part in parts if part.labels is not None])
        return self._dataset(parts[0].name, split, paths, labels, parts[0].classes)

    def _dataset(self, name: str, split: str, paths: list[Path], labels: Array, classes: tuple[str, ...]) -> Dataset:
        return Dataset(name, split, self.kind, {self.kind: Files(paths, self.decode)}, labels, classes)


SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Name of a folder -> the split it is."""


def split_folders(root: Path) -> dict[str, Path]:
    """Split -> folder, of the folders in ``root`` that are named like splits; empty where none is ``train``."""
    there = {SPLITS[p.name.lower()]: p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in SPLITS}
    found: dict[str, Path] = {name: there[name] for name in ("test", "val", "train") if name in there}
    return found if "train" in found and len(found) > 1 else {}


def chosen_split(root: Path, own: Mapping[str, Any], split: str, default_split: str, *, whole: bool = False) -> str:
    """Which of a data set's ``own`` splits is meant: ``split`` where the user named one, else ``default_split``, else
    the first there is (``val`` where none is for testing). ``whole``: all of them together will do, too.

    Raises:
        DataError: there is no such split.
    """
    chosen = split or (default_split if default_split in own else next(iter(own)))
    if chosen in own or (chosen == "all" and whole):
        return chosen
    raise DataError(f"{root} has no split {chosen!r}; it has: {', '.join(own)}")


class Files(Sequence[Array]):
    """Files as samples, decoded when they are asked for."""

    def __init__(self, paths: list[Path], decode: Callable[[Path], Any]) -> None:
        self.paths, self._decode = paths, decode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return self._decode(self.paths[index])
