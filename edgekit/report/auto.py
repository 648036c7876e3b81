"""How the result of ``quantize --scheme auto`` looks on the screen."""

from __future__ import annotations

from textwrap import shorten

from edgekit.report.against import NOT_TIMED
from edgekit.report.quantize import render_quantize
from edgekit.report.text import Parts, figure, lost, ms, size, table
from edgekit.results.quantize import AutoResult, ComparedTime, TrialRow
from edgekit.types import Verdict

_WIDE = 120
"""Characters of a reason on the screen; the JSON document has all of it."""


def render_auto(result: AutoResult) -> Parts:
    """The choice in one line, every trial, then what every quantized file shows."""
    columns = ("candidate", "bytes", "quality", "lost", "p50 ms", "time / float", "verdict", "")
    judged = next((trial.quality for trial in result.trials if trial.quality), None)
    title = (
        None if judged is None else f"Quality on {judged.total} samples of {judged.data}, by which the choice is made"
    )
    parent = next((t.quality for t in result.trials if t.name == result.best_float and t.quality), None)
    before = None if parent is None else parent.value
    right = ("bytes", "quality", "lost", "p50 ms", "time / float")
    trials = table(columns, [_row(trial, before) for trial in result.trials], title=title, right=right)
    _, *rest = render_quantize(result)  # its first line names the file and the scheme, as ours does
    if result.chosen.name == result.best_float:  # it is its own parent
        rest = [part for part in rest if part != NOT_TIMED]
    return [trials, chosen_line(result), *rest]


def chosen_line(result: AutoResult) -> str:
    """What was published, and why: the figures it stands on."""
    chosen, device, path = result.chosen, result.device, result.artifact.path
    where, time = f"on {device.name} ({device.evidence})", chosen.time
    if not isinstance(time, ComparedTime) or time.ratio_p50 is None or time.ci95 is None:
        return f"{path}: {chosen.name}: nothing within the limit is faster {where}, so the float file is shipped"
    same = ", the smallest in the same time" if time.verdict is Verdict.SAME else ""
    ratio = f"{time.ratio_p50:.2f} ({time.ci95[0]:.2f}–{time.ci95[1]:.2f}) of the time of {result.best_float}"
    return f"{path}: {chosen.name}: {ratio} {where}{same}"


def _row(trial: TrialRow, before: float | None) -> tuple[object, ...]:
    time, quality = trial.time, trial.quality
    ratio = verdict = value = change = shown = None
    if isinstance(time, ComparedTime):
        verdict = time.verdict
        interval = f" ({time.ci95[0]:.2f}–{time.ci95[1]:.2f})" if time.ci95 else ""
        ratio = None if time.ratio_p50 is None else f"{time.ratio_p50:.2f}{interval}"
    if quality is not None:
        value = figure(quality.metric, quality.value)
        change = lost(quality.metric, quality.drop or 0.0, before, quality.value)
    if time is not None:
        shown = ms(time.p50_ms) if time.p50_ms is not None else time.shortest_ms and f">{ms(time.shortest_ms)}"
    why = "chosen" if trial.chosen else shorten(trial.why, _WIDE, placeholder=" …")
    return (trial.name, size(trial.bytes), value, change, shown, ratio, verdict, why)
