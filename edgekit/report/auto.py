"""How the result of ``quantize --scheme auto`` looks on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten
from typing import Any

from edgekit.report.against import NOT_TIMED
from edgekit.report.quantize import render_quantize
from edgekit.report.text import SHARES, figure, ms, points, size, table, worse
from edgekit.report.verbs import Documented, Parts

_WIDE = 120
"""Characters of a reason on the screen; the JSON document has all of it."""


def render_auto(result: Documented) -> Parts:
    """The choice in one line, every trial, then what every quantized file shows."""
    document = result.document()
    rows = [_row(trial) for trial in document["trials"]]
    columns = ("candidate", "bytes", "quality", "lost", "p50 ms", "time / float", "verdict", "")
    judged = next((trial["quality"] for trial in document["trials"] if trial["quality"]), None)
    title = judged and f"Quality on {judged['total']} samples of {judged['data']}, by which the choice is made"
    trials = table(columns, rows, title=title, right=("bytes", "quality", "lost", "p50 ms", "time / float"))
    _, *rest = render_quantize(result)  # its first line names the file and the scheme, as ours does
    if document["chosen"]["name"] == document["best_float"]:  # it is its own parent
        rest = [part for part in rest if part != NOT_TIMED]
    return [trials, chosen_line(document), *rest]


def chosen_line(document: Mapping[str, Any]) -> str:
    """What was published, and why: the figures it stands on."""
    chosen, device = document["chosen"], document["device"]
    path, best = document["artifact"]["path"], document["best_float"]
    where = f"on {device['name']} ({device['evidence']})"
    if chosen["name"] == best:
        return f"{path}: {chosen['name']}: nothing within the limit is faster {where}, so the float file is shipped"
    low, high = chosen["time"]["ci95"]
    same = ", the smallest in the same time" if chosen["time"]["verdict"] == "same" else ""
    ratio = f"{chosen['time']['ratio_p50']:.2f} ({low:.2f}–{high:.2f}) of the time of {best}"
    return f"{path}: {chosen['name']}: {ratio} {where}{same}"


def _row(trial: Mapping[str, Any]) -> tuple[object, ...]:
    time, quality = trial["time"] or {}, trial["quality"]
    ratio = time.get("ratio_p50")
    interval = time.get("ci95")
    told = None if ratio is None else f"{ratio:.2f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "")
    value = lost = None
    if quality is not None:
        value = figure(quality["metric"], quality["value"])
        lost = points(quality["drop"]) if quality["metric"] in SHARES else worse(quality["drop"])
    p50 = time.get("p50_ms")
    shown = ms(p50) if p50 is not None else None if not time.get("shortest_ms") else f">{ms(time['shortest_ms'])}"
    why = "chosen" if trial["chosen"] else shorten(trial["why"], _WIDE, placeholder=" …")
    return (trial["name"], size(trial["bytes"]), value, lost, shown, told, time.get("verdict"), why)
