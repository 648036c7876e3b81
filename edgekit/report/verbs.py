"""How the results of ``models train finetune run inspect doctor`` look on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.quality.state import rule
from edgekit.report.against import COLUMNS, account_line, against_rows, fidelity_parts, inserted_line, missing_lines
from edgekit.report.history import render_history
from edgekit.report.text import Parts, figure, scope, share, size, table
from edgekit.results.compressed import Parent, of_card
from edgekit.results.doctor import Backend, DoctorResult
from edgekit.results.history import HistoryResult
from edgekit.results.inspect import (
    Anomaly,
    CalibrationResult,
    FileFacts,
    FoundObject,
    InspectResult,
    MicroFacts,
    ModelsResult,
    OutputSummary,
    RunResult,
)
from edgekit.results.report import ReportResult
from edgekit.results.train import TrainResult
from edgekit.types import Card, Streaming, Task

_TENSOR = 40
"""Letters of a tensor's name that are shown, its last: those of TFLite files hold every class on the way."""
_CLASSES = 12
"""Names of classes that are shown."""
_ANEW = "state: every call starts from zeros by itself"


def render_report(result: ReportResult | HistoryResult) -> Parts:
    """Where the page is, and how large; of a folder its history."""
    if isinstance(result, HistoryResult):
        return render_history(result)
    count = len(result.documents)
    return [f"{result.page}: {count} result{'' if count == 1 else 's'} on one page of {size(result.bytes)} bytes"]


def render_models(result: ModelsResult) -> Parts:
    """One line a family: size, task, quality of the shipped weights."""
    rows = []
    for row in result.models:
        shown = ", ".join(f"{q.metric} {figure(q.metric, q.value)} on {q.data}" for q in row.quality or ())
        rows.append((row.name, size(row.parameters), _task(row.task), shown or None, row.description))
    return [table(("family", "parameters", "task", "shipped weights", "what it is"), rows, right=("parameters",))]


def _task(task: Task | None) -> str | None:
    if task is None:
        return None
    return f"{task.kind}, {len(task.labels)} classes" if task.labels else task.kind


def render_training(result: TrainResult) -> Parts:
    """What was trained, one line a figure."""
    return [table(("", ""), _scalars(result.document()))]


def _scalars(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Every figure of a document as (name, value), nested names joined by a space; lists are left to the JSON."""
    rows: list[tuple[str, object]] = []
    for key, value in document.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows.extend(_scalars(value, f"{name} "))
        elif key == "sha256":
            rows.append((name, f"{value[:16]}…"))
        elif isinstance(value, float):
            rows.append((name, f"{value:.6g}"))
        elif isinstance(value, int) and not isinstance(value, bool):
            rows.append((name, size(value) if value >= 10_000 else value))
        elif not isinstance(value, list | tuple) and value is not None:
            rows.append((name, value))
    return rows


def render_run(result: RunResult) -> Parts:
    """Labels with probabilities for a classifier; shapes and first values otherwise."""
    parts: Parts = []
    for answer in result.answers:
        if len(result.answers) > 1:
            parts.append(answer.input)
        if answer.top:
            rows = [(entry.label, share(entry.probability)) for entry in answer.top]
            parts.append(table(("label", "probability"), rows, right=("probability",)))
        elif answer.objects is not None:
            parts.append(_objects(answer.objects))
        elif answer.pixels is not None:
            shares = [(one.label, share(one.share)) for one in answer.pixels]
            parts.append(table(("class", "pixels"), shares, right=("pixels",)))
        elif answer.forecast is not None:
            target, values = answer.forecast.target, answer.forecast.values
            parts.append(f"{target}, the next {len(values)} rows: {', '.join(f'{value:.5g}' for value in values)}")
        elif answer.anomaly is not None:
            parts.append(_verdict(answer.anomaly))
        elif result.out is None and result.image is None:
            outputs = [_output_row(output) for output in answer.summaries]
            parts.append(table(("output", "dtype", "shape", "first values"), outputs))
    if result.out:
        parts.append(f"outputs of {len(result.answers)} input(s) written to {result.out}")
    if result.image:
        parts.append(f"{_image_kind(result)} written to {result.image}")
    return parts


def _image_kind(result: RunResult) -> str:
    first = result.answers[0]
    if first.pixels is not None:
        return "the picture with its classes"
    return "images" if first.objects is None else "the picture with its boxes"


def _objects(found: tuple[FoundObject, ...]) -> Any:
    if not found:
        return "no object has a score that reaches the card's threshold"
    rows = [(one.label, share(one.score), *(f"{side:.1f}" for side in one.box)) for one in found]
    heads = ("label", "score", "left", "top", "right", "bottom")
    return table(heads, rows, right=heads[1:])


def _verdict(anomaly: Anomaly) -> str:
    score = f"anomaly score {anomaly.score:.4g}"
    if anomaly.threshold is None:
        return f"{score}; the card has no threshold to judge it by"
    return f"{anomaly.verdict}: {score}, threshold {anomaly.threshold:.4g}"


def _output_row(output: OutputSummary) -> tuple[object, ...]:
    values = ", ".join(f"{value:.5g}" for value in output.first)
    return (output.name, output.dtype, "x".join(map(str, output.shape)), values)


def render_inspect(result: InspectResult | CalibrationResult) -> Parts:
    """Size, signature, operators, integer account, history; of a calibration, its ranges."""
    if isinstance(result, CalibrationResult):
        return _calibration(result)
    card = result.artifact.card
    head = f"{result.model}: {result.format}, {size(result.bytes)} bytes, sha256 {result.sha256[:16]}…"
    if result.parts:
        head += f", with the weights in {', '.join(result.parts)}"
    parts: Parts = [head, _origin(card), *_facts(result.facts), _signature(result), *_meaning(card)]
    if card is not None and card.streaming is not None:
        parts.append(_streaming(card.streaming))
    if result.stateful is not None:
        parts.append(f"state: kept between calls; {rule(result.operators)}" if result.stateful else _ANEW)
    parts.append(table(("operator", "count"), result.operators.items(), right=("count",)))
    if result.account is not None:
        parts.append(account_line(result.account))
        left = [(row.operator, scope(row.name), row.reason) for row in result.account.left_float]
        parts += [table(("left in float", "name", "why"), left)] if left else []
    if result.micro is not None:
        parts += _micro(result.micro)
    if card is not None and card.parent is not None:
        parent = of_card(Parent, card.parent, "parent")
        title = f"Against its parent, sha256 {parent.sha256[:16]}…"
        parts.append(table(COLUMNS, against_rows(result.bytes, parent), title=title, right=("before", "after")))
        parts += [*fidelity_parts(parent.fidelity), inserted_line(parent), *missing_lines(parent)]
    if result.steps:
        steps = [(step.name, _joined(step.params), _joined(step.versions)) for step in result.steps]
        parts.append(table(("step", "parameters", "made with"), steps))
    if card is not None and card.quality:
        figures = [(q.metric, figure(q.metric, q.value), q.data, size(q.total)) for q in card.quality]
        parts.append(table(("metric", "value", "data", "samples"), figures, right=("value", "samples")))
    return [*parts, *(f"note: {note}" for note in (card.notes if card is not None else ()))]


def _micro(found: MicroFacts) -> list[str]:
    """What a microcontroller needs for the file."""
    runs = {True: f"{found.arena}; register", False: "it does not run", None: "register"}[found.runs]
    listed = "" if found.runs is False else f" {', '.join(found.register)}"
    return [f"on microcontrollers: {runs}{listed}{f': {found.note}' if found.runs is False else ''}"] + (
        [f"on microcontrollers: the arena is not known: {found.note}"] if found.runs is None else []
    )


def _meaning(card: Card | None) -> list[str]:
    """How a raw sample becomes each input, as a formula in words, and the names of the classes."""
    if card is None:
        return []
    lines = [f"{name}: {rule.formula()}" for name, rule in card.contract.items() if rule.kind != "array"]
    labels = card.task.labels
    more = f" and {len(labels) - _CLASSES} more" if len(labels) > _CLASSES else ""
    return [*lines, *([f"classes, in order: {', '.join(labels[:_CLASSES])}{more}"] if labels else [])]


def _facts(facts: FileFacts) -> list[str]:
    """Parameters and work, versions and producer, in one line each."""
    counts = [f"{size(facts.parameters)} parameters"] if facts.parameters is not None else []
    counts += [f"{size(facts.macs)} multiply-accumulates a run"] if facts.macs else []
    versions = [f"opset {version} of {domain}" for domain, version in (facts.opset or {}).items()]
    versions += [f"IR {facts.ir_version}"] if facts.ir_version is not None else []
    versions += [f"schema {facts.schema_version}"] if facts.schema_version is not None else []
    versions += [f"written by {facts.producer}"] if facts.producer else []
    more = len(facts.signatures) > 1
    versions += [f"signatures {', '.join(facts.signatures)} (the first is described)"] if more else []
    return [", ".join(part) for part in (counts, versions) if part]


def _signature(result: InspectResult) -> Any:
    card, rows = result.artifact.card, []
    for role, specs in (("input", result.signature.inputs), ("output", result.signature.outputs)):
        for spec in specs:
            held, integer = "", result.facts.quantized_io.get(spec.name)
            if integer is None and card is not None:
                integer = card.quantized_io.get(spec.name)
            if integer is not None:
                held = f"{integer.dtype}, scale {integer.scale:.6g}, zero point {integer.zero_point}"
            rows.append((role, spec.name, spec.dtype, "×".join(map(str, spec.shape)), held))
    return table(("", "name", "dtype", "shape", "held as"), rows)


def _calibration(result: CalibrationResult) -> Parts:
    halves = result.halves
    apart = "" if halves is None else f"; scales of two halves of the samples are {share(halves)} apart (median)"
    head = f"{result.calibration}: {result.method} on {size(result.samples)} samples of {result.data}"
    rows = [
        (row.layer, row.tensor.rpartition("/")[2][-_TENSOR:], f"{row.low:.4g}", f"{row.high:.4g}")
        for row in result.ranges
    ]
    ranges = table(("layer", "tensor", "from", "to"), rows, right=("from", "to"))
    return [head + apart, ranges, *(f"note: {note}" for note in result.notes)]


def _streaming(streaming: Streaming) -> str:
    """How the steps of a file make a sequence, in words."""
    pairs = ", ".join(f"{before} <- {after}" for before, after in streaming.states.items())
    whole = ", ".join(f"{spec.name} {'x'.join(map(str, spec.shape))}" for spec in streaming.sequence.inputs)
    step = "one step" if streaming.frames == 1 else f"one step, {streaming.frames} frames,"
    late = f"; outputs {streaming.delay} steps late" if streaming.delay else ""
    return f"streaming: one run is {step} of {whole}{late}; state, zero at first: {pairs}"


def _origin(card: Card | None) -> str:
    if card is None:
        return "no card: made elsewhere; signature and operators are read from the file"
    return f"{card.name} ({card.family}), task {_task(card.task)}"


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def backend_parts(backends: tuple[Backend, ...], device: str) -> Parts:
    """One line a runtime: whether it ran a tiny model, and why not."""
    told = {"missing": "not installed there"}
    if not backends:
        return []
    rows = [(b.runtime, f".{b.format}", b.state, told.get(b.state, b.detail)) for b in backends]
    return [table(("runtime", "runs", "state", "detail"), rows, title=f"Runtimes on {device}")]


def render_doctor(result: DoctorResult) -> Parts:
    """Runtimes as they were tried, packages, and how to get what is missing."""
    parts: Parts = [f"edgekit {result.version}, Python {result.python}"]
    parts += backend_parts(result.backends, result.device)
    packages = [(p.name, p.version or "not installed", p.used_for) for p in result.packages]
    parts.append(table(("package", "version", "used for"), packages, title="Packages of this environment"))
    beside = [(e.name, e.state, e.detail or e.python or "", e.used_for) for e in result.environments]
    if beside:
        title = "Environments beside it, for packages with pins of their own"
        parts.append(table(("environment", "state", "detail", "used for"), beside, title=title))
    missing = {b.runtime: b.install for b in result.backends if b.state == "missing"}
    missing |= {p.name: p.install for p in result.packages if p.version is None and p.name not in missing}
    brought = set(missing.values())  # how a runtime in an environment is got stands at the runtime
    missing |= {
        e.name: e.install
        for e in result.environments
        if e.state in ("missing", "broken") and not any(e.install in how for how in brought)
    }
    if missing:
        parts.append(table(("to get", "do"), missing.items()))
    return parts
