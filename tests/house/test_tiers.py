"""The fast tier: what tests/heavy.txt lists exists, and every room has something real that is not in it."""

from __future__ import annotations

import ast
from pathlib import Path


def _functions(root: Path) -> dict[str, bool]:
    """``tests/room/test_file.py::test_function`` -> whether it, or its whole file, is marked slow or sweep."""
    found = {}
    for file in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        marks = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
        whole = any(mark.startswith("pytestmark") and _leaves_out(mark) for mark in marks)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                alone = any(_leaves_out(ast.unparse(one)) for one in node.decorator_list if not _of_one_case(one))
                found[f"{file.relative_to(root).as_posix()}::{node.name}"] = whole or alone
    return found


def _leaves_out(text: str) -> bool:
    return "pytest.mark.slow" in text or "pytest.mark.sweep" in text


def _of_one_case(decorator: ast.expr) -> bool:
    return "parametrize" in ast.unparse(decorator)


def _heavy(root: Path) -> set[str]:
    """Functions and files."""
    return {line.split()[1] for line in (root / "tests" / "heavy.txt").read_text(encoding="utf-8").splitlines()}


def test_what_is_listed_exists(root: Path) -> None:
    """A test that was renamed would be in the fast tier, whatever it takes: scripts/test --record lists it anew."""
    functions = _functions(root).keys()
    assert sorted(_heavy(root) - functions - {name.partition("::")[0] for name in functions}) == []


def test_every_room_is_in_the_fast_tier(root: Path) -> None:
    heavy = _heavy(root)
    rooms: dict[str, int] = {}
    for name, left_out in _functions(root).items():
        room = name.split("/")[1]
        rooms[room] = rooms.get(room, 0) + (not left_out and name not in heavy)
    assert [room for room, count in rooms.items() if not count] == []
