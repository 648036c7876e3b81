"""Finished blocks on disk as they finish: a run that is ended in the middle loses none of them.

The log lies beside the ``--json`` file, else in the state folder, and goes when the result has been handed over. After
its first line stand the plan of each machine, and one line a block; the same command goes on after the last one.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.schedule import BlockPlan
from edgekit.bench.session import TakenBlock
from edgekit.documents import typed
from edgekit.errors import EdgekitError, InputError
from edgekit.pipeline.checkpoint_log import CheckpointLog, InUseError, clear_old, digest_of, read_lines, state_folder
from edgekit.results.base import to_json
from edgekit.results.measures import ToolRun

log = logging.getLogger("edgekit")

SCHEMA = "edgekit.bench.journal/2"


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

    def begin(self, chosen: BlockPlan) -> BlockPlan:
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
    """The finished blocks of one run, see :class:`edgekit.pipeline.checkpoint_log.CheckpointLog`.

    The machines of a run keep their blocks in a :meth:`part` each, from threads of their own. A log that cannot be
    written costs the journal, not the run.

    Raises:
        InputError: ``resume`` is True and there is nothing to go on with.
    """

    def __init__(self, path: Path, what: Mapping[str, Any], resume: bool | None = None) -> None:
        self.path = path
        self._plans: dict[str, tuple[BlockPlan, Any]] = {}
        self._blocks: dict[tuple[str, int, int], TakenBlock] = {}
        self._runs: dict[tuple[str, int, int], ToolRun] = {}
        self._writing = threading.RLock()
        self.begun = False
        self.generation = 0
        if resume and not path.exists():
            raise InputError(f"--resume: {path} is not there; leave --resume out")
        self._log = self._opened(what, resume)
        if self._log is not None:
            self._read(self._log)

    @property
    def found(self) -> int:
        """Blocks of an interrupted run."""
        return len(self._blocks) + len(self._runs)

    def part(self, name: str, places: Sequence[int], settings: Any = ()) -> Part:
        """Where one machine keeps its blocks. Its blocks of an interrupted run count if ``settings`` are the same."""
        return Part(self, name, places, json.loads(json.dumps(settings)))

    def begin(self, part: Part, chosen: BlockPlan) -> BlockPlan:
        """The plan that ``part`` goes on with, else ``chosen``, which is written down."""
        with self._writing:
            if not self.begun and self._log is not None:
                self._kept(self._log.open_for_writing)
                if self._log is not None and self._log.continued:
                    self.write({"generation": self.generation})
            self.begun = True
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
            if self._log is not None:
                self._kept(partial(self._log.write, row))

    def close(self) -> None:
        """Lets go of the file, which stays, unless nothing was ever written into it."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def discard(self) -> None:
        """The result is in safe hands: the file goes."""
        if self._mine:
            self.path.unlink(missing_ok=True)
        self.close()

    def _opened(self, what: Mapping[str, Any], resume: bool | None) -> CheckpointLog | None:
        """The log; None where another run has it, or it cannot be written."""
        self._mine = False
        try:
            opened = CheckpointLog(self.path, SCHEMA, what, resume)
        except InputError:  # there is nothing to go on with
            raise
        except EdgekitError as error:
            if resume:
                raise InputError(f"--resume: {self.path} is in use by another run, or cannot be written") from error
            if isinstance(error, InUseError):
                log.warning("another run keeps its blocks in %s; those of this one are not kept", self.path)
            else:
                self._give_up(error)
            return None
        self._mine = True
        return opened

    def _kept(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (EdgekitError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """A full disk costs the journal, not the run."""
        log.warning("finished blocks cannot be kept in %s (%s); an interrupted run would be lost", self.path, error)
        opened, self._log = self.__dict__.get("_log"), None
        if opened is not None:
            if not read_lines(self.path)[0]:
                self.path.unlink(missing_ok=True)
            opened.close()

    def _read(self, opened: CheckpointLog) -> None:
        try:
            rows = [typed(_Row, row, "a line") for row in opened.rows]
        except ValueError as error:
            log.info("%s is damaged: %s", self.path, error)
            opened.begin_again()
            return
        if opened.why:
            log.info("%s of an interrupted run is %s and begun again (--resume goes on)", self.path, opened.why)
        if not opened.continued:
            return
        for row in rows:
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
    """One line of a journal: a plan, a block or a tool's run, whichever are there."""

    generation: int = 0
    part: str = ""
    cell: int = 0
    place: int = 0
    plan: BlockPlan | None = None
    cells: Any = None
    samples_ns: list[int] | None = None
    owner: str | int = ""
    disturbed: bool = False
    invocation: ToolRun | None = None


def journal_in_state(what: Mapping[str, Any]) -> Path:
    """Its place in the state folder: one file for each ``what``. Old ones are cleared away."""
    return clear_old(state_folder() / "interrupted", "*.part") / f"{digest_of(what)}.part"
