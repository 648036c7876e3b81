"""Files that are fetched once: where they are looked for, how they are checked, how archives are opened.

Order: ``$EDGEKIT_DATA``, the cache (``$EDGEKIT_CACHE``, else ``~/.cache/edgekit``), then the network.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.artifact import sha256_file
from edgekit.errors import DataError
from edgekit.outputs import publishing, writable_folder

log = logging.getLogger("edgekit")
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


@dataclass(frozen=True, slots=True)
class Download:
    """A file on the network, with the checksum of its content (``md5:...`` or ``sha256:...``).

    Empty where there is none that lasts (archives the host packs on request): its reader then checks what is in it.
    """

    filename: str
    url: str
    checksum: str


def cache_folder() -> Path:
    """``$EDGEKIT_CACHE``, else ``$XDG_CACHE_HOME/edgekit``, else ``~/.cache/edgekit``; made if it is not there."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    if chosen:
        return writable_folder(chosen)
    return writable_folder(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit")


def data_folder() -> Path | None:
    """``$EDGEKIT_DATA`` as a folder, or None when it is not set.

    Raises:
        DataError: it is set and is no folder.
    """
    text = os.environ.get("EDGEKIT_DATA")
    if not text:
        return None
    folder = Path(text)
    if not folder.is_dir():
        raise DataError(f"EDGEKIT_DATA is {text!r}, which is not a folder; set it to where the data lie, or unset it")
    return folder


def find_local(*filenames: str) -> Path | None:
    """The first of ``filenames`` in ``$EDGEKIT_DATA`` (checked against a SHA256SUMS beside it) or in the cache."""
    folder = data_folder()
    for filename in filenames:
        if folder is not None and (folder / filename).is_file():
            _check_sums(folder, filename)
            return folder / filename
        if (cache_folder() / filename).is_file():
            return cache_folder() / filename
    return None


def _check_sums(folder: Path, filename: str) -> None:
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition(" ")
        if name.strip().lstrip("*").removeprefix("./") == filename:
            found = sha256_file(folder / filename)
            if found != digest:
                raise DataError(f"{folder / filename} has SHA-256 {found}, SHA256SUMS says {digest}; copy it again")


def fetch(download: Download, timeout_s: float = 30.0) -> Path:
    """The downloaded file in the cache; fetched now if it is not there.

    ``$EDGEKIT_MIRROR`` (a URL) replaces everything before the file name, for networks with a mirror of their own.

    Raises:
        DataError: it cannot be fetched, or its checksum differs.
    """
    target = cache_folder() / download.filename
    if target.is_file():
        return target
    mirror = os.environ.get("EDGEKIT_MIRROR")
    url = f"{mirror.rstrip('/')}/{download.filename}" if mirror else download.url
    log.info("downloading %s", url)
    kind, _, wanted = download.checksum.partition(":")
    digest = hashlib.new(kind or "sha256", usedforsecurity=False)
    try:
        with publishing(target) as temporary:
            with urllib.request.urlopen(url, timeout=timeout_s) as answer, open(temporary, "wb") as file:
                while chunk := answer.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
            if wanted and digest.hexdigest() != wanted:
                raise DataError(f"{url} has {kind} {digest.hexdigest()}, {wanted} was expected; nothing was kept")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(
            f"{download.filename} is neither in $EDGEKIT_DATA nor in {cache_folder()}, and cannot be downloaded from "
            f"{url}: {getattr(error, 'reason', error)}. Put the file into one of the two folders, or set EDGEKIT_MIRROR"
        ) from error
    return target


def is_archive(path: Path) -> bool:
    """Whether the name ends like an archive."""
    return path.name.lower().endswith(ARCHIVES)


def unpacked(archive: Path) -> Path:
    """The folder an archive holds, unpacked once into the cache; a single top folder stands for the whole.

    Raises:
        DataError: not an archive, cut short, or with members that would land outside.
    """
    state = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:16]
    target = cache_folder() / "unpacked" / f"{archive.name.split('.')[0]}-{key}"
    if not target.is_dir():
        writable_folder(target.parent)
        temporary = Path(tempfile.mkdtemp(dir=target.parent))
        try:
            _extract(archive, temporary)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    children = [child for child in target.iterdir() if not child.name.startswith((".", "__MACOSX"))]
    return children[0] if len(children) == 1 and children[0].is_dir() else target


def _extract(archive: Path, folder: Path) -> None:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)  # zipfile drops absolute paths and ".." itself
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}; copy or download it again") from error
