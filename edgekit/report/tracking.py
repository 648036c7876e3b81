"""``--log mlflow``: parameters, metrics and files of a result to where MLflow keeps its runs.

All settings are MLflow's own: ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``, ``MLFLOW_RUN_ID``, and the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from edgekit.artifact import onnx_external_data
from edgekit.errors import DeviceError, RuntimeMissingError
from edgekit.escapes import in_one_line
from edgekit.leftovers import scratch_folder
from edgekit.report.document import dumps

DOCUMENT: Final = "result.json"
_BATCH: Final = 100
"""Parameters or metrics that go at once; MLflow takes 100 of the first and 1,000 of the second."""
_LONGEST: Final = 6000
"""Letters of a parameter that MLflow takes."""
_NO_METRICS: Final = ("environment", "protocol", "steps", "command", "left_float", "kernels", "others")
"""Parts of a document that are settings, or go on for thousands of rows; the file has them."""
_NAMES: Final = ("model", "path", "file", "name", "kind", "a", "label")
"""Keys of a row that say which it is."""
_PLACES: Final = ("runtime", "device", "threads", "batch")
"""Keys of a row that tell it from another of the same name."""


def check_tracker(name: str) -> None:
    """Refuses, before any work, a log that could not be written.

    Raises:
        RuntimeMissingError: mlflow is not installed.
    """
    if find_spec(name) is None:
        raise RuntimeMissingError(
            "--log mlflow needs the package mlflow, which is not installed; pip install 'edgekit[mlflow]'"
        )


def log_to_mlflow(verb: str, document: Mapping[str, Any], parameters: Mapping[str, Any], files: Sequence[Path]) -> str:
    """Makes a run of a finished result, or goes on with that of ``MLFLOW_RUN_ID``; gives its id.

    Args:
        document: with its envelope; it becomes the file ``result.json`` of the run.
        parameters: the options of the command.
        files: that the command was told to write. Those that the document says it published go along.

    Raises:
        DeviceError: MLflow refuses, or cannot be reached. The result itself is not touched.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    uri = ""
    try:
        import mlflow

        uri = str(mlflow.get_tracking_uri())
        with mlflow.start_run(run_name=run_name(verb, document)) as run:
            mlflow.set_tags(_tags(verb, document))
            for part in _batches(_parameters(parameters)):
                mlflow.log_params(part)
            for part in _batches(metrics(document)):
                mlflow.log_metrics(part)
            with scratch_folder() as folder:
                file = folder / DOCUMENT
                file.write_text(dumps(document), encoding="utf-8")
                mlflow.log_artifact(str(file))
            for path in published(document, files):
                mlflow.log_artifact(str(path))
            return str(run.info.run_id)
    except Exception as error:  # of MLflow, of its store, of the network: the work is done, and must not be lost
        where = f" at {uri}" if uri else ""
        told = in_one_line(str(error)) or type(error).__name__
        told = told.rstrip(".")
        raise DeviceError(
            f"the result was not logged to MLflow{where}: {told}. The work is done, and what it published stays"
        ) from error


def run_name(verb: str, document: Mapping[str, Any]) -> str:
    """``MLFLOW_RUN_NAME``, or the verb and the first file: ``quantize cnn-int8.onnx``."""
    named = next((row.get(key) for row in _tables(document) for key in _NAMES if isinstance(row.get(key), str)), "")
    return os.environ.get("MLFLOW_RUN_NAME") or f"{verb} {Path(str(named)).name}".strip()


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every table of a document, outer ones first."""
    if isinstance(value, Mapping):
        yield value
        for key, item in value.items():
            if key not in _NO_METRICS:
                yield from _tables(item)
    elif isinstance(value, list):
        for item in value:
            yield from _tables(item)


def _tags(verb: str, document: Mapping[str, Any]) -> dict[str, str]:
    environment = document.get("environment", {})
    return {
        "edgekit.verb": verb,
        "edgekit.version": str(document.get("edgekit", "")),
        "edgekit.command": " ".join(document.get("command", ())),
        "edgekit.cpu": str(environment.get("cpu", "")),
        "edgekit.os": str(environment.get("os", "")),
    }


def _parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {name: _plain(value)[:_LONGEST] for name, value in parameters.items() if value not in (None, (), "")}


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def metrics(document: Mapping[str, Any]) -> dict[str, float]:
    """Every figure of a document: ``accuracy``, ``quality.after``, ``results/cnn.onnx/latency_ms.p50``; true is 1."""
    found: dict[str, float] = {}
    for name, value in _figures({key: item for key, item in document.items() if key not in _NO_METRICS}, ""):
        found.setdefault(re.sub(r"[^\w\-. :/]", "_", name), float(value))
    return found


def _figures(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, float]]:
    for key, value in table.items():
        if key in _NO_METRICS:
            continue
        if isinstance(value, bool | int | float):
            named = table.get("metric") if key == "value" else None
            yield before + (key if named is None else str(named)), value
        elif isinstance(value, Mapping):
            yield from _figures(value, f"{before}{key}.")
        elif isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            for name, row in zip(_row_names(value), value, strict=True):
                yield from _figures(row, f"{before}{key}/{name}/")


def _row_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each row is called: its file or name, with where it ran where two are alike, else with its number."""
    names = [next((str(row[key]) for key in _NAMES if row.get(key)), str(number)) for number, row in enumerate(rows)]
    names = [Path(name).name or name for name in names]
    if len(set(names)) < len(names):
        names = [" ".join([name, *map(str, _places(row))]) for name, row in zip(names, rows, strict=True)]
    return [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names)]


def _places(row: Mapping[str, Any]) -> Iterator[Any]:
    for key in _PLACES:
        value = row.get(key)
        if value is not None:
            yield value.get("name") if isinstance(value, Mapping) else value


def published(document: Mapping[str, Any], files: Sequence[Path]) -> list[Path]:
    """The files that a command wrote: those it was told to, and those of which the document has path and hash; of a
    search the recommended one with its recipe."""
    made = [
        Path(str(row[name]))
        for key, part in document.items()
        if key in ("artifact", "artifacts", "checkpoint", "recommended")
        for row in _tables(part)
        for name in ("path", "recipe")
        if row.get(name) and row.get("sha256")
    ]
    found = {path.resolve(): path for path in [*files, *made] if path.is_file()}
    for path in list(found.values()):
        if path.suffix == ".onnx":
            beside = [path.parent / name for name in onnx_external_data(path)]
            found |= {one.resolve(): one for one in beside if one.is_file()}
    return list(found.values())


def _batches(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = list(values)
    for start in range(0, len(names), _BATCH):
        yield {name: values[name] for name in names[start : start + _BATCH]}
