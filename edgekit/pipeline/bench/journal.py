"""Finished blocks on disk as they finish: a run that is ended in the middle loses none of them.

A file of lines, each one JSON object: first what is being run, then the plan of each machine, and one line a block. It
lies beside the ``--json`` file, else in the state folder, and goes when the result has been handed over. The same
command finds it and goes on after the last finished block; a line that was cut off in the middle of writing is left
out. While a run lasts it holds a lock on its journal, so that the same command at the same time does not take it for an
interrupted one.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgekit.bench.noisefloor import state_folder
from edgekit.bench.schedule import Plan
from edgekit.bench.session import TakenBlock
from edgekit.documents import parse_json, typed
from edgekit.errors import EdgekitError, InputError
from edgekit.locks import hold
from edgekit.results.base import to_json
from edgekit.results.measures import ToolRun

log = logging.getLogger("edgekit")

SCHEMA = "edgekit.bench.journal/2"
KEPT_S = 7 * 86_400.0
"""Journals in the state folder that are older than this are removed."""
FRESH_S = 3600.0
"""An interrupted run is resumed automatically if it is younger than this; later only with ``--resume``."""


@dataclass
class Part:
    """The blocks of the cells on one machine: a :class:`edgekit.bench.session.Keeper`.

    ``places``: of its cells in the whole run; ``settings``: what they are, once they are open.
    """

    journal: Journal
    name: str
    places: Sequence[int]
    settings: Any

    @property
    def generation(self) -> int:
        return self.journal.generation

    def begin(self, chosen: Plan) -> Plan:
        """See :class:`edgekit.bench.session.Keeper`."""
        return self.journal.begin(self, chosen)

    def find(self, cell: int, place: int) -> TakenBlock | None:
        return self.journal.find(self.name, self.places[cell], place)

    def keep(self, cell: int, place: int, block: TakenBlock) -> None:
        row = {"part": self.name, "cell": self.places[cell], "place": place, "owner": block.owner}
        self.journal.write(row | {"disturbed": block.disturbed, "samples_ns": block.samples_ns.tolist()})

    def find_run(self, cell: int, place: int) -> ToolRun | None:
        """What an invocation of a timing program in the place of a block gave."""
        return self.journal.find_run(self.name, self.places[cell], place)

    def keep_run(self, cell: int, place: int, run: ToolRun) -> None:
        row = {"part": self.name, "cell": self.places[cell], "place": place}
        self.journal.write(row | {"invocation": to_json(run)})


class Journal:
    """The journal of one run. ``what`` names all that its figures depend on; another ``what`` is another run.

    The machines of a run keep their blocks in a :meth:`part` each, from threads of their own.

    ``resume``: True goes on whatever the age, False begins again, None goes on when the journal is fresh.

    Raises:
        InputError: ``resume`` is True and there is nothing to go on with.
    """

    def __init__(self, path: Path, what: Mapping[str, Any], resume: bool | None = None) -> None:
        self.path = path
        self._what = _plain(what)
        self._plans: dict[str, tuple[Plan, Any]] = {}
        self._blocks: dict[tuple[str, int, int], TakenBlock] = {}
        self._runs: dict[tuple[str, int, int], ToolRun] = {}
        self._whole_bytes = 0
        self._writing = threading.RLock()
        self.begun = False
        self.generation = 0
        if resume and not path.exists():
            raise InputError(f"--resume: {path} is not there; leave --resume out")
        self._file: TextIO | None = None
        self._file = self._lock()
        if resume and self._file is None:
            raise InputError(f"--resume: {path} is in use by another run, or cannot be written")
        if self._file is not None and resume is not False:
            self._read(resume)
        elif self._file is not None and path.stat().st_size:
            log.info("%s of an interrupted run is begun again", path)

    @property
    def found(self) -> int:
        """Blocks of an interrupted run."""
        return len(self._blocks) + len(self._runs)

    def part(self, name: str, places: Sequence[int], settings: Any = ()) -> Part:
        """Where one machine keeps its blocks. Its blocks of an interrupted run count if ``settings`` are the same."""
        return Part(self, name, places, _plain(settings))

    def begin(self, part: Part, chosen: Plan) -> Plan:
        """The plan that ``part`` goes on with, else ``chosen``, which is written down."""
        with self._writing:
            self._open_for_writing()
            plan, settings = self._plans.get(part.name, (chosen, None))
            if settings == part.settings:
                return plan
            if settings is not None:
                log.info("%s: not as it was when the run was interrupted; begun again there", part.name)
                self._forget(part.name)
            self.write({"part": part.name, "plan": asdict(chosen), "cells": part.settings})
            return chosen

    def find(self, part: str, cell: int, place: int) -> TakenBlock | None:
        return self._blocks.get((part, cell, place))

    def find_run(self, part: str, cell: int, place: int) -> ToolRun | None:
        return self._runs.get((part, cell, place))

    def write(self, row: Mapping[str, Any]) -> None:
        """One more line; a disk that is full ends the journal, not the run."""
        with self._writing:
            if self._file is None:
                return
            try:
                self._file.write(json.dumps(row) + "\n")
                self._file.flush()  # to the system: it outlives this process, whatever ends it
            except OSError as error:
                self._give_up(error)

    def _open_for_writing(self) -> None:
        """Once, before the first line: cuts off what is of another run, or was not finished."""
        if self.begun:
            return
        self.begun = True
        try:
            if self._file is not None:
                self._file.truncate(self._whole_bytes)
        except OSError as error:
            self._give_up(error)
        if self._plans:
            self.write({"generation": self.generation})
        else:
            self.write({"schema": SCHEMA, "what": self._what, "time": time.time()})

    def close(self) -> None:
        """Lets go of the file, which stays, unless nothing was ever written into it."""
        if self._file is None:
            return
        if not self.path.stat().st_size:
            self.path.unlink()
        self._file.close()
        self._file = None

    def discard(self) -> None:
        """The result is in safe hands: the file goes."""
        if self._mine:
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lock(self) -> TextIO | None:
        """The open file, for as long as this run lasts; None where another run has it, or it cannot be written."""
        self._mine = False
        try:
            handle = hold(self.path)
        except EdgekitError as error:
            self._give_up(error)
            return None
        if handle is None:
            log.warning("another run keeps its blocks in %s; those of this one are not kept", self.path)
            return None
        self._mine = True
        return os.fdopen(handle, "a+", encoding="utf-8")  # until close() or discard()

    def _give_up(self, error: Exception) -> None:
        """A full disk costs the journal, not the run."""
        log.warning("finished blocks cannot be kept in %s (%s); an interrupted run would be lost", self.path, error)
        handle, self._file = self._file, None
        if handle is not None:
            if not read_lines(self.path)[0]:
                self.path.unlink(missing_ok=True)
            try:
                handle.close()
            except OSError:
                log.debug("%s could not be closed", self.path)  # its last line could not be written either

    def _read(self, resume: bool | None) -> None:
        rows, whole = read_lines(self.path)
        try:
            found = [typed(_Row, row, "a line") for row in rows]
        except ValueError as error:
            log.info("%s is damaged: %s", self.path, error)
            rows = []
            found = []
        same = bool(rows) and rows[0].get("schema") == SCHEMA and rows[0].get("what") == self._what
        age = time.time() - found[0].time if same else 0.0
        planned = same and any("plan" in row for row in rows)
        if not planned or (resume is None and not 0 <= age <= FRESH_S):
            if resume:
                self.close()
                raise InputError(
                    f"--resume: {self.path} holds another run; give the same models and options, or leave --resume out"
                )
            if rows:
                why = f"{age / 3600:.1f} hours old" if same else "of other models or options"
                log.info("%s of an interrupted run is %s and begun again (--resume goes on)", self.path, why)
            return
        self._whole_bytes = whole
        for row in found:
            if row.plan is not None:
                self._forget(row.part)
                self._plans[row.part] = row.plan, row.cells
            if row.samples_ns is not None:
                block = TakenBlock(np.array(row.samples_ns, dtype=np.int64), str(row.owner), row.disturbed)
                self._blocks[row.part, row.cell, row.place] = block
            if row.invocation is not None:
                self._runs[row.part, row.cell, row.place] = row.invocation
            self.generation = max(self.generation, row.generation)
        self.generation += 1
        log.info("going on with an interrupted run: %d blocks are there (%s)", self.found, self.path)

    def _forget(self, part: str) -> None:
        """Another plan, or other cells, have begun in ``part``."""
        self._blocks = {key: block for key, block in self._blocks.items() if key[0] != part}
        self._runs = {key: run for key, run in self._runs.items() if key[0] != part}


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a journal: how it begins, a plan, a block or a tool's run, whichever are there."""

    time: float = 0.0
    generation: int = 0
    part: str = ""
    cell: int = 0
    place: int = 0
    plan: Plan | None = None
    cells: Any = None
    samples_ns: list[int] | None = None
    owner: str | int = ""
    disturbed: bool = False
    invocation: ToolRun | None = None


def journal_in_state(what: Mapping[str, Any]) -> Path:
    """Its place in the state folder: one file for each ``what``. Old ones are cleared away."""
    digest = sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    folder = state_folder() / "interrupted"
    for old in folder.glob("*.part"):  # runs that nobody went on with
        if time.time() - changed(old) > KEPT_S:
            old.unlink(missing_ok=True)
    return folder / f"{digest}.part"


def changed(file: Path) -> float:
    """When it was last written, in seconds since 1970; now, where another process has removed it."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _plain(value: Any) -> Any:
    """As it comes back from the file."""
    return json.loads(json.dumps(value))


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a journal, and the bytes they take; nothing of a file that cannot be read."""
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
