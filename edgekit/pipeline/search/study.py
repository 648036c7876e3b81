"""Optuna's study in a folder: what proposes the trials and keeps them, for any number of processes.

Proposals are made in batches, each when all trials of the batch before have ended, with a sampler that is seeded by the
batch: what is proposed does not depend on how many processes or machines made the trials, nor on interruptions.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.documents import typed
from edgekit.errors import InputError, UsageError
from edgekit.locks import hold, locked
from edgekit.outputs import writable_folder
from edgekit.pipeline.checkpoint_log import digest_of
from edgekit.pipeline.search.candidate import Candidate
from edgekit.pipeline.search.space import Fixed, Space
from edgekit.reading import reading
from edgekit.results.base import to_json
from edgekit.results.optimize import TrialRow

if TYPE_CHECKING:
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
"""In the folder of a study: Optuna's."""
OBJECTIVES = ("drop", "ratio", "bytes")
"""What is minimised: quality lost, time and bytes relative to the fastest float file."""
_ALIKE = 100
"""Proposals that were made before, in one batch, after which there is nothing new."""
_STARTUP = 8
"""Trials that are drawn at random before the sampler trusts what it knows."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this process has taken. It is given back, unfinished, when the process ends.

    Attributes:
        number: of the trial in the study.
        ordinal: its place among those that were not proposed before, from 1.
    """

    number: int
    ordinal: int
    candidate: Candidate
    handle: int


class Study:
    """The trials in ``folder``. ``identity``: all that their figures depend on; another one is another study.

    ``allowed``: the largest loss of quality, by which rules choose what is tried.

    Raises:
        UsageError: the folder holds a study of something else.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], space: Space, how: SamplerChoice, allowed: float = 0.0
    ) -> None:
        self.folder, self.space, self.how, self.allowed = writable_folder(folder), space, how, allowed
        self.exhausted = False
        self.baselines: Sequence[TrialRow] = ()
        """The float files, which were judged before any trial."""
        self._study = self._opened(digest_of(json.loads(json.dumps(identity))))

    def _opened(self, digest: str) -> OptunaStudy:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = str(self.folder / JOURNAL)
        with locked(self.folder / "propose.lock"), self._reading():
            storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
            study = optuna.create_study(
                storage=storage, study_name="edgekit", directions=["minimize"] * len(OBJECTIVES), load_if_exists=True
            )
            known = study.user_attrs.get("identity")
            if known is None:
                study.set_user_attr("identity", digest)
            elif known != digest:
                raise UsageError(
                    f"{self.folder.parent} holds a study of another source, data set or options; give another -o, or "
                    "--fresh to forget it"
                )
        return study

    def claim(self, limit: int) -> Claim | None:
        """The next trial that nobody works on, of at most ``limit``; None where others have them all (see
        :meth:`finished`)."""
        with locked(self.folder / "propose.lock"):
            for trial in self._running():
                claim = self._held(trial)
                if claim is not None:
                    return claim
            if self._running() or self.count() >= limit:
                return None
            if not self._propose(min(self._batch(), limit - self.count())):
                return None
            return self._held(self._running()[0])

    def finished(self, limit: int) -> bool:
        """Whether ``limit`` trials have ended, or there is nothing more to try."""
        return (self.exhausted or self.count() >= limit) and not self._running()

    def count(self) -> int:
        """Trials that were proposed, but for those that had been before."""
        return len(self._counted())

    def _counted(self) -> list[FrozenTrial]:
        return [one for one in self._trials() if one.state.name != "WAITING" and "again" not in one.user_attrs]

    def tell(self, claim: Claim, values: Sequence[float] | None, row: TrialRow, constraint: float) -> None:
        """Ends a trial: with its objectives, or pruned or failed, as ``row`` says."""
        from optuna.trial import Trial, TrialState

        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[row.state]
        handle = Trial(self._study, self._id_of(claim.number))
        handle.set_user_attr("row", to_json(row))
        if values is not None:
            handle.set_constraint("drop", constraint)
        self._study.tell(claim.number, values, state=state)
        os.close(claim.handle)

    def rows(self) -> list[TrialRow]:
        """What was told of every trial that has ended, in their order.

        Raises:
            InputError: the journal is damaged.
        """
        known = [trial.user_attrs["row"] for trial in self._trials() if "row" in trial.user_attrs]
        with self._reading():
            return [typed(TrialRow, row, "a trial") for row in known]

    def _reading(self) -> AbstractContextManager[None]:
        path = self.folder / JOURNAL
        return reading(path, InputError, "a journal of trials", advice="--fresh begins again")

    def once(self, key: str, work: Callable[[], Any]) -> Any:
        """What ``work`` gives, done by one process and kept."""
        with locked(self.folder / "once.lock"):
            known = self._study.user_attrs
            if key not in known:
                self._study.set_user_attr(key, json.loads(json.dumps(work())))
            return self._study.user_attrs[key]

    def _batch(self) -> int:
        """How many are proposed at once; the opening by itself, since rules take up what was best there."""
        opening = 0 if self.how.sampler == "random" else len(self.space.opening) - self.count()
        return min(self.how.batch, opening) if opening > 0 else self.how.batch

    def _propose(self, count: int) -> bool:
        """Proposes so many new trials; False where all that comes to mind was tried."""
        self._study.sampler = self.how.sampler_of(self.count())
        from optuna.trial import TrialState

        rows = [*self.baselines, *self.rows()]
        seen = [self.space.propose(Fixed(trial.params)) for trial in self._counted()]
        before, again = len(seen), 0
        while len(seen) < before + count and again < _ALIKE:
            fixed = None if self.how.sampler == "random" else self.space.by_rule(seen, rows, self.allowed)
            if fixed is not None:
                self._study.enqueue_trial(dict(fixed))
            elif self.space.only_rules:
                break
            trial = self._study.ask()
            candidate = self.space.propose(trial)
            if candidate in seen:
                again += 1
                trial.set_user_attr("again", True)
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                seen.append(candidate)
        self.exhausted = len(seen) == before
        return not self.exhausted

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _running(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.state.name == "RUNNING"]

    def _id_of(self, number: int) -> int:
        return next(trial._trial_id for trial in self._trials() if trial.number == number)

    def _held(self, trial: FrozenTrial) -> Claim | None:
        handle = hold(self.folder / "claims" / f"{trial.number}.lock")
        if handle is None:
            return None
        ordinal = 1 + [one.number for one in self._counted()].index(trial.number)
        return Claim(trial.number, ordinal, self.space.propose(Fixed(trial.params)), handle)


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """What proposes: its name, the seed, and how many proposals are made at once."""

    sampler: str
    seed: int
    batch: int

    def sampler_of(self, count: int) -> Any:
        """The sampler of the batch that begins after ``count`` trials."""
        import optuna

        seed = (self.seed << 16) + count
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group=True since 2021
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP, multivariate=True, group=True)
