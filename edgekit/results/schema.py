"""JSON Schemas (draft 2020-12) of the documents, made from the dataclasses and their docstrings."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgekit.results.base import Result, is_shown, key_of
from edgekit.results.bench import BenchRecord, Entry
from edgekit.results.compare import CompareResult
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
from edgekit.results.train import PruneResult, TrainResult

DRAFT = "https://json-schema.org/draft/2020-12/schema"
VERBS: Mapping[str, tuple[type[Result], ...]] = {
    "bench": (BenchRecord,),
    "compare": (CompareResult,),
    "device": (DevicesResult, SavedResult, CheckResult),
    "doctor": (DoctorResult,),
    "eval": (EvalResult,),
    "export": (ExportResult,),
    "finetune": (TrainResult,),
    "inspect": (InspectResult, CalibrationResult),
    "models": (ModelsResult,),
    "optimize": (OptimizeResult,),
    "package": (PackageResult,),
    "prune": (PruneResult,),
    "quantize": (AutoResult, QuantizeResult, QuantizePlan, MixedPlan),
    "recipe": (RecipePlan, RecipeRecord),
    "report": (ReportResult, HistoryResult),
    "run": (RunResult,),
    "train": (TrainResult,),
    "verify": (VerifyResult,),
}
"""Verb -> what it may give back; a document is one of them."""
_PLAIN: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_HEAD: Mapping[str, Any] = {
    "edgekit": {"type": "string", "description": "Version that wrote the document."},
    "environment": {"type": "object", "description": "CPU, memory, system and versions of the machine it ran on."},
}
_COMMAND: Mapping[str, Any] = {
    "type": "array", "items": {"type": "string"}, "description": "Words of the command line, where one made it.",
}  # fmt: skip
_DATE: Mapping[str, Any] = {"type": "string", "description": "When it was made: UTC, ISO 8601."}


def schema(verb: str, extras: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON Schema of the documents of ``verb``. Keys that it does not name may be added by later versions.

    ``extras``: what may stand in an entry of ``bench`` beside its fields: key -> type
    (:func:`edgekit.extras.base.result_types`).
    """
    named: dict[str, Any] = {}
    if extras:
        beside = {key: _schema(kind, named) for key, kind in extras.items()}
        named[Entry.__name__] = entry = _described_table(Entry, named)
        entry["properties"] |= beside
    kinds = [_named(kind, named) for kind in VERBS[verb]]
    head = {"schema": {"type": "string", "description": f"``edgekit.{verb}/1``, or that of a plan."}, **_HEAD}
    return {
        "$schema": DRAFT,
        "$id": f"edgekit.{verb}/1",
        "title": f"edgekit {verb} --json",
        "type": "object",
        "properties": {**head, "command": _COMMAND, "date": _DATE},
        "required": list(head),
        "anyOf": kinds,
        "$defs": dict(sorted(named.items())),
    }


def _named(kind: type[Any], named: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema of a dataclass, which is put into ``named``."""
    if kind.__name__ not in named:
        named[kind.__name__] = {}  # one that holds itself refers to this
        named[kind.__name__] = _described_table(kind, named)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _described_table(kind: type[Any], named: dict[str, Any]) -> dict[str, Any]:
    properties, required = _table(kind, named)
    return {"type": "object", "description": _described(kind)[0], "properties": properties, "required": required}


def _table(kind: type[Any], named: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The properties of a dataclass, and those of them that are always there."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    _, told = _described(kind)
    for one in filter(is_shown, fields(kind)):
        hint = get_type_hints(kind)[one.name]
        if one.metadata.get("beside"):
            if is_dataclass(hint):
                inner, needed = _table(hint, named)  # type: ignore[arg-type]
                properties |= inner
                required += needed
            continue
        about = told.get(one.name, "")
        properties[key_of(one)] = {**_schema(hint, named), **({"description": about} if about else {})}
        if not one.metadata.get("optional"):
            required.append(key_of(one))
    return properties, required


def _schema(hint: Any, named: dict[str, Any]) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin in (types.UnionType, Union):
        return {"anyOf": [_schema(kind, named) for kind in inner]}
    if origin in (tuple, list, Sequence):
        return _rows(inner, named)
    if origin is not None:  # Mapping[str, …]
        return {"type": "object", "additionalProperties": _schema(inner[1], named)}
    if issubclass(hint, PurePath):
        return {"type": "string"}
    if issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    return _named(hint, named)


def _rows(inner: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    if Ellipsis in inner or len(inner) == 1:
        return {"type": "array", "items": _schema(inner[0], named)}
    count = len(inner)
    items = [_schema(kind, named) for kind in inner]
    return {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}


def _described(kind: type[Any]) -> tuple[str, dict[str, str]]:
    """The summary of a docstring, and field -> what its ``Attributes:`` (those of its bases, too) say of it."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "") if is_dataclass(base) else ""
        _, _, attributes = text.partition("\nAttributes:\n")
        for names, about in re.findall(r"^    (\w[\w, ]*): ((?:.|\n     +)*)", attributes, re.M):
            told |= dict.fromkeys(names.split(", "), " ".join(about.split()))
    summary = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")[0]
    return " ".join(summary.split()), told
