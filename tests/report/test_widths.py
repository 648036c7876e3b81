"""Every result at 60, 80 and 120 columns: no line is wider, and every word and number is whole."""

from __future__ import annotations

import io
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from edgekit.escapes import NONE
from edgekit.extras.base import extras
from edgekit.report import device, prune, recipe, verbs
from edgekit.report.auto import render_auto
from edgekit.report.bench import bench_report, compare_report
from edgekit.report.eval import render_eval
from edgekit.report.export import render_export
from edgekit.report.history import render_history
from edgekit.report.optimize import render_optimize
from edgekit.report.package import render_package
from edgekit.report.quantize import render_plan, render_quantize, render_quantize_plan
from edgekit.report.text import show
from edgekit.report.verify import render_verify
from edgekit.results.base import to_json
from edgekit.results.bench import BenchRecord, Entry
from edgekit.results.compare import CompareResult
from edgekit.results.compressed import Parent
from edgekit.results.doctor import CheckResult, DevicesResult, DoctorResult, SavedResult
from edgekit.results.eval import EvalResult
from edgekit.results.history import HistoryResult
from edgekit.results.inspect import CalibrationResult, InspectResult, ModelsResult, RunResult
from edgekit.results.optimize import OptimizeResult
from edgekit.results.package import PackageResult
from edgekit.results.proof import ExportResult, VerifyResult
from edgekit.results.quantize import AutoResult, MixedPlan, QuantizePlan, QuantizeResult
from edgekit.results.recipe import RecipePlan, RecipeRecord
from edgekit.results.report import ReportResult
from edgekit.results.schema import VERBS
from edgekit.results.train import PruneResult, TrainResult
from edgekit.types import Card, Network, Sheet

RENDERERS: Mapping[type[Any], Callable[[Any], Any]] = {
    AutoResult: render_auto,
    BenchRecord: bench_report,
    CalibrationResult: verbs.render_inspect,
    CheckResult: device.render_check,
    CompareResult: compare_report,
    DevicesResult: device.render_devices,
    DoctorResult: verbs.render_doctor,
    EvalResult: render_eval,
    ExportResult: render_export,
    InspectResult: verbs.render_inspect,
    MixedPlan: render_plan,
    ModelsResult: verbs.render_models,
    OptimizeResult: render_optimize,
    PackageResult: render_package,
    PruneResult: prune.render_prune,
    QuantizePlan: render_quantize_plan,
    QuantizeResult: render_quantize,
    RecipePlan: recipe.render_show,
    RecipeRecord: lambda record: recipe.render_run(SimpleNamespace(record=record)),
    ReportResult: verbs.render_report,
    HistoryResult: render_history,
    RunResult: verbs.render_run,
    SavedResult: device.render_saved,
    TrainResult: verbs.render_training,
    VerifyResult: render_verify,
}
WORDS = (
    "runs/a-customer-of-ours/2026-11-30/mobilenet-v3-large-finetuned-int8-per-channel.tflite",
    "onnxruntime:OpenVINOExecutionProvider",
    "the time of the run is not that of the device, since its clock was throttled at 61.5 °C after 1,234,567 runs",
    "Golden_Retriever_of_the_Royal_Kennel_Club",
    "conv1",
    "畳み込みニューラルネットワーク",
)
"""Long paths, runtimes, reasons, classes: what stands in results of strangers."""
ROWS = 30
PAIRS = ("runtimes", "kept")
"""Fields that hold two values each."""


class Maker:
    """Instances of a result's dataclass with so many rows in each of its tables."""

    def __init__(self, rows: int) -> None:
        self.rows, self.count = rows, 0

    def of(self, hint: Any, name: str = "") -> Any:
        origin, inner = get_origin(hint), get_args(hint)
        self.count += 1
        if hint is Network:
            return SimpleNamespace(card=self.of(Card))
        if name == "shape":
            return (1, 512, 1024, 3)
        if (
            name == "parent" and origin is not None and not is_dataclass(inner[0])
        ):  # of a card, where it is a plain table
            return to_json(self.of(Parent))
        if origin in (types.UnionType, Union):
            return self.of(inner[0], name)
        if origin is Literal:
            return inner[0]
        if origin in (tuple, list, Sequence):
            if origin is tuple and Ellipsis not in inner:
                return tuple(self.of(kind, name) for kind in inner)
            return tuple(self.of(inner[0], name) for _ in range(2 if name in PAIRS else self.rows))
        if origin is np.ndarray:
            return np.full((1, 3), 0.123456)
        if origin is not None:
            more = {"scheme": WORDS[4]} if name == "params" else {}
            return more | {f"{WORDS[k % len(WORDS)]}{k}": self.of(inner[1], name) for k in range(self.rows)}
        if hint is str or hint is Any or hint is object:
            return f"{WORDS[self.count % len(WORDS)]}"
        if hint is bool:
            return name == "chosen" or self.count % 2 == 0
        if hint is int:
            return 1_234_567 + self.count
        if hint is float:
            return 0.123456 * self.count
        if issubclass(hint, PurePath):
            return Path(WORDS[0])
        if issubclass(hint, Enum):
            return list(hint)[self.count % len(hint)]
        return self.dataclass(hint)

    def dataclass(self, kind: type[Any]) -> Any:
        assert is_dataclass(kind), kind
        values, hints = {}, get_type_hints(kind)
        for one in fields(kind):
            needed = one.default is MISSING and one.default_factory is MISSING
            if one.init and (needed or (not one.metadata.get("beside") and not one.metadata.get("hidden"))):
                values[one.name] = self.of(hints[one.name], one.name)
        return kind(**values)


def words(parts: Any) -> Iterator[str]:
    """Every word of what a renderer gives."""
    for part in parts if isinstance(parts, list | tuple) else [parts]:
        if isinstance(part, Sheet):
            yield from (part.title or "").split()
            for name, *cells in zip(part.columns, *part.rows, strict=True):
                shown = [str(cell) for cell in cells if cell not in (None, "", NONE)]
                yield from " ".join([name, *shown] if shown else ()).split()
        else:
            yield from part.split()


def check(parts: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    show(parts, stream)
    text = stream.getvalue()
    wide = [line for line in text.splitlines() if cell_len(line) > width]
    assert not wide, "\n".join(wide)
    printed = set(text.split())
    names = {piece for word in printed for piece in re.findall(r"[^/]+/?", word)}
    for word in words(parts):
        whole = word in printed or (cell_len(word) > width - 30 and set(re.findall(r"[^/]+/?", word)) <= names)
        assert whole, word
    return text


def test_every_result_is_here() -> None:
    assert {kind for kinds in VERBS.values() for kind in kinds} <= set(RENDERERS)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("rows", [1, 2, ROWS])
@pytest.mark.parametrize("kind", RENDERERS, ids=lambda kind: kind.__name__)
def test_a_result(kind: type[Any], rows: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(RENDERERS[kind](Maker(rows).of(kind)), width, monkeypatch)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", extras())
def test_an_extra_of_the_bench(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    extra, maker = extras()[name], Maker(3)
    assert check(extra.report(maker.of(Entry), maker.of(extra.result)), width, monkeypatch)
