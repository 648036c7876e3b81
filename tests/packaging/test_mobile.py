"""``--for android`` and ``--for ios``: the code parses, and says what the card says. Swift is not compiled."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift

import edgekit

pytestmark = pytest.mark.usefixtures("kept_workers")
GRAMMARS = {".kt": tree_sitter_kotlin, ".swift": tree_sitter_swift}


def faults(path: Path) -> list[str]:
    """Where a file of Kotlin or Swift does not parse."""
    language = tree_sitter.Language(GRAMMARS[path.suffix].language())
    text = path.read_bytes()

    def walk(node: Any) -> Iterator[str]:
        if node.type == "ERROR" or node.is_missing:
            yield f"{path.name}:{node.start_point[0] + 1}: {text[node.start_byte : node.start_byte + 60]!r}"
        for child in node.children:
            yield from walk(child)

    return list(walk(tree_sitter.Parser(language).parse(text).root_node))


@pytest.mark.parametrize("target", ["android", "ios"])
@pytest.mark.parametrize(
    ("kind", "suffix", "task", "labels"),
    [
        ("colour", "onnx", "none", ()), ("running", "tflite", "none", ()), ("text", "onnx", "none", ()),
        ("table", "tflite", "classification", ('a"b', "$x\\", "ü", "d")),
        ("table", "onnx", "multilabel", ("a", "b", "c", "d")),
        ("cubic", "tflite", "segmentation", ()), ("series", "tflite", "forecasting", ()),
    ],
)  # fmt: skip
def test_the_code_parses(
    target: str, kind: str, suffix: str, task: str, labels: tuple[str, ...], make: Callable[..., Path], tmp_path: Path
) -> None:
    edgekit.package(make(kind, suffix, task, labels), for_=target, out=tmp_path / "app")
    files = [file for file in (tmp_path / "app").rglob("*") if file.suffix in GRAMMARS]
    assert len(files) == 4
    assert [fault for file in files for fault in faults(file)] == []
    assert "@@" not in "".join(file.read_text() for file in files)


def test_a_fault_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.swift").write_text("func f( -> Int { return 1 }\n")
    (tmp_path / "a.kt").write_text("fun f(: Int = 1\n")
    assert faults(tmp_path / "a.swift") and faults(tmp_path / "a.kt")


@pytest.mark.parametrize(("target", "name"), [("android", "Spec.kt"), ("ios", "Spec.swift")])
def test_the_constants_are_the_cards(target: str, name: str, make: Callable[..., Path], tmp_path: Path) -> None:
    if target == "ios":
        model = make("table", "onnx", "classification", ("ant", "bee", "cat", "dog"))
    else:
        model = make("table", "tflite", "classification", ("ant", "bee", "cat", "dog"), quantized=True)
    edgekit.package(model, for_=target, out=tmp_path / "app")
    (spec,) = (tmp_path / "app").rglob(name)
    text = spec.read_text()
    assert re.search(r'"ant", "bee", "cat", "dog"', text)
    factors = re.search(r"factor[ =:]*(?:floatArrayOf\(|\[)([^)\]]*)", text)
    assert factors is not None
    assert [float(value.rstrip("f")) for value in factors[1].split(", ")] == [2.0] * 4  # 1 / 0.5
    if target == "android":
        assert "Type.INT8, intArrayOf(1, 4), 0.05f, -68" in text


def test_ios_names_what_its_runtime_does_not_pass(make: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(edgekit.errors.UnsupportedError, match="TensorFlowLiteSwift passes no such tensor"):
        edgekit.package(make("table", "tflite", quantized=True), for_="ios", out=tmp_path / "app")
