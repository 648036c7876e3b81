"""Files a host has sent to this device, by the SHA-256 of their content, in a folder that stays below a limit.

A file is there whole or not at all: it is written without a name (``O_TMPFILE``) and gets one when its content is what
was announced. Where the file system has no nameless files it is written under the name ``part-…``, locked; parts that
nobody holds are removed by whoever comes next. A model in several files is a folder of hard links to them. Who adds or
removes a name does so alone (``.lock``). All of it is for its user alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from edgekit.data.cache import cache_folder
from edgekit.errors import ProtocolError, TransferError
from edgekit.locks import locked
from edgekit.platforms import lock, unlock

LIMIT_BYTES: Final = 1 << 30
"""What the folder may hold; the files used longest ago make room. One larger file is kept all the same."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0)
_PART: Final = "part-"
_SET: Final = ".set"
_LOCK: Final = ".lock"
_WHOLE: Final = re.compile(r"[0-9a-f]{64}(\.\w{1,10})?")


class Store:
    """The files of one device. Everything a caller names is checked: no name leads out of the folder."""

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or cache_folder() / "files"
        self._limit_bytes = limit_bytes
        self._part: _Part | None = None
        self._used: list[BinaryIO] = []

    def find(self, digest: str, suffix: str, size: int) -> Path | None:
        """The file, checked by its content and kept from being removed while this process lives; else None."""
        place = self._place(digest, suffix)
        held = _held(place)
        if held is None:
            return None
        if os.fstat(held.fileno()).st_size == size and hashlib.file_digest(held, "sha256").hexdigest() == digest:  # type: ignore[arg-type]
            self._keep(held)
            return place
        with held, self._alone():
            if place.exists() and os.path.samestat(os.fstat(held.fileno()), place.stat()):
                place.unlink()  # damaged since: sent again
        return None

    def put(self, digest: str, suffix: str, size: int, offset: int, chunk: memoryview, last: bool) -> Path | None:
        """Takes the next piece of a file; its place after the last one, None before.

        Raises:
            TransferError: the disk is full, or the content is not what was announced; nothing is left of it.
            ProtocolError: the piece is not the next one, or more than was announced.
        """
        place = self._place(digest, suffix)
        try:
            if offset == 0:
                self._drop()
                with self._alone():
                    self._make_room(size)
                self._part = _Part(self.folder)
            part = self._part
            if part is None or part.size != offset or offset + chunk.nbytes > size:
                raise ProtocolError(f"got {chunk.nbytes:,} bytes at {offset:,} of a file of {size:,}; send it again")
            part.write(chunk)
            if not last:
                return None
            if part.digest.hexdigest() != digest:
                raise TransferError(
                    f"{part.size:,} bytes arrived with SHA-256 {part.digest.hexdigest()[:16]}…, announced were "
                    f"{size:,} with {digest[:16]}…; the file changed or was damaged on its way, send it again"
                )
            with self._alone():
                part.publish(place)
                held = _held(place)
        except OSError as error:
            self._drop()
            if error.errno in _FULL:
                raise TransferError(
                    f"no space left on the device for {size:,} bytes in {self.folder}: {error.strerror}; "
                    "free some there, or set EDGEKIT_CACHE there to another disk"
                ) from error
            raise TransferError(f"{self.folder} on the device cannot be written: {error.strerror}") from error
        except Exception:
            self._drop()
            raise
        self._drop()
        assert held is not None
        self._keep(held)
        return place

    def together(self, files: Sequence[tuple[str, str, str]]) -> Path:
        """A folder in which files of the store lie under names of their own, as hard links; the place of the first.

        Args:
            files: SHA-256 and suffix of a file that this process found or put, and its name, which may have folders.

        Raises:
            ProtocolError: such a name leads out of the folder, or a file is not there.
            TransferError: the file system has no hard links.
        """
        for _, _, name in files:
            parts = PurePosixPath(name).parts
            if not parts or name.startswith("/") or ".." in parts or "\0" in name:
                raise ProtocolError(f"got {name!r}, wanted a name inside the folder of the model")
        folder = self.folder / f"{hashlib.sha256(json.dumps(list(files)).encode()).hexdigest()}{_SET}"
        with self._alone():
            for digest, suffix, name in files:
                source = self._place(digest, suffix)
                if str(source) not in [held.name for held in self._used]:
                    raise ProtocolError(f"{source.name} was not sent before; send it again")
                try:
                    _link(source, folder / name)
                except OSError as error:
                    raise TransferError(
                        f"{self.folder} on the device cannot hold a model in several files: {error.strerror}; "
                        "set EDGEKIT_CACHE there to a disk with hard links, or export one self-contained file"
                    ) from error
        return folder / files[0][2]

    def forget(self, digest: str, suffix: str) -> None:
        """Removes a file, unless another process uses it."""
        place = self._place(digest, suffix)
        for held in [held for held in self._used if held.name == str(place)]:
            held.close()
            self._used.remove(held)
        with self._alone():
            _remove_unless_held(place)
            self._remove_sets()

    def document(self) -> dict[str, Any]:
        """``folder``, ``free_bytes`` of its disk, ``kept_bytes`` in it, for JSON."""
        with self._alone():
            kept = sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())
        free = shutil.disk_usage(self.folder).free
        return {"folder": str(self.folder), "free_bytes": free, "kept_bytes": kept}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The folder, made if it is not there, while no other process adds or removes a name in it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(PermissionError):  # it is another user's, who decides
            self.folder.chmod(0o700)  # an older edgekit left it open
        with locked(self.folder / _LOCK):
            yield

    def _place(self, digest: str, suffix: str) -> Path:
        if not _WHOLE.fullmatch(digest + suffix):
            raise ProtocolError(f"got {digest + suffix!r}, wanted a SHA-256 in hexadecimal and a plain suffix")
        return self.folder / f"{digest}{suffix}"

    def _keep(self, held: BinaryIO) -> None:
        """Marks a file as used now, and as in use until this process ends."""
        self._used.append(held)
        os.utime(held.fileno())

    def _make_room(self, size: int) -> None:
        """Removes what was used longest ago until ``size`` more bytes keep below the limit, and the disk has room."""
        files = [(file, file.stat()) for file in self.folder.iterdir() if _is_content(file)]
        parts = [file for file, _ in files if file.name.startswith(_PART)]
        for file in parts:
            _remove_unless_held(file)
        whole = sorted((found.st_mtime, found.st_size, file) for file, found in files if file not in parts)
        kept = sum(held for _, held, _ in whole)
        for _, held, file in whole:
            if kept + size <= self._limit_bytes and shutil.disk_usage(self.folder).free >= size:
                return
            if _remove_unless_held(file):
                kept -= held
                self._remove_sets()
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free")

    def _remove_sets(self) -> None:
        """Removes the folders of :meth:`together` that hold a file which is in the store no more."""
        there = {file.stat().st_ino for file in self.folder.iterdir() if file.is_file()}
        for folder in self.folder.glob(f"*{_SET}"):
            if not {file.stat().st_ino for file in folder.rglob("*") if file.is_file()} <= there:
                shutil.rmtree(folder)

    def _drop(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None


class _Part:
    """A file on its way in."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self._name: Path | None = None
        try:
            self._handle = os.open(folder, os.O_RDWR | _NAMELESS, 0o600)
        except OSError as error:
            if _NAMELESS and error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
            self._name = folder / f"{_PART}{os.getpid()}-{os.urandom(4).hex()}"
            self._handle = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            lock(self._handle)

    def write(self, chunk: memoryview) -> None:
        self.digest.update(chunk)
        done = 0
        while done < chunk.nbytes:
            done += os.write(self._handle, chunk[done:])
        self.size += chunk.nbytes

    def publish(self, place: Path) -> None:
        os.fsync(self._handle)
        if self._name is not None:
            os.replace(self._name, place)
            unlock(self._handle)  # it is held as a whole file from now on
            return
        with suppress(FileExistsError):  # somebody else sent the same content meanwhile
            # the descriptor is not used: naming one makes Python call linkat, which follows the link in /proc
            os.link(f"/proc/self/fd/{self._handle}", place, src_dir_fd=self._handle, follow_symlinks=True)

    def close(self) -> None:
        os.close(self._handle)
        if self._name is not None:
            self._name.unlink(missing_ok=True)


def _held(place: Path) -> BinaryIO | None:
    """The file, open and kept from being removed as long as it is; None if there is no such file."""
    while True:
        try:
            held = open(str(place), "rb")  # noqa: SIM115  its lock may live as long as the worker
        except FileNotFoundError:
            return None
        lock(held.fileno(), shared=True)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held.fileno()), os.stat(place)):
                return held
        held.close()  # removed between the two


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target.exists() and not target.samefile(source):  # of a file that was damaged, and sent again
        target.unlink()
    with suppress(FileExistsError):  # it was there
        os.link(source, target)


def _is_content(file: Path) -> bool:
    return file.is_file() and file.name != _LOCK


def _remove_unless_held(file: Path) -> bool:
    """Removes a file of the folder unless a living process uses it."""
    try:
        with open(file, "rb") as handle:
            lock(handle.fileno(), wait=False)
            file.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
