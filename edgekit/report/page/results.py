"""The sections of each kind of result, and what stands around it: command, version, machine."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from edgekit.report.bench import compare_report
from edgekit.report.export import render_export
from edgekit.report.optimize import render_optimize
from edgekit.report.page.bench import bench_sections
from edgekit.report.page.compressed import mixed_sections, plan_sections, prune_sections, quantize_sections
from edgekit.report.page.front import of_recipe, of_study
from edgekit.report.page.history import history_sections
from edgekit.report.page.parts import Command, Facts, Part, Section
from edgekit.report.page.quality import eval_sections, verify_sections
from edgekit.report.recipe import render_record
from edgekit.results.base import Result
from edgekit.results.bench import BenchRecord
from edgekit.results.compare import CompareResult
from edgekit.results.eval import EvalResult
from edgekit.results.history import HistoryResult
from edgekit.results.optimize import OptimizeResult
from edgekit.results.proof import ExportResult, VerifyResult
from edgekit.results.quantize import MixedPlan, QuantizePlan, QuantizeResult
from edgekit.results.recipe import RecipeRecord
from edgekit.results.saved import SavedDocument, result_of
from edgekit.results.schema import VERBS
from edgekit.results.train import PruneResult
from edgekit.types import Sheet

KINDS: Mapping[type[Result], Callable[[Any], list[Section]]] = {
    BenchRecord: bench_sections,
    CompareResult: lambda result: [Section("Comparison", compare_report(result))],
    EvalResult: eval_sections,
    ExportResult: lambda result: [Section("Files", render_export(result))],
    HistoryResult: history_sections,
    MixedPlan: mixed_sections,
    OptimizeResult: lambda result: [Section("Study", [*of_study(result), *render_optimize(result)])],
    PruneResult: prune_sections,
    QuantizePlan: plan_sections,
    QuantizeResult: quantize_sections,
    RecipeRecord: lambda result: recipe_sections(result),
    VerifyResult: verify_sections,
}
"""Results that are shown in their own way; of every other the document is shown as it is."""


def sections_of(document: SavedDocument) -> list[Section]:
    """What a page shows of a saved document."""
    return _sections(document.result)


def _sections(result: Result) -> list[Section]:
    for kind in type(result).__mro__:
        if kind in KINDS:
            return KINDS[kind](result)
    return [Section("Result", as_it_is(result.document()))]


def recipe_sections(record: RecipeRecord) -> list[Section]:
    """The files of a recipe, its runs, and what each of them found."""
    columns = ("run", "command", "options", "ended", "why", "seconds")
    rows = [(run.run, run.command, _words(run.options), run.ended, run.reason, run.seconds) for run in record.runs]
    runs = Sheet(columns, rows, "Runs, in their order", right=("seconds",))
    sections = [Section("Recipe", [*of_recipe(record), *render_record(record), runs])]
    for run in record.runs:
        if run.result is not None and run.command in VERBS:
            found = _sections(result_of(run.command, run.result, f"the run {run.run}"))
            sections += [Section(f"{run.run}: {one.title}", one.parts) for one in found]
    return sections


def _words(options: Mapping[str, Any]) -> str:
    return " ".join(f"--{name.rstrip('_').replace('_', '-')} {shlex.quote(str(v))}" for name, v in options.items())


def made_by(document: SavedDocument) -> list[Part]:
    """The command, the version and the machine of a document."""
    told = f"{document.origin}: {document.verb}, edgekit {document.version or 'of an unknown version'}"
    command: Part = "The document does not say by which command line it was made."
    if document.command:
        command = Command(shlex.join(document.command))
    return [told, command, Facts(_flat(document.environment), "Environment")]


def as_it_is(document: Mapping[str, Any]) -> list[Part]:
    """A document as facts, and a table for each list of tables in it."""
    plain: list[tuple[str, object]] = []
    tables: list[Part] = []
    for name, value in _flat(document, lists=True):
        if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            rows = [dict(_flat(row)) for row in value]
            columns = tuple(dict.fromkeys(column for row in rows for column in row))
            tables.append(Sheet(columns, [[row.get(column) for column in columns] for row in rows], name))
        else:
            plain.append((name, _joined(value)))
    return [Facts(plain), *tables]


def _flat(table: Mapping[str, Any], before: str = "", lists: bool = False) -> list[tuple[str, object]]:
    """The entries of a table and of those within it; ``lists``: as they are."""
    rows: list[tuple[str, object]] = []
    for key, value in table.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name} ", lists)
        else:
            rows.append((name, value if lists else _joined(value)))
    return rows


def _joined(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
