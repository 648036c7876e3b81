"""How the results of ``models train finetune run inspect doctor`` look on the screen.

Each takes a result and reads its ``document()``, so that the screen shows what the JSON says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgekit.quality.state import rule
from edgekit.report.against import COLUMNS, account_line, against_rows, fidelity_parts, inserted_line, missing_lines
from edgekit.report.text import figure, share, size, table

_TENSOR = 40
"""Letters of a tensor's name that are shown, its last: those of TFLite files hold every class on the way."""


_ANEW = "state: every call starts from zeros by itself"


class Documented(Protocol):
    """A result of a pipeline verb."""

    def document(self) -> dict[str, Any]: ...


Parts = list[Any]
"""Strings and tables, as :func:`edgekit.report.text.show` takes them."""


def render_models(result: Documented) -> Parts:
    """One line a family: size, task, quality of the shipped weights."""
    rows = []
    for row in result.document()["models"]:
        quality = row.get("quality") or []
        shown = ", ".join(f"{q['metric']} {figure(q['metric'], q['value'])} on {q['data']}" for q in quality)
        rows.append(
            (row["name"], size(row.get("parameters")), _task(row.get("task")), shown or None, row.get("description"))
        )
    return [table(("family", "parameters", "task", "shipped weights", "what it is"), rows, right=("parameters",))]


def _task(task: Any) -> str | None:
    if isinstance(task, Mapping):
        labels = task.get("labels") or ()
        return f"{task.get('kind')}, {len(labels)} classes" if labels else str(task.get("kind"))
    return None if task is None else str(task)


def render_training(result: Documented) -> Parts:
    """What was trained, one line a figure."""
    return [table(("", ""), _scalars(result.document()))]


def _scalars(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Every figure of a document as (name, value), nested names joined by a space; lists are left to the JSON."""
    rows: list[tuple[str, object]] = []
    for key, value in document.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows.extend(_scalars(value, f"{name} "))
        elif isinstance(value, float):
            rows.append((name, f"{value:.6g}"))
        elif isinstance(value, int) and not isinstance(value, bool):
            rows.append((name, size(value) if value >= 10_000 else value))
        elif not isinstance(value, list | tuple) and value is not None:
            rows.append((name, value))
    return rows


def render_run(result: Documented) -> Parts:
    """Labels with probabilities for a classifier; shapes and first values otherwise."""
    document = result.document()
    parts: Parts = []
    for answer in document["results"]:
        if len(document["results"]) > 1:
            parts.append(answer["input"])
        if answer["top"]:
            rows = [(entry["label"], share(entry["probability"])) for entry in answer["top"]]
            parts.append(table(("label", "probability"), rows, right=("probability",)))
        elif "forecast" in answer:
            target, values = answer["forecast"]["target"], answer["forecast"]["values"]
            parts.append(f"{target}, the next {len(values)} rows: {', '.join(f'{value:.5g}' for value in values)}")
        elif "anomaly" in answer:
            parts.append(_verdict(answer["anomaly"]))
        elif document["out"] is None and document["image"] is None:
            parts.append(
                table(("output", "dtype", "shape", "first values"), [_output_row(o) for o in answer["outputs"]])
            )
    if document["out"]:
        parts.append(f"outputs of {len(document['results'])} input(s) written to {document['out']}")
    if document["image"]:
        parts.append(f"images written to {document['image']}")
    return parts


def _verdict(anomaly: Mapping[str, Any]) -> str:
    score, limit = f"anomaly score {anomaly['score']:.4g}", anomaly["threshold"]
    if limit is None:
        return f"{score}; the card has no threshold to judge it by"
    return f"{anomaly['verdict']}: {score}, threshold {limit:.4g}"


def _output_row(output: Mapping[str, Any]) -> tuple[object, ...]:
    values = ", ".join(f"{value:.5g}" for value in output["first"])
    return (output["name"], output["dtype"], "x".join(map(str, output["shape"])), values)


def render_inspect(result: Documented) -> Parts:
    """Size, signature, operators, integer account, history; of a calibration, its ranges."""
    document = result.document()
    if "calibration" in document:
        return _calibration(document)
    card = document["card"]
    head = (
        f"{document['model']}: {document['format']}, {size(document['bytes'])} bytes, sha256 {document['sha256'][:16]}…"
    )
    if document["parts"]:
        head += f", with the weights in {', '.join(document['parts'])}"
    parts: Parts = [head, _origin(card)]
    rows = []
    for role in ("inputs", "outputs"):
        for spec in document["signature"][role]:
            integer = ((card or {}).get("quantized_io") or {}).get(spec["name"])
            held = (
                f"{integer['dtype']}, scale {integer['scale']:.6g}, zero point {integer['zero_point']}"
                if integer
                else ""
            )
            rows.append((role[:-1], spec["name"], spec["dtype"], "x".join(map(str, spec["shape"])), held))
    parts.append(table(("", "name", "dtype", "shape", "held as"), rows))
    if card and card.get("streaming"):
        parts.append(_streaming(card["streaming"]))
    if document["stateful"] is not None:
        parts.append(f"state: kept between calls; {rule(document['operators'])}" if document["stateful"] else _ANEW)
    parts.append(table(("operator", "count"), document["operators"].items(), right=("count",)))
    if document["account"]:
        parts.extend(_account(document["account"]))
    if card and card.get("parent"):
        title = f"Against its parent, sha256 {card['parent']['sha256'][:16]}…"
        rows_ = against_rows(document["bytes"], card["parent"])
        parts.append(table(COLUMNS, rows_, title=title, right=("before", "after")))
        parts += [
            *fidelity_parts(card["parent"].get("fidelity")),
            inserted_line(card["parent"]),
            *missing_lines(card["parent"]),
        ]
    if document["steps"]:
        steps = [(s["name"], _joined(s["params"]), _joined(s["versions"])) for s in document["steps"]]
        parts.append(table(("step", "parameters", "made with"), steps))
    if card and card.get("quality"):
        figures = [(q["metric"], figure(q["metric"], q["value"]), q["data"], size(q["total"])) for q in card["quality"]]
        parts.append(table(("metric", "value", "data", "samples"), figures, right=("value", "samples")))
    parts.extend(f"note: {note}" for note in (card or {}).get("notes") or ())
    return parts


def _calibration(document: Mapping[str, Any]) -> Parts:
    halves = document["halves"]
    apart = "" if halves is None else f"; scales of two halves of the samples are {share(halves)} apart (median)"
    head = (
        f"{document['calibration']}: {document['method']} on {size(document['samples'])} samples of {document['data']}"
    )
    rows = [
        (row["layer"], row["tensor"].rpartition("/")[2][-_TENSOR:], f"{row['low']:.4g}", f"{row['high']:.4g}")
        for row in document["ranges"]
    ]
    ranges = table(("layer", "tensor", "from", "to"), rows, right=("from", "to"))
    return [head + apart, ranges, *(f"note: {note}" for note in document["notes"])]


def _streaming(streaming: Mapping[str, Any]) -> str:
    """How the steps of a file make a sequence, in words."""
    pairs = ", ".join(f"{state['input']} <- {state['output']}" for state in streaming["states"])
    whole = ", ".join(f"{spec['name']} {'x'.join(map(str, spec['shape']))}" for spec in streaming["sequence"]["inputs"])
    return f"streaming: one run is one step of {whole}; state, zero at first: {pairs}"


def _origin(card: Mapping[str, Any] | None) -> str:
    if card is None:
        return "no card: made elsewhere; signature and operators are read from the file"
    return f"{card['name']} ({card['family']}), task {_task(card['task'])}"


def _account(account: Mapping[str, Any]) -> Parts:
    line = account_line(account)
    left = [(row["operator"], row["name"], row["reason"]) for row in account["left_float"]]
    return [line, table(("left in float", "name", "why"), left)] if left else [line]


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def render_backends(result: Documented) -> Parts:
    """One line a runtime: whether it ran a tiny model, and why not."""
    document = result.document()
    told = {"works": "", "missing": "not installed there"}
    if not document["backends"]:
        return []
    rows = [
        (b["runtime"], f".{b['format']}", b["state"], told.get(b["state"], b["detail"])) for b in document["backends"]
    ]
    return [table(("runtime", "runs", "state", "detail"), rows, title=f"Runtimes on {document['device']}")]


def render_doctor(result: Documented) -> Parts:
    """Runtimes as they were tried, packages, and how to get what is missing."""
    document = result.document()
    parts: Parts = [f"edgekit {document['version']}, Python {document['python']}", *render_backends(result)]
    packages = [(p["name"], p["version"] or "not installed", p["used_for"]) for p in document["packages"]]
    parts.append(table(("package", "version", "used for"), packages, title="Packages of this environment"))
    missing = {b["runtime"]: b["install"] for b in document["backends"] if b["state"] == "missing"}
    missing |= {
        p["name"]: p["install"] for p in document["packages"] if p["version"] is None and p["name"] not in missing
    }
    if missing:
        parts.append(table(("to get", "do"), missing.items()))
    return parts
