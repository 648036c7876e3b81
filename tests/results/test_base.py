"""Fields of dataclasses as keys of a document, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit.documents import typed
from edgekit.results.base import PublishedFile, Result, beside, derived, hidden, named, optional, rounded, to_json
from edgekit.types import Card, Format, Signature, Task, Verdict


@dataclass(frozen=True, kw_only=True)
class Inner:
    x: float
    more: Mapping[str, Any] = beside()


@dataclass(frozen=True, kw_only=True)
class Outer(Result):
    verdict: Verdict
    half: float = derived(lambda outer: outer.whole / 2, digits=1)
    whole: float = rounded(2, 0.0)
    imports: int = named("import", 0)
    why: str = optional("")
    figure: float | None = optional()
    rows: tuple[Inner, ...] = ()
    inner: Inner = beside(lambda: Inner(x=0.0))
    path: Path | None = None
    live: object = hidden(None)


def test_every_kind_of_field_in_the_order_of_the_class() -> None:
    row = Inner(x=float("nan"), more={"soc": "X"})
    outer = Outer(verdict=Verdict.SAME, whole=1.2345, rows=(row,), inner=Inner(x=2.0, more={"y": 1}), live=object())
    assert list(outer.document().items()) == [
        ("verdict", "same"), ("half", 0.6), ("whole", 1.23), ("import", 0), ("rows", [{"x": None, "soc": "X"}]),
        ("x", 2.0), ("y", 1), ("path", None),
    ]  # fmt: skip
    told = Outer(verdict=Verdict.SAME, why="so", figure=0.0).document()
    assert (told["why"], told["figure"]) == ("so", 0.0)  # 0 is a figure, too


def test_a_document_is_read_back() -> None:
    outer = Outer(verdict=Verdict.FASTER, imports=3, rows=(Inner(x=1.0, more={"a": [1]}),), path=Path("a/b"))
    again = typed(Outer, outer.document(), "it")
    assert (again.verdict, again.imports, again.rows, again.path) == (Verdict.FASTER, 3, outer.rows, Path("a/b"))
    assert again.document() == outer.document()
    assert typed(Outer, {"verdict": "same", "x": 1, "of a later version": 1}, "it").imports == 0
    with pytest.raises(ValueError, match=r"it\.verdict is 'best', a text was expected"):
        typed(Outer, {"verdict": "best", "x": 1}, "it")
    with pytest.raises(ValueError, match="it has no 'x'"):
        typed(Outer, {"verdict": "same"}, "it")


def test_a_file_without_its_card() -> None:
    card = Card("n", "custom", Task(), Signature((), ()))
    file = PublishedFile(Path("m.onnx"), Format.ONNX, card, 3, "ab")
    assert to_json(file) == {"path": "m.onnx", "format": "onnx", "bytes": 3, "sha256": "ab"}


@dataclass(frozen=True, kw_only=True)
class Whole(Result):
    double: int = derived(lambda whole: 2 * whole.part)
    part: int = hidden(read=lambda table, where: int(table["double"]) // 2)


def test_what_is_not_in_the_document_is_made_of_it() -> None:
    assert Whole(part=3).document() == {"double": 6}
    assert typed(Whole, {"double": 6, "part": 100}, "it").part == 3
