"""Pages as a browser shows them."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.escapes import visible
from edgekit.report.page import page
from edgekit.results.base import to_json
from edgekit.results.saved import from_json
from edgekit.results.schema import VERBS

Open = Callable[..., Any]


def pixels(shot: bytes) -> np.ndarray[Any, Any]:
    """A screenshot as (H, W, 3)."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.float64)


def test_every_plot_is_drawn(opened: Open, pages: ModuleType) -> None:
    shown = opened(pages.bench(pages.timed("a.onnx"), pages.timed("b.onnx", seed=1)))
    plots = shown.locator("figure .plot").all()
    assert len(plots) == 3  # the front, the histogram, the times over time
    for plot in plots:
        assert plot.locator("svg path").count() > 2
        assert pixels(plot.screenshot()).std() > 5  # an empty box has 0
    assert shown.locator("figure table").count() == len(plots)


def test_what_strangers_wrote_stays_text(opened: Open, pages: ModuleType) -> None:
    document = pages.bench(pages.timed(pages.HOSTILE, device=pages.HOSTILE), pages.timed("b.onnx", seed=1))
    shown = opened(document)
    assert shown.evaluate("window.hacked") is None
    assert shown.locator("main img").count() == 0
    assert visible(pages.HOSTILE) in shown.locator("main").text_content()
    front, *others = shown.locator("figure").all()
    for figure in others:  # in the plots, too
        assert "<img src=x onerror" in figure.locator("svg").text_content()
    front.locator("svg .mark-symbol.role-mark path").first.hover()
    tooltip = shown.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "<img src=x onerror" in tooltip.text_content() and tooltip.locator("img").count() == 0
    assert "window.hacked=1</script>" not in page([document])


def test_filters_choose_points_and_rows(opened: Open, pages: ModuleType) -> None:
    shown = opened(pages.saved("optimize", pages.study(40)))
    figure = shown.locator("figure", has_text="Trials").first
    points, rows, status = (
        figure.locator("svg .mark-symbol.role-mark path"),
        figure.locator("tbody tr"),
        figure.locator("output"),
    )
    assert (points.count(), rows.count(), status.text_content()) == (80, 80, "80 of 80 rows are shown")
    figure.get_by_label("pi", exact=True).uncheck()
    shown.wait_for_function(
        "document.querySelectorAll('figure')[1].querySelector('output').textContent.startsWith('40 ')"
    )
    assert (points.count(), figure.locator("tbody tr:visible").count()) == (40, 40)
    figure.get_by_label("latency, ms at most").fill("0")
    shown.wait_for_function(
        "document.querySelectorAll('figure')[1].querySelector('output').textContent.startsWith('0 ')"
    )
    assert (points.count(), figure.locator("tbody tr:visible").count()) == (0, 0)


def test_a_keyboard_is_enough(opened: Open, pages: ModuleType) -> None:
    shown = opened(pages.saved("optimize", pages.study(10)))
    reached = []
    for _ in range(40):
        shown.keyboard.press("Tab")
        reached.append(shown.evaluate("document.activeElement.dataset.axis || document.activeElement.tagName"))
        if reached[-1] == "x":
            break
    assert reached[0] == "A" and reached[-1] == "x"
    shown.keyboard.press("ArrowDown")
    shown.wait_for_function("document.querySelector('figure svg').textContent.includes('quality')")
    assert "latency p50, ms" not in shown.locator("figure svg .role-axis-title").first.text_content()


def test_names_for_screen_readers(opened: Open, pages: ModuleType) -> None:
    shown = opened(pages.saved("optimize", pages.study(10)), pages.bench(pages.timed("a.onnx")))
    for figure in shown.locator("figure").all():
        assert figure.locator("[role=graphics-document]").get_attribute("aria-label", timeout=2000)
        assert figure.locator("caption, summary").count() and figure.locator("thead th[scope=col]").count()
    named = "one.labels?.length || one.ariaLabel || one.getAttribute('aria-labelledby')"
    parts = "input, select, form:not(.vega-bindings), section, figure, [role=region]"
    unnamed = shown.evaluate(
        f"[...document.querySelectorAll('{parts}')].filter(one => !({named})).map(one => one.outerHTML.slice(0, 200))"
    )
    assert unnamed == []


def test_dark_and_light(opened: Open, pages: ModuleType) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        shown = opened(pages.bench(pages.timed("a.onnx")), color_scheme=scheme)
        label = "getComputedStyle(document.querySelector('.role-axis-title text')).fill"
        seen[scheme] = pixels(shown.screenshot()).mean(), shown.evaluate(label)
    assert seen["light"][0] > 200 and seen["dark"][0] < 80
    assert seen["light"][1] == "rgb(27, 31, 36)" and seen["dark"][1] == "rgb(230, 237, 243)"


def test_print(opened: Open, pages: ModuleType) -> None:
    shown = opened(pages.saved("optimize", pages.study(10)), color_scheme="dark")
    shown.emulate_media(media="print")
    assert not shown.locator("form").first.is_visible() and shown.locator("figure svg").first.is_visible()
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate("getComputedStyle(document.querySelector('.wide')).maxHeight") == "none"
    assert len(shown.pdf()) > 20_000


@pytest.mark.parametrize("hostile", [False, True])
def test_every_kind_of_result(hostile: bool, opened: Open, pages: ModuleType, widths: ModuleType) -> None:
    """With the words of strangers in every text of every result."""
    if hostile:
        widths.WORDS = (pages.HOSTILE,) * len(widths.WORDS)
    documents = []
    for verb, kinds in VERBS.items():
        for kind in kinds:
            made = widths.Maker(3).of(kind)
            head = {"schema": f"edgekit.{verb}/1", "edgekit": pages.HOSTILE, "command": [pages.HOSTILE]}
            documents.append(from_json(to_json(head | made.document()), f"{verb}.json"))
    shown = opened(*documents)
    assert shown.evaluate("window.hacked") is None and shown.locator("main img").count() == 0
    for plot in shown.locator("figure .plot").all():
        assert plot.locator("svg").count() == 1 or plot.text_content() == "No rows to draw."
    assert shown.locator("figure svg").count() > 10
