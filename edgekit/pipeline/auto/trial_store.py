"""Finished trials on disk as they finish: a run that is ended in the middle does none of them again.

A folder for each run, named by a hash of all that its figures depend on: the files, the data, the options, the device,
the versions. In it the candidates' files and ``trials.jsonl``: what the run is, then one line a trial. It goes when the
result has been handed over.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.documents import typed
from edgekit.errors import InputError, StorageError, UsageError
from edgekit.outputs import writable_folder
from edgekit.pipeline.checkpoint_log import CheckpointLog, InUseError, clear_old, digest_of, state_folder
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
        self.folder = clear_old(state_folder() / "auto", "*/trials.jsonl") / digest_of(json.loads(json.dumps(what)))
        path = self.folder / "trials.jsonl"
        if resume and not path.exists():
            raise InputError("--resume: no interrupted run of these models and options is there; leave --resume out")
        writable_folder(self.folder)
        try:
            self._log = CheckpointLog(path, SCHEMA, what, resume)
        except InUseError as error:
            raise UsageError(
                f"the same command is at work already ({self.folder}); wait for it, or change an option"
            ) from error
        self._values: dict[str, Value] = {}
        try:
            self._values = {one.key: one.value for one in (typed(_Trial, row, "a line") for row in self._log.rows)}
        except ValueError as error:
            log.info("%s is damaged: %s", path, error)
            self._log.begin_again()
        if self._log.continued:
            log.info("going on with an interrupted run: %d trials are there (%s)", self.found, self.folder)
        else:
            if self._log.why:
                log.info("%s of an interrupted run is begun again (%s)", self.folder, self._log.why)
            for other in self.folder.iterdir():
                if other != path:
                    other.unlink()
        try:
            self._log.open_for_writing()
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
            self._log.write({"key": key, "value": value})
            self._values[key] = value
        return self._values[key]

    def forget(self, key: str) -> None:
        """The next :meth:`once` does it again."""
        self._values.pop(key, None)

    def close(self) -> None:
        self._log.close()

    def discard(self) -> None:
        """The result is in safe hands: the folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._log.close()  # last: until then nobody else begins in the folder


@dataclass(frozen=True, slots=True)
class _Trial:
    key: str
    value: dict[str, Any]
