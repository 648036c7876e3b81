"""Size is a tested property: files of at most 450 lines, functions of at most 80, and few parameters."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 450
FUNCTION_LINES = 80
PARAMETERS = 10
"""The command line is exempt: an option is a parameter there."""
FOLDERS = ("edgekit", "models", "converters", "scripts", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _files(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("*.py"))


def _functions(file: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def _lines(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: Function) -> int:
    return len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)


def test_files(root: Path) -> None:
    counts = {str(file.relative_to(root)): len(file.read_text(encoding="utf-8").splitlines()) for file in _files(root)}
    assert {name: count for name, count in counts.items() if count > FILE_LINES} == {}
    assert statistics.median(counts.values()) < FILE_LINES / 2


def test_functions(root: Path) -> None:
    long = {}
    for file in _files(root):
        for node in _functions(file):
            if _lines(node) > FUNCTION_LINES:
                long[f"{file.relative_to(root)}:{node.lineno} {node.name}"] = _lines(node)
    assert long == {}


def test_parameters(root: Path) -> None:
    many = {}
    for file in _files(root):
        if file.parent == root / "edgekit" / "cli":
            continue
        for node in _functions(file):
            if _parameters(node) > PARAMETERS:
                many[f"{file.relative_to(root)}:{node.lineno} {node.name}"] = _parameters(node)
    assert many == {}


def test_measure_can_fail() -> None:
    node = ast.parse("def f(a, b, *, c):\n" + "    pass\n" * 99).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert (_lines(node), _parameters(node)) == (100, 3)
