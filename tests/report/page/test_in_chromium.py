"""Pages as a browser shows them."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from edgekit.escapes import visible
from edgekit.report.page import page

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
