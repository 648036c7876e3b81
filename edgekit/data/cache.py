"""Files that are fetched once: where they are looked for, how they are checked, how archives are opened.

Order: ``$EDGEKIT_DATA``, the cache (``$EDGEKIT_CACHE``, else ``~/.cache/edgekit``), then the network.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from edgekit.artifact import sha256_file
from edgekit.data.archive import members
from edgekit.errors import DataError, StorageError
from edgekit.leftovers import sweep, temporary_name
from edgekit.libraries import cache_place
from edgekit.outputs import publishing, writable_folder

log = logging.getLogger("edgekit")


_MAY_DOWNLOAD: ContextVar[bool] = ContextVar("_MAY_DOWNLOAD", default=True)


class NotHereError(DataError):
    """Data or weights that would have to be downloaded, where that is not wanted."""


@contextmanager
def without_downloads() -> Iterator[None]:
    """Nothing is fetched meanwhile: NotHereError is raised for what is not on this machine."""
    token = _MAY_DOWNLOAD.set(False)
    try:
        yield
    finally:
        _MAY_DOWNLOAD.reset(token)


def may_download() -> bool:
    """Whether something may be fetched; see :func:`without_downloads`."""
    return _MAY_DOWNLOAD.get()


def require_downloads(what: str) -> None:
    """Raises NotHereError within :func:`without_downloads`; ``what`` is not on this machine."""
    if not may_download():
        raise NotHereError(f"{what} is not on this machine; it is downloaded when it is needed")


@dataclass(frozen=True, slots=True)
class Download:
    """A file on the network, with the checksum of its content (``md5:...`` or ``sha256:...``).

    Empty if no checksum lasts (archives the host packs on request): its reader then checks what is in it.
    """

    filename: str
    url: str
    checksum: str


def cache_folder() -> Path:
    """``$EDGEKIT_CACHE``, else ``$XDG_CACHE_HOME/edgekit``, else ``~/.cache/edgekit``; made if it is not there."""
    return writable_folder(cache_place())


def data_folder() -> Path | None:
    """``$EDGEKIT_DATA`` as a folder, or None when it is not set.

    Raises:
        DataError: it is set and is not a folder.
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
        DataError: it cannot be fetched, or its checksum differs; NotHereError, see :func:`without_downloads`.
    """
    target = cache_folder() / download.filename
    if target.is_file():
        return target
    require_downloads(download.filename)
    import urllib.error
    import urllib.request

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
            f"{download.filename} is in neither $EDGEKIT_DATA nor {cache_folder()}, and cannot be downloaded from "
            f"{url}: {getattr(error, 'reason', error)}. Put the file into one of the two folders, or set EDGEKIT_MIRROR"
        ) from error
    return target


def unpacked(archive: Path) -> Path:
    """The folder an archive holds, unpacked once into the cache; a single top folder stands for the whole.

    Raises:
        DataError, LimitError: see :func:`edgekit.data.archive.members`; nothing is left in the cache then.
        StorageError: the disk is full.
    """
    target = _place(archive)
    if not target.is_dir():
        writable_folder(target.parent)
        sweep(target.parent)
        temporary = target.parent / temporary_name(target.name)
        temporary.mkdir()
        try:
            _extract(archive, temporary)
            try:
                os.replace(temporary, target)
            except OSError:
                if not target.is_dir():  # else another process was first
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    children = [child for child in target.iterdir() if not child.name.startswith((".", "__MACOSX"))]
    return children[0] if len(children) == 1 and children[0].is_dir() else target


def forget(archive: Path) -> None:
    """Removes from the cache what :func:`unpacked` put there, where it turns out not to be what was wanted."""
    shutil.rmtree(_place(archive), ignore_errors=True)


def _place(archive: Path) -> Path:
    state = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:16]
    return cache_folder() / "unpacked" / f"{archive.name.split('.')[0]}-{key}"


def _extract(archive: Path, folder: Path) -> None:
    for member in members(archive):
        place = folder / member.name
        try:
            (place if member.is_folder else place.parent).mkdir(parents=True, exist_ok=True)
            if not member.is_folder:
                with open(place, "wb") as file:
                    file.writelines(member.chunks())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageError(
                    f"no space left while unpacking {archive} into {folder.parent}: {error.strerror}; free some, or "
                    "set EDGEKIT_CACHE to another folder"
                ) from error
            raise DataError(f"{archive}: {member.name!r} cannot be unpacked: {error.strerror}") from error
