"""CIFAR-10: 50,000 training and 10,000 test images, 32x32 RGB, ten classes (Krizhevsky, 2009).

Two forms are read: the binary version its author publishes (the one that is downloaded), and the same images as JPEG
files, ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``, in ``cifar10-images.tar.gz``. Decoded once into the cache.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from edgekit.data.archive import members
from edgekit.data.cache import Download, cache_folder, fetch, find_local
from edgekit.data.dataset import Dataset, interleaved
from edgekit.data.images import decode
from edgekit.errors import DataError
from edgekit.outputs import publishing
from edgekit.types import Array

log = logging.getLogger("edgekit")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (32, 32, 3)
COUNTS = {"train": 50_000, "test": 10_000}
JPEG_ARCHIVE = "cifar10-images.tar.gz"
BINARY = Download(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "md5:c32a1d4ab5d03f1284b67883e8d87530",
)


def open_cifar10(name: str, split: str) -> Dataset:
    """Reader of ``cifar10``; ``all`` is train followed by test.

    Raises:
        DataError: the data are not there and cannot be downloaded, or are not what they should be.
    """
    archive = find_local(JPEG_ARCHIVE, BINARY.filename) or fetch(BINARY)
    parts = [_part(archive, part) for part in ("train", "test") if split in ("all", part)]
    images = parts[0][0] if len(parts) == 1 else np.concatenate([p[0] for p in parts])
    labels = np.concatenate([p[1] for p in parts])
    return Dataset(name, split, "image", {"image": images}, labels, CLASSES)


def _part(archive: Path, split: str) -> tuple[Array, Array]:
    """Images uint8 (N, 32, 32, 3) and labels int64 (N,) of one split, from the cache once they were decoded."""
    form = "jpeg" if archive.name == JPEG_ARCHIVE else "binary"
    images_file = cache_folder() / f"cifar10-{form}-{archive.stat().st_size}-{split}-images.npy"
    labels_file = images_file.with_name(images_file.name.replace("-images", "-labels"))
    if not (images_file.is_file() and labels_file.is_file()):
        log.info("decoding cifar10@%s from %s, once", split, archive)
        images, labels = (_read_jpegs if form == "jpeg" else _read_binary)(archive, split)
        if len(labels) != COUNTS[split]:
            raise DataError(
                f"{archive} holds {len(labels):,} images of cifar10@{split}, {COUNTS[split]:,} were expected"
            )
        for file, array in ((images_file, images), (labels_file, labels)):
            with publishing(file) as temporary:
                np.save(temporary, array)
    return np.load(images_file, mmap_mode="r", allow_pickle=False), np.load(labels_file, allow_pickle=False)


def _read_jpegs(archive: Path, split: str) -> tuple[Array, Array]:
    def wanted(name: str) -> bool:
        parts = name.split("/")
        return len(parts) >= 3 and parts[-3] == split and parts[-2] in CLASSES and parts[-1].endswith(".jpg")

    rows: list[tuple[str, int, Array]] = []
    for member in members(archive, wanted):
        image = decode(member.read())
        if image.shape != SHAPE:
            raise DataError(f"{archive}: {member.name} is {image.shape}, {SHAPE} was expected; copy it again")
        rows.append((member.name, CLASSES.index(member.name.split("/")[-2]), image))
    rows.sort(key=lambda row: row[0])
    if not rows:
        raise DataError(f"{archive} holds no {split}/CLASS/*.jpg")
    labels = np.array([row[1] for row in rows], np.int64)
    order = interleaved(labels)
    return np.stack([rows[k][2] for k in order]), labels[order]


def _read_binary(archive: Path, split: str) -> tuple[Array, Array]:
    names = ["test_batch.bin"] if split == "test" else [f"data_batch_{k}.bin" for k in range(1, 6)]
    found = dict.fromkeys(names, b"")
    for member in members(archive, lambda name: name.rsplit("/", 1)[-1] in names):
        found[member.name.rsplit("/", 1)[-1]] = member.read()
    row = 1 + math.prod(SHAPE)
    for name, content in found.items():
        if not content or len(content) % row or max(content[::row]) >= len(CLASSES):
            raise DataError(
                f"{archive} is not the binary version of CIFAR-10: {name} is not rows of a class and 32x32 pixels; "
                "delete it and run again"
            )
    rows = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, row) for content in found.values()])
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.asarray(images, order="C"), rows[:, 0].astype(np.int64)
