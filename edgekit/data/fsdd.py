"""Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers, 8 kHz (Jackson et al., CC BY-SA 4.0).

Its own split: of each speaker's fifty recordings of a digit, those numbered 0 to 4 are the test set. Decoded once into
the cache.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.archive import members
from edgekit.data.cache import Download, cache_folder, fetch, find_local
from edgekit.data.dataset import Dataset, interleaved
from edgekit.data.wav import Waveform, read_wav
from edgekit.errors import DataError
from edgekit.outputs import publishing
from edgekit.types import Array

log = logging.getLogger("edgekit")
ARCHIVE = "free-spoken-digits.tar.gz"
DOWNLOAD = Download(
    "free-spoken-digit-dataset-1.0.10.tar.gz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
    "",  # its author publishes none, and the host packs the archive on request: the recordings are checked instead
)
COUNT = 3000
RATE = 8000
TEST = range(5)
"""Numbers of the recordings in the test set."""
RECORDINGS_SHA256 = "83d0fd336a1dbf907227ecc0d6ed476096a88eeac7d14373f8178ed28538d445"
"""Over the name and the 16-bit samples of every recording, in the order of the names, as this was developed with."""
_NAME = re.compile(r"(?:.*/)?recordings/((\d)_[a-z]+_(\d{1,3}))\.wav")


class Recordings(Sequence[Array]):
    """Stretches of one long 16-bit array as waveforms."""

    def __init__(self, samples: Array, bounds: Array, origin: str) -> None:
        self._samples, self._bounds, self._origin = samples, bounds, origin

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, index: Any) -> Any:
        start, stop = self._bounds[index]
        return Waveform(np.asarray(self._samples[start:stop], np.float32) / np.float32(32768), RATE, self._origin)


def open_fsdd(name: str, split: str) -> Dataset:
    """Reader of ``fsdd``.

    Raises:
        DataError: the data are not there and cannot be downloaded, or are not what they should be.
    """
    archive = find_local(ARCHIVE, DOWNLOAD.filename) or fetch(DOWNLOAD)
    samples, table = _decoded(archive)
    held = np.isin(table[:, 3], TEST)
    rows = table[held if split == "test" else ~held if split == "train" else np.full(len(table), True)]
    rows = rows[interleaved(rows[:, 2])]
    recordings = Recordings(samples, rows[:, :2], f"{name}@{split}")
    classes = tuple(map(str, range(10)))
    return Dataset(name, split, "audio", {"audio": recordings}, rows[:, 2], classes, params={"rate": RATE})


def _decoded(archive: Path) -> tuple[Array, Array]:
    """All samples, int16; and start, stop, digit and number of each recording, int64 (N, 4)."""
    samples_file = cache_folder() / f"fsdd-{archive.stat().st_size}-samples.npy"
    table_file = samples_file.with_name(samples_file.name.replace("-samples", "-table"))
    if not (samples_file.is_file() and table_file.is_file()):
        log.info("decoding fsdd from %s, once", archive)
        for file, array in zip((samples_file, table_file), _read(archive), strict=True):
            with publishing(file) as temporary:
                np.save(temporary, array)
    return np.load(samples_file, mmap_mode="r", allow_pickle=False), np.load(table_file, allow_pickle=False)


def _read(archive: Path) -> tuple[Array, Array]:
    found: dict[str, tuple[int, int, Array]] = {}
    for member in members(archive, lambda name: _NAME.fullmatch(name) is not None):
        match = _NAME.fullmatch(member.name)
        if match is None or member.is_folder:
            continue
        wave = read_wav(member.read(), member.name)
        if wave.rate != RATE:
            raise DataError(f"{archive}: {member.name} has {wave.rate:,} Hz, {RATE:,} were expected")
        whole = np.rint(wave.samples * 32768).astype(np.int16)
        found[match[1]] = (int(match[2]), int(match[3]), whole)
    if len(found) != COUNT:
        raise DataError(
            f"{archive} holds {len(found):,} recordings/DIGIT_SPEAKER_NUMBER.wav, {COUNT:,} were expected (version "
            "1.0.10); copy it again, or delete it to download it"
        )
    digest = hashlib.sha256()
    table, place = [], 0
    for name in sorted(found):
        digit, number, whole = found[name]
        digest.update(f"{name}|{whole.size}|".encode() + whole.astype("<i2").tobytes())
        table.append((place, place + whole.size, digit, number))
        place += whole.size
    if digest.hexdigest() != RECORDINGS_SHA256:
        log.info("%s: its recordings are not those edgekit's figures were measured on; figures may differ", archive)
    return np.concatenate([found[name][2] for name in sorted(found)]), np.array(table, np.int64)
