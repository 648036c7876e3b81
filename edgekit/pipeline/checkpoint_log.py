"""A log on disk from which a run that was ended in the middle goes on: the blocks of a bench, the trials of ``auto``.

A file of lines, each one JSON object: the first says what is being run, every other one what is finished. A line that
was cut off in the middle of writing is left out. While a run lasts it holds a lock on its log, so that the same command
at the same time does not take it for an interrupted one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekit.documents import parse_json
from edgekit.errors import InputError, UsageError
from edgekit.locks import hold
from edgekit.outputs import writing

KEPT_S = 7 * 86_400.0
"""Logs in the state folder that are older than this are removed."""
FRESH_S = 3600.0
"""An interrupted run is resumed automatically if it is younger than this; later only with ``--resume``."""
Row = dict[str, Any]


class InUseError(UsageError):
    """Another run holds the log."""


class CheckpointLog:
    """The log of one run. ``what`` names all that it depends on; another ``what`` is another run.

    ``resume``: True goes on whatever the age, False begins again, None goes on when the log is fresh.

    Attributes:
        rows: what an interrupted run has finished, without the first line; empty where this run begins again.
        continued: whether this run goes on with an interrupted one.
        why: why an interrupted run is not resumed, where one was found.

    Raises:
        InputError: ``resume`` is True and there is nothing to go on with.
        InUseError: another run holds it.
        UsageError, StorageError: it cannot be made.
    """

    def __init__(self, path: Path, schema: str, what: Mapping[str, Any], resume: bool | None = None) -> None:
        self.path, self._head = path, {"schema": schema, "what": json.loads(json.dumps(what))}
        handle = hold(path)
        if handle is None:
            raise InUseError(f"{path} is in use by another run")
        self._file = os.fdopen(handle, "a+", encoding="utf-8")
        rows, self._whole_bytes = read_lines(path)
        self.why = "" if not rows else "not wanted" if resume is False else self._unfit(rows[0], resume)
        self.continued = bool(rows) and not self.why
        self.rows: list[Row] = rows[1:] if self.continued else []
        if resume and not self.continued:
            self.close()
            raise InputError(
                f"--resume: {path} holds another run; give the same models and options, or leave --resume out"
            )

    def _unfit(self, head: Row, resume: bool | None) -> str:
        began = head.get("time")
        if any(head.get(key) != value for key, value in self._head.items()) or not isinstance(began, int | float):
            return "of other models or options"
        age = time.time() - began
        return "" if resume or 0 <= age <= FRESH_S else f"{age / 3600:.1f} hours old"

    def begin_again(self) -> None:
        """Leaves out what an interrupted run has finished, which turned out to be damaged."""
        self.rows, self.continued = [], False

    def open_for_writing(self) -> None:
        """To be called once, before the first :meth:`write`: cuts off what is of another run, or was not finished.

        Raises:
            StorageError: the disk is full.
        """
        with writing(self.path):
            self._file.truncate(self._whole_bytes if self.continued else 0)
        if not self.continued:
            self.write({**self._head, "time": time.time()})

    def write(self, row: Mapping[str, Any]) -> None:
        """One more line, handed to the system: it outlives this process, whatever ends it.

        Raises:
            StorageError: the disk is full.
        """
        with writing(self.path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Lets go of the file, which stays, unless nothing was ever written into it."""
        if self._file.closed:
            return
        own = os.fstat(self._file.fileno())
        with suppress(FileNotFoundError):
            if not own.st_size and os.path.samestat(own, os.stat(self.path)):
                self.path.unlink()
        with suppress(OSError):  # its last line could not be written either
            self._file.close()


def state_folder() -> Path:
    """``$XDG_STATE_HOME/edgekit``, else ``~/.local/state/edgekit``, for a user without a home the temporary folder."""
    base = os.environ.get("XDG_STATE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "edgekit"
    try:
        return Path.home() / ".local" / "state" / "edgekit"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"edgekit-{os.getuid()}"


def digest_of(what: Mapping[str, Any]) -> str:
    """A name for the log of the run that ``what`` describes."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def clear_old(folder: Path, pattern: str) -> Path:
    """Removes logs that nobody went on with, each with its own folder below ``folder``; gives ``folder``."""
    for old in folder.glob(pattern):
        if time.time() - changed(old) > KEPT_S:
            if old.parent == folder:
                old.unlink(missing_ok=True)
            else:
                shutil.rmtree(folder / old.relative_to(folder).parts[0], ignore_errors=True)
    return folder


def changed(file: Path) -> float:
    """When it was last written, in seconds since 1970; now, where another process has removed it."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def read_lines(path: Path) -> tuple[list[Row], int]:
    """The whole lines of a log, and the bytes they take; nothing of a file that cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return [], 0
    rows, whole = [], 0
    for line in data.split(b"\n")[:-1]:  # what follows the last end of line was cut off
        try:
            row = parse_json(line, InputError, path)
        except InputError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
        whole += len(line) + 1
    return rows, whole
