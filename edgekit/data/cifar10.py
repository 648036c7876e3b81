"""CIFAR-10: 50,000 training and 10,000 test images, 32x32 RGB, ten classes (Krizhevsky, 2009).

Two forms are read: the binary version its author publishes (the one that is downloaded), and the same images as JPEG
files, ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``, in ``cifar10-images.tar.gz``. Decoded once into the cache.
"""

from __future__ import annotations

import logging
import tarfile
from pathlib import Path

import numpy as np

from edgekit.artifact import publishing
from edgekit.data.cache import Download, cache_folder, fetch, find_local
from edgekit.data.dataset import Dataset, interleaved
from edgekit.data.images import decode
from edgekit.errors import DataError
from edgekit.types import Array

log = logging.getLogger("edgekit")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
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
    rows: list[tuple[str, int, Array]] = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = member.name.split("/")
                if len(parts) >= 3 and parts[-3] == split and parts[-2] in CLASSES and parts[-1].endswith(".jpg"):
                    handle = tar.extractfile(member)
                    if handle is not None:
                        rows.append((member.name, CLASSES.index(parts[-2]), decode(handle.read())))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be read: {error}; copy it again") from error
    rows.sort(key=lambda row: row[0])
    if not rows:
        raise DataError(f"{archive} holds no {split}/CLASS/*.jpg")
    labels = np.array([row[1] for row in rows], np.int64)
    order = interleaved(labels)
    return np.stack([rows[k][2] for k in order]), labels[order]


def _read_binary(archive: Path, split: str) -> tuple[Array, Array]:
    wanted = ["test_batch.bin"] if split == "test" else [f"data_batch_{k}.bin" for k in range(1, 6)]
    chunks = []
    try:
        with tarfile.open(archive) as tar:
            members = {member.name.rsplit("/", 1)[-1]: member for member in tar.getmembers()}
            for filename in wanted:
                handle = tar.extractfile(members[filename])
                if handle is not None:
                    chunks.append(np.frombuffer(handle.read(), np.uint8).reshape(-1, 1 + 3 * 32 * 32))
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{archive} is not the binary version of CIFAR-10: {error}; delete it and run again") from error
    rows = np.concatenate(chunks)
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.asarray(images, order="C"), rows[:, 0].astype(np.int64)
