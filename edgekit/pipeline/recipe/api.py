"""``check``, ``show`` and ``run``: ``edgekit recipe …`` and ``edgekit.recipe.…``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from edgekit.errors import RecipeError
from edgekit.models.family import RECIPES
from edgekit.options.base import with_options
from edgekit.options.manage import RecipeCheckOptions, RecipeRunOptions, RecipeShowOptions
from edgekit.pipeline.recipe.checks import check_plan
from edgekit.pipeline.recipe.contents import Contents
from edgekit.pipeline.recipe.execute import no_progress, run_plan
from edgekit.pipeline.recipe.plan import Run, RunPlan, make_plan, supplied
from edgekit.pipeline.recipe.result import RecipeResult
from edgekit.pipeline.recipe.state import WEIGHTS, Folder, parts_of
from edgekit.pipeline.recipe.verbs import arguments
from edgekit.recipe import near, read_recipe, refused
from edgekit.results.recipe import PlannedRun, RecipePlan

RUNS = Path("runs")


@with_options(RecipeCheckOptions)
def check(options: RecipeCheckOptions) -> RecipePlan:
    """Whether ``recipe`` can be run: every step, option, file, data set and device; no folder is read,
    and none of the user's own code is run.

    Raises:
        RecipeError: with every mistake and its line.
    """
    plan, _ = _checked(options.recipe)
    return _shown(plan, RUNS / plan.recipe.name, dict.fromkeys(plan.runs, ""))


@with_options(RecipeShowOptions)
def show(options: RecipeShowOptions) -> RecipePlan:
    """What running ``recipe`` would do, and what of it is done in the folder ``out`` (``runs/NAME`` without it).

    None of the user's own code is run, so that a factory counts by its file alone.

    Raises:
        RecipeError: as :func:`check`.
    """
    plan, contents = _checked(options.recipe)
    folder = Folder(RUNS / plan.recipe.name if options.out is None else Path(options.out))
    hashes: dict[Run, str] = {}
    reasons: dict[Run, str] = {}
    for run in plan.runs:
        waits = [*(given.writer for given in run.inputs), *run.refers.values()]
        open_ = [other.title for other in waits if other is not None and reasons[other]]
        record = folder.record(run)
        if open_:
            reasons[run] = f"waits for {', '.join(open_)}" if record is None else f"{', '.join(open_)} may change"
            continue
        parts = parts_of(run, run.inputs, plan, contents, hashes)
        if record is not None:  # what only running the user's code tells is taken to be as it was
            parts |= {name: value for name, value in record.parts.items() if name.startswith(WEIGHTS)}
        reasons[run] = folder.why(record, parts)
        if record is not None and not reasons[run]:
            hashes[run] = record.sha256
    return _shown(plan, folder.path, reasons)


@with_options(RecipeRunOptions)
def run(options: RecipeRunOptions) -> RecipeResult:
    """Runs every step of ``recipe`` that is not done in the folder ``out`` (``runs/NAME`` without it).

    A run that fails, or whose gate says no, stops what depends on it; the others go on. The result's ``failure()`` is
    what the program ends with.

    Raises:
        RecipeError: as :func:`check`; nothing was run.
        UsageError: the folder cannot be written, or another run works in it.
        StorageError: the disk is full; what is finished is kept.
    """
    plan, contents = _checked(options.recipe, runs=True)
    place = RUNS / plan.recipe.name if options.out is None else Path(options.out)
    return run_plan(plan, place, contents, fresh=options.fresh, progress=options.progress or no_progress)


def _checked(recipe: str | Path, *, runs: bool = False) -> tuple[RunPlan, Contents]:
    path, contents = recipe_path(recipe), Contents(runs=runs)
    plan = make_plan(*read_recipe(path))
    check_plan(plan, contents)
    if plan.problems:
        raise refused(path, plan.problems)
    return plan, contents


def recipe_path(recipe: str | Path) -> Path:
    """The file that is meant: a path, or a name of the zoo for the recipe that is shipped for it.

    Raises:
        RecipeError: neither.
    """
    path = Path(recipe)
    there = shipped()
    if path.is_file() or str(recipe) not in there:
        if not path.exists():
            raise RecipeError(
                f"{path} does not exist; give a recipe file, or the name of a shipped one; "
                f"{near(str(recipe), tuple(there))}"
            )
        return path
    return there[str(recipe)]


def shipped() -> Mapping[str, Path]:
    """Name -> file of the recipes that come with edgekit, one a family of networks."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}


def _shown(plan: RunPlan, folder: Path, reasons: Mapping[Run, str]) -> RecipePlan:
    """``plan`` as it would be done in ``folder``; ``reasons``: why each run is to be done, empty if it is done."""
    recipe = plan.recipe
    return RecipePlan(
        recipe=str(recipe.path),
        name=recipe.name,
        source=recipe.source.value,
        data=None if recipe.data is None else recipe.data.value,
        folder=str(folder),
        runs=tuple(_planned(run, plan, reasons[run]) for run in plan.runs),
    )


def _planned(run: Run, plan: RunPlan, why: str) -> PlannedRun:
    """``run`` with its command line, where a run stands for its file."""
    refers = {name: other.title for name, other in run.refers.items()}
    words = arguments({**run.options, **supplied(run, plan.recipe.source.value), **refers}, run.verb)
    inputs = [given.writer.title if given.writer else plan.recipe.source.value for given in run.inputs]
    return PlannedRun(
        run=run.title,
        step=run.step.name,
        line=run.step.line,
        command=shlex.join(["edgekit", run.verb.name, *inputs, *words]),
        inputs=tuple(given.writer.title if given.writer else "source" for given in run.inputs),
        gives=run.title if run.gives else None,
        done=not why,
        why=why or None,
    )
