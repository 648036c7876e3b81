"""A candidate's file, by its recipe: what two candidates have in common is made once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.artifact import open_artifact, sha256_model, size_bytes
from edgekit.errors import EdgekitError, InputError
from edgekit.locks import locked
from edgekit.outputs import publishing, writable_folder
from edgekit.pipeline.recipe.checks import check_plan
from edgekit.pipeline.recipe.contents import Contents
from edgekit.pipeline.recipe.execute import run_plan
from edgekit.pipeline.recipe.plan import make_plan
from edgekit.pipeline.recipe.state import StepStore
from edgekit.recipe import parse_recipe, refused
from edgekit.types import Artifact, Card

log = logging.getLogger("edgekit")
RECIPE = "recipe.toml"


@dataclass(frozen=True, slots=True)
class MakeOrder:
    """What is to be made: the text of a recipe, the folder that its files go to, the store of what is made already."""

    text: str
    folder: Path
    store: Path


@dataclass(frozen=True, slots=True)
class MadeFile:
    """The file, or ``why`` it was not made, with the exit code that says so. ``card``: what is known of a file of
    somebody else's that has none, or another one. ``document``: that of the command that wrote it."""

    path: Path | None
    sha256: str = ""
    bytes: int = 0
    seconds: float = 0.0
    why: str = ""
    exit_code: int = 0
    card: Card | None = None
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def artifact(self) -> Artifact:
        assert self.path is not None
        found = open_artifact(self.path)
        return found if self.card is None else replace(found, card=self.card)


def make(order: MakeOrder) -> MadeFile:
    """Runs the recipe; what it refuses becomes ``why``. Runs in any process that sees the source and the data.

    Raises:
        StorageError: the disk is full.
    """
    with locked(writable_folder(order.folder) / "making.lock"):  # another process of the study may want the same file
        return _made(order, time.monotonic())


def _made(order: MakeOrder, start: float) -> MadeFile:
    place = order.folder / RECIPE
    with publishing(place) as temporary:
        temporary.write_text(order.text, encoding="utf-8")
    plan = make_plan(*parse_recipe(order.text, place))
    check_plan(plan, contents())
    if plan.problems:
        return MadeFile(None, why=str(refused(place, plan.problems)), exit_code=InputError.exit_code)
    with _quiet():
        result = run_plan(plan, order.folder, contents(), store=StepStore(order.store), progress=_silent)
    bad = next((one for one in result.outcomes if one.ended == "failed"), None)
    if bad is not None:
        return MadeFile(None, why=f"{bad.run.title}: {bad.reason}", exit_code=bad.exit_code)
    last = result.outcomes[-1]
    if last.file is None:
        raise EdgekitError(f"{place} makes no file")
    seconds = time.monotonic() - start
    return MadeFile(last.file, sha256_model(last.file), size_bytes(last.file), seconds, document=last.document or {})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the words of each step; a trial has a line of its own."""
    level = log.level
    log.setLevel(logging.CRITICAL if log.getEffectiveLevel() > logging.DEBUG else level)
    try:
        yield
    finally:
        log.setLevel(level)


def _silent(verb: str) -> AbstractContextManager[Callable[..., None]]:
    return nullcontext(lambda *facts: None)


@cache
def contents() -> Contents:
    """Hashes of data and networks, taken once a process."""
    return Contents(runs=True)
