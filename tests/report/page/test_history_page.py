"""The history of a folder as a browser shows it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgekit.results.compare import Comparison
from edgekit.results.history import TIME, Course, HistoryResult, HistoryRun
from edgekit.types import Verdict


def test_a_history(opened: Callable[..., Any], pages: ModuleType) -> None:
    from PIL import Image

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
    assert plot.locator("svg path").count() > 2
    shot = np.asarray(Image.open(io.BytesIO(plot.screenshot())).convert("L"), np.float64)
    assert shot.std() > 5, "an empty box has 0"
    assert "Slower than the run before" in shown.locator("main").text_content()
