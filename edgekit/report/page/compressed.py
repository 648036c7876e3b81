"""The pages of files that were made smaller: decibels by layer, kernels, what stayed in float and why, widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report.auto import render_auto
from edgekit.report.page import plots
from edgekit.report.page.front import of_candidates
from edgekit.report.page.names import in_short, unlike
from edgekit.report.page.parts import Part, Plot, Section
from edgekit.report.prune import render_prune
from edgekit.report.quantize import render_plan, render_quantize, render_quantize_plan
from edgekit.report.text import ms
from edgekit.results.compressed import FidelityFigures, LeftFloat
from edgekit.results.quantize import AutoResult, KernelTimes, LengthError, MixedPlan, QuantizePlan, QuantizeResult
from edgekit.results.train import PruneResult
from edgekit.types import Sheet

DRAWN = 60
"""Bars of one plot, the most telling ones; its table has all rows."""


def quantize_sections(result: QuantizeResult) -> list[Section]:
    """A compressed file beside its parent; what was tried for it, its kernels and what each operator costs."""
    if isinstance(result, AutoResult):
        sections = [Section("Candidates", [*of_candidates(result), *render_auto(result)])]
    else:
        sections = [Section("Result", render_quantize(result))]
    fidelity: list[Part] = [*outputs(result.fidelity), *sensitivity(result.mixed), *errors(result.length_errors)]
    if fidelity:
        sections.append(Section("Fidelity", fidelity))
    if result.kernels:
        sections.append(Section("Kernels", [kernels(result.kernels)]))
    if result.account.left_float:
        sections.append(Section("What stayed in float, and why", [left_float(result.account.left_float)]))
    return sections


def plan_sections(result: QuantizePlan) -> list[Section]:
    """What would be quantized, and the kernels that decide."""
    drawn = [kernels(result.kernels)] if result.kernels else []
    return [Section("Plan", [*drawn, *render_quantize_plan(result)])]


def mixed_sections(result: MixedPlan) -> list[Section]:
    """What each operator costs on integers."""
    return [Section("Plan", [*sensitivity(result), *render_plan(result)])]


def prune_sections(result: PruneResult) -> list[Section]:
    """What left each layer, and the quality before and after."""
    rows: list[dict[str, Any]] = []
    for layer, (kept, before) in result.kept.items():
        rows += [{"name": layer, "value": before, "group": "before"}, {"name": layer, "value": kept, "group": "kept"}]
    parts: list[Any] = []
    if rows:
        about = "Channels of every layer before and after."
        sheet = Sheet(("layer", "before", "kept"), [(name, of, kept) for name, (kept, of) in result.kept.items()],
                      right=("before", "kept"))  # fmt: skip
        parts.append(Plot("Widths", about, plots.bars(rows[: 2 * DRAWN], about, "channels", group="when"), sheet))
    return [Section("Result", [*render_prune(result), *parts])]


def left_float(rows: Sequence[LeftFloat]) -> Sheet:
    """Every operator that runs in float."""
    return Sheet(("operator", "type", "why"), [(row.name, row.operator, row.reason) for row in rows])


def outputs(fidelity: FidelityFigures | None) -> list[Plot]:
    """Signal to noise of each output, and of its worst channel."""
    found = () if fidelity is None else fidelity.outputs
    rows = [
        {"name": one.name, "value": value, "group": what}
        for one in found
        for what, value in (("whole output", one.snr_db), ("worst channel", one.worst_channel_db))
        if value is not None
    ]
    if not rows or fidelity is None:
        return []
    about = f"Signal to noise of the outputs beside those of the float file, on {fidelity.data}; 20 dB is 10% of noise."
    columns = ("output", "dB", "worst channel, dB", "cosine", "same largest", "dead channels")
    table = [
        (one.name, _db(one.snr_db), _db(one.worst_channel_db), one.cosine, one.top1_agreement, one.dead_channels)
        for one in found
    ]
    spec = plots.bars(rows[: 2 * DRAWN], about, "signal to noise, dB", group="of")
    return [Plot("Signal to noise of the outputs", about, spec, Sheet(columns, table, right=columns[1:]))]


def sensitivity(plan: MixedPlan | None) -> list[Plot]:
    """What is left of the outputs with one operator quantized and all others in float."""
    layers = () if plan is None else plan.layers
    if plan is None or not any(one.snr_db is not None for one in layers):
        return []
    kept = set(plan.keep)
    side = {one.name: "stays in float" if one.name in kept else plan.scheme for one in layers}
    names = unlike([f"{in_short(one.name)} ({one.operator})" for one in layers[:DRAWN]])
    rows = [
        {"name": name, "value": one.snr_db, "group": side[one.name]}
        for name, one in zip(names, layers, strict=False)
        if one.snr_db is not None
    ]
    about = (
        f"Signal to noise of the worst output with this operator alone in {plan.scheme} and all others in float, on "
        f"{plan.samples} samples: the shorter the bar, the more the operator costs."
        + (f" The first {DRAWN} of {len(layers)}." if len(layers) > DRAWN else "")
    )
    columns = ("operator", "type", "dB", "dead channels", "plan")
    table = [(one.name, one.operator, _db(one.snr_db), one.dead_channels, side[one.name]) for one in layers]
    sheet = Sheet(columns, table, right=("dB", "dead channels"))
    return [Plot("Sensitivity", about, plots.bars(rows, about, "signal to noise, dB", group="plan"), sheet)]


def errors(found: Sequence[LengthError]) -> list[Plot]:
    """Of a recurrent network the error by length."""
    if not found:
        return []
    about = "Largest error of an output at each length or step, of the largest output of the float file there."
    rows = [{"name": f"{one.steps} steps", "value": 100 * one.relative} for one in found]
    columns = ("steps", "largest error", "of the largest output")
    table = [(one.steps, f"{one.max_abs:.2g}", f"{100 * one.relative:.2f}%") for one in found]
    return [Plot("Error by length", about, plots.bars(rows, about, "error, %"), Sheet(columns, table, right=columns))]


def kernels(found: Sequence[KernelTimes]) -> Plot:
    """What each operator takes on integers and in float."""
    order = sorted(found, key=lambda one: -max(one.integer_ns or 0, one.float_ns or 0))
    names = unlike([f"{in_short(one.operator)} ({one.kind})" for one in order[:DRAWN]])
    rows = [
        {"name": name, "value": time / 1000, "group": side}
        for name, one in zip(names, order, strict=False)
        for side, time in (("integer", one.integer_ns), ("float", one.float_ns))
        if time is not None
    ]
    more = f" The slowest {DRAWN} of {len(order)}." if len(order) > DRAWN else ""
    about = f"Microseconds of every operator on integers and in float on the target; it runs on the side kept.{more}"
    columns = ("operator", "type", "integer, us", "float, us", "kept")
    table = [(one.operator, one.kind, _us(one.integer_ns), _us(one.float_ns), one.kept) for one in order]
    sheet = Sheet(columns, table, right=("integer, us", "float, us"))
    return Plot("Integer and float kernels", about, plots.bars(rows, about, "us", group="computed in"), sheet)


def _us(ns: int | None) -> str | None:
    return None if ns is None else ms(ns / 1000)


def _db(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"
