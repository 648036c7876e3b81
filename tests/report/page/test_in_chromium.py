"""Pages as a browser shows them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgekit.escapes import visible
from edgekit.report.page import page
from edgekit.results.compare import Comparison
from edgekit.results.history import TIME, Course, HistoryResult, HistoryRun
from edgekit.types import Verdict

Open = Callable[..., Any]


def pixels(shot: bytes) -> np.ndarray[Any, Any]:
    """A screenshot as (H, W, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.float64)


def test_every_plot_is_drawn(opened: Open, pages: ModuleType) -> None:
    shown = opened(pages.bench(pages.timed("a.onnx"), pages.timed("b.onnx", seed=1)))
    plots = shown.locator("figure .plot").all()
    assert len(plots) == 2
    for plot in plots:
        assert plot.locator("svg path").count() > 2
        assert pixels(plot.screenshot()).std() > 5  # an empty box has 0
    assert shown.locator("figure table").count() == len(plots)


def test_what_strangers_wrote_stays_text(opened: Open, pages: ModuleType) -> None:
    document = pages.bench(pages.timed(pages.HOSTILE, device=pages.HOSTILE), pages.timed("b.onnx"))
    shown = opened(document)
    assert shown.evaluate("window.hacked") is None
    assert shown.locator("main img").count() == 0
    assert visible(pages.HOSTILE) in shown.locator("main").text_content()
    for figure in shown.locator("figure").all():  # in the plots, too
        assert "<img src=x onerror" in figure.locator("svg").text_content()
    assert "window.hacked=1</script>" not in page([document])


def test_a_history(opened: Open, pages: ModuleType) -> None:
    comparison = Comparison(a="2", b="1", ratio_p50=2.0, ci95=(1.9, 2.1), verdict=Verdict.SLOWER, method="occasions")
    facts = {"version": "0", "sha256": "0" * 64}
    runs = (
        HistoryRun(document="1.json", date="2026-01-01T00:00:00+00:00", value=1.0, **facts),
        HistoryRun(
            document="2.json", date="2026-02-01T00:00:00+00:00", value=2.0, against_previous=comparison, **facts
        ),
    )
    course = Course(figure=TIME, model=pages.HOSTILE, device="cpu", cpu="one", runs=runs, comparison=comparison)
    shown = opened(pages.saved("report", HistoryResult(folder=Path("runs"), documents=2, courses=(course,))))
    assert shown.evaluate("window.hacked") is None
    (plot,) = shown.locator("figure .plot").all()
    assert plot.locator("svg path").count() > 2 and pixels(plot.screenshot()).std() > 5
    assert "Slower than the run before" in shown.locator("main").text_content()
