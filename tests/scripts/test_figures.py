"""Figures in documents: only what stands between the marks changes, and rows of other networks are kept."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MARKS = "<!-- from here -->", "<!-- to here -->"


@pytest.fixture
def scripts(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(root / "scripts"))
    return root / "scripts"


@pytest.fixture
def figures(scripts: Path) -> ModuleType:
    return importlib.import_module("figures")


@pytest.mark.parametrize("name", ["compare_schemes", "compare_openvino", "bench_executorch", "bench_targets"])
def test_the_pages_have_their_marks(scripts: Path, root: Path, figures: ModuleType, name: str) -> None:
    script = importlib.import_module(name)
    marks = script.MARKS if hasattr(script, "MARKS") else (script.BEGIN, script.END)
    document = (root / script.PAGE).read_text(encoding="utf-8")
    written = figures.replaced(document, "the tables", *marks)
    assert written != document and "\n\nthe tables\n\n" in written
    assert figures.replaced(written, "others", *marks).count("the tables") == document.count("the tables")


def test_a_page_without_marks_is_refused(figures: ModuleType) -> None:
    with pytest.raises(ValueError, match="has no lines"):
        figures.replaced(f"text {MARKS[0]}", "the tables", *MARKS)


def rows_of(figures: ModuleType, page: Path) -> Any:
    def tables(record: Any) -> str:
        return f"{record['machine']}: {', '.join(str(row['ms']) for row in record['rows'])}"

    return figures.KeptRows(page, ("a", "b", "c"), MARKS, tables)


def test_rows_of_other_networks_are_kept_in_their_order(figures: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\n{MARKS[1]}\nafter\n")
    kept, machine = rows_of(figures, page), {"machine": "here"}
    kept.add([({"name": "c", "ms": 3}, machine)], write=True)
    kept.add([({"name": "b", "ms": 9}, machine)], write=False)
    came = kept.add([({"name": "a", "ms": 1}, machine), ({"name": "c", "ms": 4}, machine)], write=True)
    assert [row["ms"] for row in came] == [1, 4]
    assert page.read_text() == f"before\n{MARKS[0]}\n\nhere: 1, 4\n\n{MARKS[1]}\nafter\n"
    assert [row["name"] for row in json.loads((tmp_path / "page.json").read_text())["rows"]] == ["a", "c"]


def test_a_network_that_there_is_not_is_refused(
    figures: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = rows_of(figures, tmp_path / "page.md")
    parser = kept.parser("words")
    assert kept.wanted(parser, []) == ["a", "b", "c"] and kept.wanted(parser, ["b"]) == ["b"]
    with pytest.raises(SystemExit):
        kept.wanted(parser, ["a", "d"])
    assert "no network is called d; there are: a, b, c" in capsys.readouterr().err
