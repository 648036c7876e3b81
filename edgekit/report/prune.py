"""How the result of ``prune`` looks on the screen."""

from __future__ import annotations

from edgekit.report.text import Parts, figure, lost, size, table
from edgekit.results.train import Counts, PruneResult


def render_prune(result: PruneResult) -> Parts:
    """Work, parameters and quality before and after, and the widths that changed."""
    macs, quality, sparsity = result.macs, result.quality, result.sparsity
    rows: list[tuple[object, ...]] = [
        ("multiply-accumulates", size(macs.before), size(macs.after), f"{-100 * macs.removed:+.1f}%"),
        _changed("parameters", result.parameters),
    ]
    if sparsity is not None:
        zeros = f"{100 * sparsity.zeros / sparsity.weights:.1f}%"
        rows = [
            ("weights that are zero", None, size(sparsity.zeros), zeros),
            _changed("bytes, deflated", result.compressed_bytes),
        ]
    if quality is not None:
        metric, tuned = quality.metric, quality.after_finetuning
        before, change = figure(metric, quality.before), lost(metric, quality.drop, quality.before, quality.last)
        first = figure(metric, quality.after_pruning)
        rows.append((f"after pruning, {metric}", before, first, change if tuned is None else None))
        if tuned is not None:
            rows.append((f"after fine-tuning, {metric}", before, figure(metric, tuned), change))
    widths = [(name, of, kept) for name, (kept, of) in result.kept.items() if kept != of]
    parts: Parts = [f"{result.path}: {result.method}, amount {result.amount:g}"]
    parts.append(table(("", "before", "after", ""), rows, right=("before", "after")))
    parts.append(table(("layer", "channels", "kept"), widths, right=("channels", "kept")))
    if result.blocks:
        parts.append(f"blocks that left: {', '.join(result.blocks)}")
    if sparsity is not None:
        parts.append("no runtime here skips zeros: a run takes as long as before (see docs/pruning.md, or bench both)")
    if result.candidates:
        names = list(result.candidates[0])
        parts.append(table(names, [[_figure(row.get(name)) for name in names] for row in result.candidates]))
    if quality is None:
        parts.append("quality was not measured and nothing was fine-tuned: give --data")
    return [*parts, *(f"note: {note}" for note in result.notes)]


def _changed(name: str, counts: Counts) -> tuple[object, ...]:
    return name, size(counts.before), size(counts.after), f"{100 * (counts.after / counts.before - 1):+.1f}%"


def _figure(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
