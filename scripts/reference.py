"""Writes docs/reference.md, the options of every command, and docs/plugins.md, what a plug-in has to have; see
scripts/reference."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click

from edgekit.cli.generate import VerbCommand, facts_of
from edgekit.cli.verbs import VERBS
from edgekit.options.base import OptionField, option_fields
from edgekit.registry import TABLES

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "plugin"
HEAD = """# Reference: the options of every command

Made by `scripts/reference` from the dataclasses in `edgekit/options/`. A recipe writes the same names without
the dashes; the Python functions take the name of the last column. `--json PATH`, `-q` and `--debug` belong to every
command.
"""
LOG = "`--log mlflow` writes options, figures and files to MLflow, too ([history.md](history.md)).\n"
PAGE = "`--html FILE` writes the result as a page ([report.md](report.md)).\n"


PLUGINS_HEAD = """# Reference: plug-ins

Made by `scripts/reference` from the code. A package of its own adds a name to a table of edgekit with an entry point;
nothing in edgekit has to change. The examples are the package [examples/plugin](../examples/plugin/README.md), which a
test installs and uses; [examples/ncnn](../examples/ncnn/README.md) is a whole runtime from elsewhere.

Classes are shown without what a plug-in does not override. **What has `@abstractmethod`, and an attribute without a
value, has to be written**; everything else has the default that is shown, or does nothing. A name that edgekit has
itself cannot be replaced. Importing the module of a source, runtime or device must not import the packages behind it.
"""


class PlugIn(NamedTuple):
    """One table of the registry, for the page.

    Attributes:
        title: of its section.
        text: what an entry is.
        shown: ``module:name`` of a class or function, and the methods to show besides those that are required.
    """

    title: str
    text: str
    shown: Mapping[str, str]


PLUG_INS = {
    "data": PlugIn(
        "Data set",
        "A function `(name, split) -> Dataset`, called for `--data NAME`; for `--data NAME:PATH` it is called with "
        "`(name, path, split, default_split)`, `split` being empty where the user named none. A set that is published "
        "in splits of its own is a `Reader`.",
        {
            "edgekit.data.dataset:Dataset": "",
            "edgekit.data.dataset:Reader": "",
            "edgekit.data.dataset:choose_split": "",
        },
    ),
    "kinds": PlugIn(
        "Kind of data",
        "A `DataKind`: how raw samples become a tensor. Its name is the `kind` of a `Dataset` and an `InputSpec`.",
        {"edgekit.data.kind:DataKind": "", "edgekit.types:InputSpec": ""},
    ),
    "sources": PlugIn(
        "Source",
        "A class derived from `Source`: what the user typed becomes a network. `resolve` ends with `assemble`.",
        {"edgekit.source.base:Source": "claims sized rebuild provenance", "edgekit.source.assemble:assemble": ""},
    ),
    "packages": PlugIn(
        "Target of package",
        "An instance of a class derived from `Target`. Its name is the value of `package --for`.",
        {
            "edgekit.packaging.base:Target": "check",
            "edgekit.packaging.base:Package": "",
            "edgekit.packaging.base:Subject": "",
            "edgekit.packaging.base:Tensor": "",
            "edgekit.packaging.base:Sample": "",
        },
    ),
    "families": PlugIn(
        "Network family",
        "A `Family`: a builder function of numbers, and how its networks are trained.",
        {
            "edgekit.models.family:Family": "",
            "edgekit.models.family:Fitted": "",
            "edgekit.models.family:Hyperparameters": "",
            "edgekit.models.family:classifier": "",
        },
    ),
    "objectives": PlugIn(
        "Training objective",
        "An `Objective`: what training minimises. Its name is the `kind` of a `Task`.",
        {"edgekit.models.objective:Objective": "", "edgekit.types:Task": ""},
    ),
    "metrics": PlugIn(
        "Metric",
        "A function `(runner, dataset, card, limit) -> Evaluation`. Its name is the `kind` of a `Task`.",
        {
            "edgekit.quality.evaluate:Runs": "run",
            "edgekit.results.eval:Evaluation": "",
            "edgekit.quality.evaluate:model_batches": "",
        },
    ),
    "passes": PlugIn(
        "Pass: pruning method or quantization scheme",
        "A `PruningMethod` (a value of `prune --method`) or a `Scheme` (of `quantize --scheme`); each makes a `Pass`.",
        {
            "edgekit.passes:Pass": "",
            "edgekit.passes:PassContext": "",
            "edgekit.types:PassResult": "",
            "edgekit.pruning.methods:PruningMethod": "",
            "edgekit.pruning.methods:PruneRequest": "",
            "edgekit.pruning.methods:Structured": "most choice",
            "edgekit.quantization.schemes:Scheme": "",
            "edgekit.quantization.schemes:SchemeRequest": "",
        },
    ),
    "converters": PlugIn(
        "Converter",
        "A class derived from `Converter`, made without arguments. Its name is the value of `export --to`.",
        {
            "edgekit.converters.base:Converter": "suited card check warm_up begin",
            "edgekit.converters.base:Capture": "",
            "edgekit.converters.base:ConversionOptions": "",
        },
    ),
    "runtimes": PlugIn(
        "Runtime",
        "A class derived from `Runner`. Its name is the value of `--runtime`; a class in the table `variants` under "
        "the same name runs what follows the colon.",
        {
            "edgekit.runtime.base:Runner": "check_request _ready _bind _bare _copy_in _run_staged _copy_out "
            "save_compiled arena_bytes resident chip device_ns transfer_bytes reset delegation close",
            "edgekit.runtime.ports:Port": "",
        },
    ),
    "devices": PlugIn(
        "Device",
        "A class derived from `Transport`: how a worker is started. Its name stands before the colon of `--on`.",
        {
            "edgekit.devices.transport:Transport": "check_address environment greet ending install",
            "edgekit.devices.transport:Start": "environment",
            "edgekit.devices.transport:Ending": "",
        },
    ),
    "extras": PlugIn(
        "Extra of bench",
        "A `BenchExtra`: what `bench` measures beside its times. Its name is its option (with dashes where typed) "
        "and its key in the entry of a cell. A `LoadScenario` in the table `scenarios` is a value of "
        "`--scenario` under which queries come at given times. What runs where the model is has `@on_device`.",
        {
            "edgekit.extras.base:BenchExtra": "check_device check_runtime measure fields columns",
            "edgekit.extras.base:Measurement": "check report",
            "edgekit.extras.base:TimedCell": "worker",
            "edgekit.extras.base:Sheet": "",
            "edgekit.extras.base:LoadScenario": "key time",
            "edgekit.devices.functions:on_device": "",
            "edgekit.devices.schema:Reply": "",
        },
    ),
    "steps": PlugIn(
        "Step of recipes",
        "A `StepKind`: a dataclass of options and a function. Its name is the value of `do`.",
        {
            "edgekit.pipeline.steps:StepKind": "",
            "edgekit.options.base:Option": "",
            "edgekit.results.base:Result": "document failure delivered",
        },
    ),
}


def main() -> None:
    for name, text in pages().items():
        (ROOT / "docs" / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Name of the file in docs/ -> its text."""
    return {"reference.md": options_page(), "plugins.md": plugins_page()}


def options_page() -> str:
    """The options of every command."""
    return "\n".join([HEAD, *(part for name, command in commands() for part in _section(name, command))])


def commands() -> Iterator[tuple[str, VerbCommand]]:
    """Name as it is typed and command, in the order of ``edgekit --help``."""
    for name, (module, _) in VERBS.items():
        command = importlib.import_module(module).command
        parts = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for part, one in parts:
            assert isinstance(one, VerbCommand), f"{name} {part} is not made from a dataclass of options"
            yield f"{name} {part}".rstrip(), one


def _section(name: str, command: VerbCommand) -> Iterator[str]:
    known = option_fields(command.kind)
    usage = " ".join(one.flag for one in known if one.option.takes)
    yield f"## {name}\n"
    yield f"`edgekit {name}{' ' if usage else ''}{usage}`: {(command.help or '').splitlines()[0]}\n"
    if command.page:
        yield PAGE
    if command.log:
        yield LOG
    if known:
        yield "| option | meaning | Python |\n| --- | --- | --- |"
        yield "\n".join(map(_row, known)) + "\n"


def _row(one: OptionField) -> str:
    typed = ", ".join(one.option.flags) or one.flag
    typed += f"/{one.option.off}" if one.option.off else ""
    metavar = f" {one.option.metavar}" if one.option.metavar and not one.option.takes else ""
    facts = [*facts_of(one), *(["required"] if one.required else []), *(f"also --{a}" for a in _older(one))]
    meaning = one.option.help + (f" [{'; '.join(facts)}]" if facts else "")
    name = "" if one.option.python else f"`{typed}{metavar}`"
    cells = (name, meaning, f"`{one.name}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _older(one: OptionField) -> tuple[str, ...]:
    return () if one.option.takes else one.option.aliases


def plugins_page() -> str:
    """What a plug-in of each table has to have, with an example."""
    groups = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert {*PLUG_INS, "variants", "scenarios"} == {*TABLES}, (
        "every table of the registry is a section, or named in one"
    )
    parts = [part for table, known in PLUG_INS.items() for part in _plug_in(table, known, groups[f"edgekit.{table}"])]
    return "\n".join([PLUGINS_HEAD, *parts])


def _plug_in(table: str, known: PlugIn, points: Mapping[str, str]) -> Iterator[str]:
    yield f"## {known.title}\n"
    yield f"{known.text}\n"
    entries = "\n".join(f'{name} = "{target}"' for name, target in points.items())
    yield f'```toml\n[project.entry-points."edgekit.{table}"]\n{entries}\n```\n'
    for place, methods in known.shown.items():
        module, _, name = place.partition(":")
        yield f"`{module}`\n"
        yield f"```python\n{outline(getattr(importlib.import_module(module), name), methods.split())}\n```\n"
    for module in sorted({target.partition(":")[0] for target in points.values()}):
        file = PLUGIN / f"{module.replace('.', '/')}.py"
        yield f"Example, [{file.name}](../{file.relative_to(ROOT)}):\n"
        yield f"```python\n{file.read_text(encoding='utf-8').rstrip()}\n```\n"


def outline(shown: type | Callable[..., object], methods: list[str]) -> str:
    """The source of a class or function without the bodies; of a class its attributes, its own abstract methods and
    ``methods``."""
    lines = textwrap.dedent(inspect.getsource(shown)).splitlines()
    (node,) = ast.parse("\n".join(lines)).body
    if isinstance(node, ast.FunctionDef):
        return _heading(node, lines)
    assert isinstance(node, ast.ClassDef)
    wanted = {*methods, *(name for name in getattr(shown, "__abstractmethods__", ()) if name in vars(shown))}
    parts: list[str | None] = [_source(lines, node, node.body[0]), ""]
    for before, item in zip(node.body, node.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) or (isinstance(item, ast.Expr) and isinstance(before, ast.AnnAssign)):
            parts.append(_source(lines, item, item))
        elif isinstance(item, ast.FunctionDef) and item.name in wanted:
            parts += ["" if parts[-1] else None, _heading(item, lines)]
            wanted.remove(item.name)
    assert not wanted, f"{shown} has no {wanted}"
    return "\n".join(part for part in parts if part is not None).rstrip()


def _heading(node: ast.FunctionDef, lines: list[str]) -> str:
    """Decorators, signature and docstring of a function."""
    first = node.body[0]
    if ast.get_docstring(node) is None:
        last = lines[first.lineno - 2] if first.lineno > node.lineno else lines[node.lineno - 1]
        assert last.endswith((":", "...")), f"the signature of {node.name} ends otherwise: {last}"
        return "\n".join(lines[node.lineno - 1 : max(first.lineno - 1, node.lineno)]).removesuffix(" ...") + " ..."
    return _source(lines, node, first)


def _source(lines: list[str], first: ast.stmt, last: ast.stmt) -> str:
    """The lines from one statement, its decorators included, to the end of another, without directives for linters."""
    start = min([first.lineno, *(one.lineno for one in getattr(first, "decorator_list", ()))])
    found = lines[start - 1 : last.end_lineno]
    return "\n".join(re.sub(r"  # (noqa|type: ignore).*", "", line) for line in found)


if __name__ == "__main__":
    main()
