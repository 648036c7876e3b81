"""What can be refused before anything runs: every check is the command's own, asked early."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from edgekit import registry
from edgekit.devices import parse_device
from edgekit.errors import EdgekitError, InputError, UsageError
from edgekit.inputs import require_regular
from edgekit.models.family import family
from edgekit.pipeline.bench.checks import check as check_bench
from edgekit.pipeline.prune.checks import check as check_prune
from edgekit.pipeline.quantize.checks import check_request, of_one_scheme
from edgekit.pipeline.quantize.program import check_program
from edgekit.pipeline.recipe.contents import Contents, is_model
from edgekit.pipeline.recipe.plan import ANY, PROGRAM, Run, RunPlan
from edgekit.pipeline.recipe.verbs import FACTORY, listed, names, verb
from edgekit.quantization.calibrate.calibration import check_method
from edgekit.recipe import Problem, RecipeStep
from edgekit.types import Format

_OPTION = re.compile(r"--([a-z][a-z-]*)")


def check_plan(plan: RunPlan, contents: Contents) -> None:
    """Adds what is wrong with the source, the data, the devices and the options of every run of ``plan``."""
    asked_already: dict[tuple[str, str], EdgekitError | None] = {}

    def ask(what: str, value: str, question: Callable[[str], Any]) -> EdgekitError | None:
        """Each question once, however many runs it matters to."""
        if (what, value) not in asked_already:
            asked_already[what, value] = refusal(partial(question, value))
        return asked_already[what, value]

    recipe = plan.recipe
    entry = recipe.source
    for what, question in _of_source(plan, contents) if entry.value else ():
        error = ask(what, entry.value, question)
        plan.problems += [] if error is None else [Problem(entry.line, f"source: {error}")]
    if recipe.data is not None and recipe.data.value:
        error = ask("data", recipe.data.value, contents.data)
        plan.problems += [] if error is None else [Problem(recipe.data.line, f"data: {error}")]
    for step in recipe.steps:
        for name, text, question in _questions(step, plan, contents):
            error = ask(name, text, question)
            plan.problems += [] if error is None else [Problem(step.options[name].line, f"{name}: {error}")]
    plan.problems += _without_code(plan, contents)
    for run in plan.runs:
        error = refusal(partial(_whole, run, partial(_has_learned_ranges, run, plan, contents)))
        if error is not None:
            plan.problems.append(Problem(_line(run, str(error)), str(error)))
        plan.problems += _overwritten(run, plan)


def _without_code(plan: RunPlan, contents: Contents) -> Iterator[Problem]:
    """Steps that take a checkpoint of the user's own network as the recipe's source, and do not name its code."""
    source = plan.recipe.source.value
    for run in plan.runs:
        first = run.verb.takes == "source" and run.inputs[0].writer is None
        if first and FACTORY not in run.options and (error := contents.code_needed(source)) is not None:
            text = f'{FACTORY}: {source} is a checkpoint of your own network; write {FACTORY} = "{error.factory}"'
            yield Problem(run.step.line, f"{text}, if you trust that code")


def _overwritten(run: Run, plan: RunPlan) -> Iterator[Problem]:
    """Files beside its own that more than one run of the step would write."""
    runs = [other.title for other in plan.runs if other.step is run.step]
    for name in run.options:
        if run.verb.options[name].option.names == "output" and len(runs) > 1:
            text = (
                f"{name}: {len(runs)} runs ({', '.join(runs)}) would write the same file; give each a step of its own"
            )
            yield Problem(run.step.options[name].line, text)


def refusal(question: Callable[[], Any]) -> EdgekitError | None:
    """What ``question`` raises, of edgekit's own errors; None if nothing."""
    try:
        question()
    except EdgekitError as error:
        return error
    return None


def _of_source(plan: RunPlan, contents: Contents) -> list[tuple[str, Callable[[str], Any]]]:
    """What the steps that take the recipe's source take it for."""
    if is_model(plan.recipe.source.value):
        return [("model", contents.model)]
    first = {run.verb.takes for run in plan.runs if any(given.writer is None for given in run.inputs)}
    found: list[tuple[str, Callable[[str], Any]]] = [("family", family)] if "family" in first else []
    return found if first == {"family"} else [*found, ("source", contents.source)]


def _questions(step: RecipeStep, plan: RunPlan, contents: Contents) -> Iterator[tuple[str, str, Callable[[str], Any]]]:
    """(option, value, what refuses a wrong one), of the options that are right so far."""
    options = verb(step.do).options if step.do in names() else {}
    for name, entry in step.options.items():
        option = options.get(name)
        if option is None:
            continue
        for value in listed(entry.value):
            question = contents.data if option.option.names == "data" else _QUESTIONS.get(option.option.names)
            if option.option.names == "input":
                question = _must_be_there
            elif option.option.names == "code":
                question = contents.code
            elif option.option.names == "network" and isinstance(value, str):
                question = None if plan.has_step(value) else contents.model if is_model(value) else contents.source
            if question is not None and isinstance(value, str):
                yield name, value, question


def _must_be_there(path: str) -> None:
    require_regular(path, InputError, "a file")


def _calibration(text: str) -> None:
    if text.endswith(".json"):
        _must_be_there(text)
    else:
        check_method(text)


def _format(text: str) -> None:
    if text not in registry.names("converters"):
        raise UsageError(f"no format is called {text!r}; there are: {', '.join(registry.names('converters'))}")


def _runtime(text: str) -> None:
    for name in text.split(","):
        if name.strip().partition(":")[0] not in registry.names("runtimes"):
            raise UsageError(f"no runtime is called {name!r}; there are: {', '.join(registry.names('runtimes'))}")


_QUESTIONS: Mapping[str, Callable[[str], Any]] = {
    "device": parse_device,
    "format": _format,
    "runtime": _runtime,
    "calibration": _calibration,
}


def _whole(run: Run, learned: Callable[[], bool]) -> None:
    """Refuses options that do not go together, or with the format of the file, by the command's own check.

    ``learned``: whether the file that the run takes will carry ranges from quantization-aware training.
    """
    check = _CHECKS.get(run.verb.name)
    if check is not None:
        check(run)
    elif run.verb.name == "quantize":
        _quantize(run, learned)


def _has_learned_ranges(run: Run, plan: RunPlan, contents: Contents) -> bool:
    """Whether what last changed the weights of the one file that ``run`` takes was quantization-aware training.

    Exports take its ranges along, but for those of one step of a sequence.
    """
    writer = run.inputs[0].writer
    while writer is not None and writer.verb.name == "export":
        if writer.options.get("streaming"):
            return False
        writer = writer.inputs[0].writer
    if writer is None:
        return contents.has_learned_ranges(plan.recipe.source.value)
    return writer.verb.name == "finetune" and writer.options.get("qat") is True


def _parsed(run: Run) -> Any:
    """The options of the run as its verb gets them, defaults included."""
    return run.verb.typed(run.options, "input", run.title if run.gives else None)


def _quantize(run: Run, learned: Callable[[], bool]) -> None:
    if run.consumes_all_inputs or run.suffix == ANY:  # auto has its own options; it tries the schemes there are
        return
    options = of_one_scheme(_parsed(run))
    (taken,) = run.inputs
    if taken.suffix == PROGRAM:
        check_program(run.title, options, learned=learned())
        return
    known = options.data is None and options.calibration is None and learned()  # of use without either only
    check_request(run.title, Format(run.suffix.lstrip(".")), options, known)


def _bench(run: Run) -> None:
    options = _parsed(run)
    if options.replay is not None:
        raise UsageError("--replay brings its own models; leave it out: bench here takes those of the steps it is from")
    check_bench(options)


_CHECKS: Mapping[str, Callable[[Run], Any]] = {
    "prune": lambda run: check_prune(_parsed(run)),
    "bench": _bench,
}


def _line(run: Run, message: str) -> int:
    """The line of the first option the message names that the step has; else that of the step."""
    for found in _OPTION.finditer(message):
        if found.group(1) in run.step.options:
            return run.step.options[found.group(1)].line
    for name, entry in run.step.options.items():
        if f"{name} '" in message or f"{entry.value!r}" in message:
            return entry.line
    return run.step.line
