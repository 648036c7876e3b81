"""How the result of ``prune`` looks on the screen."""

from __future__ import annotations

from edgekit.report.text import points, share, size, table
from edgekit.report.verbs import Documented, Parts


def render_prune(result: Documented) -> Parts:
    """Work, parameters and quality before and after, and the widths that changed."""
    document = result.document()
    macs, parameters, quality = document["macs"], document["parameters"], document["quality"]
    rows: list[tuple[object, ...]] = [
        ("multiply-accumulates", size(macs["before"]), size(macs["after"]), f"{-100 * macs['removed']:+.1f}%"),
        (
            "parameters",
            size(parameters["before"]),
            size(parameters["after"]),
            f"{100 * (parameters['after'] / parameters['before'] - 1):+.1f}%",
        ),
    ]
    if document["sparsity"]:
        zeros, weights = document["sparsity"]["zeros"], document["sparsity"]["weights"]
        packed = document["compressed_bytes"]
        rows = [
            ("weights that are zero", None, size(zeros), f"{100 * zeros / weights:.1f}%"),
            ("bytes, deflated", size(packed["before"]), size(packed["after"]),
             f"{100 * (packed['after'] / packed['before'] - 1):+.1f}%"),
        ]  # fmt: skip
    if quality:
        last = quality["after_finetuning"]
        rows.append(("after pruning", share(quality["before"]), share(quality["after_pruning"]), None))
        if last is not None:
            change = points(quality["drop"])
            rows.append((f"after fine-tuning, {quality['metric']}", share(quality["before"]), share(last), change))
    widths = [(name, of, kept) for name, (kept, of) in document["kept"].items() if kept != of]
    parts: Parts = [f"{document['checkpoint']['path']}: {document['method']}, amount {document['amount']:g}"]
    parts.append(table(("", "before", "after", ""), rows, right=("before", "after")))
    parts.append(table(("layer", "channels", "kept"), widths, right=("channels", "kept")))
    if document["blocks"]:
        parts.append(f"blocks that left: {', '.join(document['blocks'])}")
    if document["sparsity"]:
        parts.append("no runtime here skips zeros: a run takes as long as before (see docs/pruning.md, or bench both)")
    if document["candidates"]:
        names = list(document["candidates"][0])
        parts.append(table(names, [[_figure(row.get(name)) for name in names] for row in document["candidates"]]))
    if not quality:
        parts.append("quality was not measured and nothing was fine-tuned: give --data")
    return [*parts, *(f"note: {note}" for note in document["notes"])]


def _figure(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
