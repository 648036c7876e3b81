"""Finished trials on disk as they finish: a run that is ended in the middle does none of them again.

A folder for each run, named by a hash of all that its figures depend on: the files, the data, the options, the device,
the versions. In it the candidates' files and ``trials.jsonl``: what the run is, then one line a trial. It goes when the
result has been handed over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from edgekit.bench.noisefloor import state_folder
from edgekit.documents import typed
from edgekit.errors import InputError, StorageError, UsageError
from edgekit.locks import hold
from edgekit.outputs import writable_folder, writing
from edgekit.pipeline.bench.journal import FRESH_S, KEPT_S, changed, read_lines
from edgekit.results.base import to_json

log = logging.getLogger("edgekit")
SCHEMA = "edgekit.auto.trials/2"
Value = dict[str, Any]


class TrialStore:
    """The trials of one run. ``what`` names all that they depend on; another ``what`` is another run.

    ``resume``: True goes on whatever the age, False begins again, None goes on when they are of the last hour.

    Raises:
        InputError: ``resume`` is True and there is nothing to go on with.
        UsageError: the same command is at work already.
        StorageError: the disk is full.
    """

    def __init__(self, what: Mapping[str, Any], resume: bool | None = None) -> None:
        what = json.loads(json.dumps(what))
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = _clear_old(state_folder() / "auto") / digest
        path = self.folder / "trials.jsonl"
        if resume and not path.exists():
            raise InputError("--resume: no interrupted run of these models and options is there; leave --resume out")
        writable_folder(self.folder)
        self._file = _locked(path)
        self._values: dict[str, Value] = {}
        rows, whole = read_lines(path)
        try:
            trials = [typed(_Trial, row, "a line") for row in rows[1:]]
            begun = typed(_Begun, rows[0], "the first line").time if rows else 0.0
        except ValueError as error:
            log.info("%s is damaged: %s", path, error)
            rows, trials, begun = [], [], 0.0
        same = bool(rows) and rows[0].get("schema") == SCHEMA and rows[0].get("what") == what
        age = time.time() - begun if same else 0.0
        if same and resume is not False and (resume or 0 <= age <= FRESH_S):
            self._values = {trial.key: trial.value for trial in trials}
            log.info("going on with an interrupted run: %d trials are there (%s)", len(self._values), self.folder)
            self._file.truncate(whole)
            return
        if rows:
            log.info("%s of an interrupted run is begun again%s", self.folder, "" if resume is False else " (too old)")
        for other in self.folder.iterdir():
            if other != path:
                other.unlink()
        self._file.truncate(0)
        try:
            self._write({"schema": SCHEMA, "what": what, "time": time.time()})
        except StorageError:
            self.discard()
            raise

    @property
    def found(self) -> int:
        """Trials that are known."""
        return len(self._values)

    def once(self, key: str, work: Callable[[], Value]) -> Value:
        """What ``work`` gives, done if it was not done before. What it raises is not kept.

        Raises:
            StorageError: the disk is full.
        """
        if key not in self._values:
            value: Value = to_json(work())
            self._write({"key": key, "value": value})
            self._values[key] = value
        return self._values[key]

    def forget(self, key: str) -> None:
        """The next :meth:`once` does it again."""
        self._values.pop(key, None)

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """The result is in safe hands: the folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._file.close()  # last: until then nobody else begins in the folder

    def _write(self, row: Mapping[str, Any]) -> None:
        with writing(self.folder):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()  # to the system: it outlives this process, whatever ends it


@dataclass(frozen=True, slots=True)
class _Begun:
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class _Trial:
    key: str
    value: dict[str, Any]


def _locked(path: Path) -> TextIO:
    handle = hold(path)
    if handle is None:
        raise UsageError(f"the same command is at work already ({path.parent}); wait for it, or change an option")
    return os.fdopen(handle, "a+", encoding="utf-8")  # until close() or discard()


def _clear_old(folder: Path) -> Path:
    for old in folder.glob("*/trials.jsonl"):  # runs that nobody went on with
        if time.time() - changed(old) > KEPT_S:
            shutil.rmtree(old.parent, ignore_errors=True)
    return folder
