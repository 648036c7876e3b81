"""The text of pages, what they are made of, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.errors import InputError, RuntimeMissingError
from edgekit.report.page import page
from edgekit.report.page.bench import layer_times
from edgekit.report.page.front import front_plot, of_several
from edgekit.report.page.html import MOST_ROWS, render, shown
from edgekit.report.page.names import LONGEST, in_short, unlike
from edgekit.report.page.parts import Section
from edgekit.results.bench import BenchRecord
from edgekit.results.eval import EvalResult, Evaluation
from edgekit.types import Sheet


def test_one_file_below_two_megabytes_that_fetches_nothing(pages: ModuleType) -> None:
    text = page([pages.saved("optimize", pages.study(200))])
    assert len(text.encode()) < 2_000_000
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"", text.partition("<script>")[0]) == []
    assert "default-src 'none'" in text and text.count("<script>") == 2  # those that the policy names
    assert "edgekit optimize 'a b.onnx'" in text.replace("&#39;", "'")  # the command, as a shell takes it


def test_what_is_left_out_of_a_long_table_is_counted() -> None:
    rows = [[k] for k in range(MOST_ROWS + 7)]
    text = render("t", [Section("s", [Sheet(("n",), rows)])])
    assert text.count("<tr><td>") == MOST_ROWS and "in the JSON document: 7 more" in text
    assert "more" not in render("t", [Section("s", [Sheet(("n",), rows[:MOST_ROWS])])]).partition("<script>")[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        (1234, "1,234"),
        (0.12345, "0.123"),
        (float("nan"), "–"),
        ("x" * 500, None),
    ],
)
def test_a_cell(value: object, text: str | None) -> None:
    assert shown(value) == text if text else len(shown(value)) < 410


def test_the_quality_of_a_timed_file_comes_from_another_document(pages: ModuleType) -> None:
    first, second = pages.timed("a.onnx"), pages.timed("b.onnx", seed=1)
    evaluated = EvalResult(
        model=Path("elsewhere.onnx"), sha256=first.sha256, split="test", runtime="onnxruntime", device="cpu",
        evaluation=Evaluation("accuracy", 0.75, 10, "digits@test"),
    )  # fmt: skip
    (plot,) = of_several([BenchRecord(results=(first, second)), evaluated])
    rows = plot.spec["data"]["values"]
    assert [(row["name"], row["quality"]) for row in rows] == [("a.onnx", 0.75), ("b.onnx", None)]
    assert [row["front"] for row in rows] == ["yes", "no"]  # the other has no quality to compare
    assert of_several([BenchRecord(results=(first,))]) == []


def test_a_plot_needs_two_figures() -> None:
    from edgekit.report.page.front import Candidate

    assert front_plot([Candidate(name="a", latency=1.0)], "t", "about") == []
    (plot,) = front_plot([Candidate(name="a", latency=1.0, bytes=2)], "t", "about")
    assert [axis.field for axis in plot.axes] == ["latency", "bytes", "bytes"]


def test_layers_of_both_formats_stand_beside_each_other(pages: ModuleType) -> None:
    from edgekit.documents import typed
    from edgekit.extras.profile import Profile

    def profile(*layers: str | None) -> Profile:
        rows = [{"layer": layer, "nodes": 1, "calls": 1, "ms": 0.5, "share": 0.5} for layer in layers]
        told = {"tool": "t", "runs": 1, "run_ms": 1, "total_ms": 1, "unattributed_ms": 0, "resolution_us": 0}
        return typed(Profile, {**told, "types": [], "layers": rows, "by": [], "nodes": []}, "it")

    found = [
        (pages.timed("a.onnx"), profile("conv", "", None)),
        (pages.timed("b.tflite"), profile("module.conv", "module", "module.conv.0")),
    ]
    assert {row[0] for row in layer_times(found).data.rows} == {"conv", "(model)", "unknown", "conv.0"}


def test_labels() -> None:
    long = "net.ResNet/torch.nn.modules.container.Sequential_stem/torch.nn.modules.conv.Conv2d_0;"
    assert in_short(long) == "stem.0" and in_short("short") == "short"
    assert len(in_short("x" * 100)) == LONGEST + 1
    assert unlike(["a", "b", "a"]) == ["a 1", "b", "a 2"]


def test_without_the_packages_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edgekit_here: Callable[..., Any]
) -> None:
    monkeypatch.setattr("edgekit.report.page.html.find_spec", lambda name: None)
    with pytest.raises(RuntimeMissingError, match="jinja2 and vl-convert-python, which are not installed; pip"):
        render("t", [])
    ended = edgekit_here("eval", "there-is-none.onnx", "--data", "digits", "--html", "page.html")
    assert ended.code == 4 and "edgekit[report]" in ended.err  # before the file is looked for
    (tmp_path / "it.json").write_text('{"schema": "edgekit.bench/1", "results": []}', encoding="utf-8")
    assert edgekit_here("report", "it.json", "-o", "page.html").code == 4
    assert not (tmp_path / "page.html").exists()


def test_what_cannot_be_a_page_is_refused(tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    whole = json.dumps({"schema": "edgekit.bench/1", "results": []})
    (tmp_path / "whole.json").write_text(whole, encoding="utf-8")
    (tmp_path / "half.json").write_text(whole[:20], encoding="utf-8")
    (tmp_path / "other.json").write_text('{"a": 1}', encoding="utf-8")
    for name in ("half.json", "other.json", "none.json"):
        ended = edgekit_here("report", "whole.json", name, "-o", "page.html")
        assert ended.code == 3 and name in ended.err, ended.err
    assert edgekit_here("report", "whole.json").code == 2
    assert edgekit_here("eval", "m.onnx", "--data", "digits", "--html", "-").code == 2
    assert edgekit_here("eval", "m.onnx", "--data", "digits", "--html", ".").code == 2
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("found", [3, {"tool": "t"}])
def test_an_extra_that_is_none_is_refused(found: object, pages: ModuleType) -> None:
    with pytest.raises(InputError, match=r"an extra of the bench is not valid: profile"):
        page([pages.bench(pages.timed("a.onnx", extras={"profile": found}))])
