"""A recipe -> the runs it stands for: one command line each, in an order in which every input is there before it is
needed."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from edgekit.limits import check
from edgekit.pipeline.recipe.verbs import CODE_OF, FACTORY, Verb, listed, names, verb, wrong
from edgekit.recipe import SOURCE, Problem, Recipe, RecipeStep, near
from edgekit.types import Format

MODEL_SUFFIXES = tuple(f".{format_}" for format_ in Format)
CHECKPOINT, PROGRAM = ".safetensors", f".{Format.PT2}"
ANY = ".*"
"""Suffix of a file whose format is chosen as it is made."""
_ELSEWHERE = {
    "distil": 'write do = "finetune" with distil-from = "the teacher", or do = "prune", which distils by itself',
    "qat": 'write do = "finetune" with qat = true',
    "convert": 'write do = "export"',
    "evaluate": 'write do = "eval"',
}
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._]+")


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A file that a run takes: the run that wrote it (None: the recipe's source), every run that must have gone
    well before it is of use, checks of the file included, and its suffix."""

    writer: Run | None
    waits: tuple[Run, ...]
    suffix: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of a command.

    Attributes:
        step: the step it belongs to.
        verb: its command.
        options: what the step says, with one value where the command takes one; the recipe's ``data`` among them.
        inputs: the files it takes.
        refers: option -> the run whose file it names (``against``).
        label: ``quantize-int8``: step, and what tells it from other runs of the step, without the format.
        suffix: of its file, or of the file it looks at: ``.onnx``; :data:`ANY` if that is not known yet, empty if it
            takes several and gives none.
        gives: whether it writes a file.
    """

    step: RecipeStep
    verb: Verb
    options: Mapping[str, Any]
    inputs: tuple[Input, ...]
    refers: Mapping[str, Run]
    label: str
    suffix: str
    gives: bool

    @property
    def title(self) -> str:
        """Its name for people, and of its file if it writes one: ``quantize-int8.tflite``."""
        return self.label if self.suffix == ANY else self.label + self.suffix

    @property
    def consumes_all_inputs(self) -> bool:
        """Whether it takes as many files as there are, so that it can do with fewer."""
        return _consumes_all_inputs(self.verb, self.options)


@dataclass(slots=True)
class _Output:
    """A file that a step hands on: the run that wrote it (None: the recipe's source), and the runs it waited for."""

    writer: Run | None
    waits: dict[Run, None]
    suffix: str
    marks: tuple[str, ...]
    """What tells it from other files of the step."""


@dataclass(slots=True)
class RunPlan:
    """The runs of ``recipe``, in order, and what is wrong with it."""

    recipe: Recipe
    runs: list[Run] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def has_step(self, name: str) -> bool:
        return any(step.name == name for step in self.recipe.steps)


def _consumes_all_inputs(kind: Verb, options: Mapping[str, Any]) -> bool:
    """Whether one run takes all files: a command that only looks at them, and quantize where it chooses among them."""
    return kind.takes == "models" and (not kind.gives or options.get("scheme") == "auto")


def supplied(run: Run, source: str) -> dict[str, str]:
    """Options of ``run`` that name the code behind the checkpoints it takes, where its step does not: the recipe's
    ``source``, if that is the user's own code, or what a step before named.
    """
    behind = {CODE_OF[name]: other for name, other in run.refers.items() if name in CODE_OF}
    if run.verb.takes == "source" and run.inputs[0].writer is not None:
        behind[FACTORY] = run.inputs[0].writer
    wanted = {
        option: _builder(writer, source)
        for option, writer in behind.items()
        if option in run.verb.options and option not in run.options and writer.suffix == CHECKPOINT
    }
    return {option: code for option, code in wanted.items() if code is not None}


def _builder(run: Run, source: str) -> str | None:
    """What builds the network of the checkpoint that ``run`` writes; None where none is needed."""
    from edgekit.source import builder_of

    if run.verb.takes != "source":
        return None
    if FACTORY in run.options:
        return str(run.options[FACTORY])
    writer = run.inputs[0].writer
    return builder_of(source, None) if writer is None else _builder(writer, source)


def is_model_suffix(suffix: str) -> bool:
    """Whether a step that gives ``suffix`` gives a finished model file."""
    return suffix in MODEL_SUFFIXES or suffix == ANY


def make_plan(recipe: Recipe, problems: Sequence[Problem]) -> RunPlan:
    """The runs of ``recipe``. ``problems``: what is wrong with its shape; what more is found is added.

    Steps that are wrong, and those that wait for them, have no runs; the options of every step are looked at.

    Raises:
        LimitError: more runs than a recipe may have.
    """
    recipe = replace(recipe, steps=tuple(map(_renamed, recipe.steps)))
    plan = RunPlan(recipe, problems=list(problems))
    good = [step for step in recipe.steps if _check_step(step, plan.problems)]
    known = {step.name: step for step in recipe.steps}
    edges: dict[str, list[str]] = {}
    for step in recipe.steps:
        wanted = [(name, step.lines.get("from", step.line)) for name in step.parents if name != SOURCE]
        for name, line in wanted:
            if name not in known:
                there = near(name, (SOURCE, *(other for other in known if other != step.name)))
                plan.problems.append(Problem(line, f"from: no step is called {name!r}; {there}"))
        edges[step.name] = [name for name, _ in wanted if name in known]
        if step in good:
            edges[step.name] += _references(step, known).values()
    done: dict[str, list[_Output]] = {SOURCE: [_source(recipe)]}
    for name in _ordered(edges, known, plan.problems):
        step = known[name]
        missing = [other for other in (*step.parents, *edges[name]) if other not in done]
        if step in good and not missing:
            done[name] = _expand(step, done, plan)
    return plan


def _renamed(step: RecipeStep) -> RecipeStep:
    """``step`` with the names that its options have now."""
    if step.do not in names():
        return step
    kind = verb(step.do)
    return replace(step, options={kind.named(name): entry for name, entry in step.options.items()})


def _check_step(step: RecipeStep, problems: list[Problem]) -> bool:
    """Whether the step's command and each of its options are right on their own."""
    if step.do not in names():
        hint = _ELSEWHERE.get(step.do) or near(step.do, names())
        problems.append(Problem(step.lines["do"], f"no step is called {step.do!r}; {hint}"))
        return False
    kind, found = verb(step.do), len(problems)
    for name, entry in step.options.items():
        option = kind.options.get(name)
        if option is None:
            problems.append(Problem(entry.line, f"{step.do} has no {name!r}; {near(name, kind.options)}"))
            continue
        told = [wrong(option, value) for value in listed(entry.value)] or [
            f"{name} is an empty list; give at least one value"
        ]
        problems += [Problem(entry.line, text) for text in told if text]
    for name, option in kind.options.items():
        if option.required and name not in step.options and name != "data":
            problems.append(Problem(step.line, f"{step.do} needs {name}: {option.option.help}"))
    return len(problems) == found


def _references(step: RecipeStep, known: Mapping[str, RecipeStep]) -> dict[str, str]:
    """Option -> the step whose file it names."""
    options = verb(step.do).options
    return {
        name: entry.value
        for name, entry in step.options.items()
        if options[name].option.names == "network" and isinstance(entry.value, str) and entry.value in known
    }


def _ordered(edges: Mapping[str, Sequence[str]], known: Mapping[str, RecipeStep], problems: list[Problem]) -> list[str]:
    """Names of the steps, each after those it waits for, else as in the file; without those in a circle."""
    sorter, found, ready = TopologicalSorter(edges), list[str](), set[str]()
    places = {name: place for place, name in enumerate(known)}
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # each waits for the next one
        first = known[circle[0]]
        text = f"these steps wait for each other: {' waits for '.join(circle)}"
        problems.append(Problem(first.lines.get("from", first.line), text))
        rest = {name: [other for other in edges[name] if other not in circle] for name in edges if name not in circle}
        return _ordered(rest, known, problems)
    while sorter:
        ready.update(sorter.get_ready())
        found.append(min(ready, key=places.__getitem__))
        ready.remove(found[-1])
        sorter.done(found[-1])
    return found


def _source(recipe: Recipe) -> _Output:
    suffix = Path(recipe.source.value).suffix.lower()
    return _Output(None, {}, suffix if suffix in MODEL_SUFFIXES else CHECKPOINT, ())


def _expand(step: RecipeStep, done: Mapping[str, list[_Output]], plan: RunPlan) -> list[_Output]:
    """Adds the runs of ``step``; the files it hands on."""
    kind = verb(step.do)
    options = {name: entry.value for name, entry in step.options.items()}
    if "data" in kind.options and "data" not in options and plan.recipe.data is not None:
        options["data"] = plan.recipe.data.value
    missing = [name for name, option in kind.options.items() if option.required and name not in options]
    taken = _taken(step, kind, done, plan.problems)
    if missing:  # only data can be: the others were looked at
        plan.problems.append(Problem(step.line, f"{step.do} needs data: write it here or at the top of the recipe"))
    if missing or not taken:
        return []
    several = [len(value) for name, value in options.items() if isinstance(value, list) and _splits(kind, name)]
    check("RECIPE_RUNS", len(plan.runs) + math.prod(several) * len(taken), plan.recipe.path)
    runs = [(group, *way) for way in _choices(kind, options) for group in _groups(taken, kind, way[0])]
    runs.sort(key=lambda run: taken.index(run[0][0]))
    return _merged([output for run in runs for output in _add(step, kind, *run, done, plan)])


def _groups(taken: list[_Output], kind: Verb, options: Mapping[str, Any]) -> list[list[_Output]]:
    """The files of each run: one; all where it only looks at them; where it chooses, those that differ in format."""
    if not _consumes_all_inputs(kind, options):
        return [[output] for output in taken]
    if not kind.gives:
        return [taken]
    groups: dict[tuple[str, ...], list[_Output]] = {}
    for output in taken:
        groups.setdefault(output.marks, []).append(output)
    return list(groups.values())


def _taken(step: RecipeStep, kind: Verb, done: Mapping[str, list[_Output]], problems: list[Problem]) -> list[_Output]:
    """The files that the step takes; none where they are of the wrong kind."""
    several = len(step.parents) > 1
    found: list[_Output] = []
    for name in step.parents:
        for output in done[name]:
            marks = (*output.marks, name) if several else output.marks
            found.append(_Output(output.writer, output.waits, output.suffix, marks))
    line = step.lines.get("from", step.line)
    models = [output for output in found if is_model_suffix(output.suffix)]
    network = [output for output in found if not is_model_suffix(output.suffix) or output.suffix == PROGRAM]
    fitting = models if kind.takes.startswith("model") else network
    if kind.takes == "family":
        if step.parents != (SOURCE,):
            problems.append(Problem(line, f'{step.do} begins with the recipe\'s source; write from = "{SOURCE}"'))
        return found if step.parents == (SOURCE,) else []
    wrong_ones = [output for output in found if output not in fitting]
    if wrong_ones:
        given = wrong_ones[0].writer.title if wrong_ones[0].writer else "the recipe's source"
        wants = "model files: put an export between" if kind.takes != "source" else "a network, not a finished file"
        problems.append(Problem(line, f"{step.do} takes {wants} ({given} is {wrong_ones[0].suffix})"))
        return []
    return fitting


def _choices(kind: Verb, options: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Options with one value each where the command takes one, and the values that were chosen, for the label."""
    split = [name for name, value in options.items() if isinstance(value, list) and _splits(kind, name)]
    for values in itertools.product(*(dict.fromkeys(options[name]) for name in split)):
        marks = tuple(str(value) for name, value in zip(split, values, strict=True) if not _is_format(kind, name))
        yield {**options, **dict(zip(split, values, strict=True))}, marks


def _splits(kind: Verb, name: str) -> bool:
    return not kind.options[name].several or _is_format(kind, name)


def _is_format(kind: Verb, name: str) -> bool:
    """``to`` of a command that writes a file a format: each has a run of its own, so that one can fail alone."""
    return kind.gives == "files" and name == "to"


def _add(
    step: RecipeStep,
    kind: Verb,
    group: list[_Output],
    options: dict[str, Any],
    chosen: tuple[str, ...],
    done: Mapping[str, list[_Output]],
    plan: RunPlan,
) -> list[_Output]:
    """One run and the files it hands on."""
    looks_at_all = _consumes_all_inputs(kind, options) and not kind.gives
    marks = tuple(dict.fromkeys([*(() if looks_at_all else group[0].marks), *chosen]))
    suffix = "" if looks_at_all else ANY if _consumes_all_inputs(kind, options) else group[0].suffix
    if kind.gives == "checkpoint":
        suffix = CHECKPOINT
    elif kind.gives == "files":
        suffix = f".{listed(options['to'])[0]}"
    elif kind.name == "quantize" and suffix == PROGRAM:
        suffix = f".{Format.PTE}"
    refers = {
        name: run
        for name, other in _references(step, {s.name: s for s in plan.recipe.steps}).items()
        if (run := _referred(step, name, done[other], group, suffix, plan.problems)) is not None
    }
    inputs = tuple(Input(output.writer, tuple(output.waits), output.suffix) for output in group)
    label = "-".join([step.name, *(_NOT_IN_A_NAME.sub("-", mark).strip("-") for mark in marks)])
    run = Run(step, kind, options, inputs, refers, label, suffix, bool(kind.gives))
    if any(run.title == other.title for other in plan.runs):
        plan.problems.append(Problem(step.line, f"two runs would both be called {run.title}; give the steps names"))
    plan.runs.append(run)
    if kind.gives:
        return [_Output(run, {run: None}, suffix, marks)]
    return [_Output(output.writer, {**output.waits, run: None}, output.suffix, output.marks) for output in group]


def _merged(outputs: list[_Output]) -> list[_Output]:
    """Each file once, with everything that was waited for on the way to it."""
    found: dict[Run | None, _Output] = {}
    for output in outputs:
        known = found.setdefault(output.writer, output)
        known.waits = {**known.waits, **output.waits}
    return list(found.values())


def _referred(
    step: RecipeStep,
    option: str,
    candidates: list[_Output],
    group: list[_Output],
    suffix: str,
    problems: list[Problem],
) -> Run | None:
    """The file of another step that ``option`` means: one this run's input was made from, the only one, or the one of
    the same format."""
    runs = [output.writer for output in candidates if output.writer is not None]
    behind = _ancestors([output.writer for output in group if output.writer is not None])
    fitting = [run for run in runs if run in behind] or runs
    if len(fitting) > 1:
        fitting = [run for run in fitting if run.suffix == suffix] or fitting
    if len(fitting) == 1:
        return fitting[0]
    what = f"{len(fitting)} files: {', '.join(run.title for run in fitting)}" if fitting else "no file"
    name = step.options[option].value
    problems.append(Problem(step.options[option].line, f"{option}: the step {name!r} gives {what}; one is wanted"))
    return None


def _ancestors(runs: Sequence[Run]) -> set[Run]:
    found: set[Run] = set()
    left = list(runs)
    while left:
        run = left.pop()
        if run not in found:
            found.add(run)
            left += [given.writer for given in run.inputs if given.writer is not None]
    return found
