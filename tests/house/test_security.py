"""SECURITY.md and docs/security.md: every promise names a test that exists; the table of limits is that of the code."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.limits import LIMITS, PREFIX

ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
FAULTS = ("untyped", "over time", "over 1 GB", "other faults")


@pytest.fixture(scope="module")
def page(root: Path) -> ModuleType:
    sys.path.insert(0, str(root / "scripts"))
    try:
        return importlib.import_module("fuzz_page")
    finally:
        sys.path.remove(str(root / "scripts"))


def test_every_promise_has_a_test(root: Path) -> None:
    _, _, rest = (root / "SECURITY.md").read_text(encoding="utf-8").partition("## What holds")
    rows = ROW.findall(rest.partition("\n## ")[0])[1:]
    assert len(rows) >= 1
    for promise, tests in rows:
        paths = re.findall(r"`([^`]+)`", tests)
        assert paths, f"no test stands behind {promise!r}"
        for path in paths:
            file, _, name = path.partition("::")
            text = (root / file).read_text(encoding="utf-8")
            assert not name or f"def {name}(" in text, f"{file} has no test {name}"


@pytest.mark.parametrize("name", ["inputs", "commands", "devices"])
def test_the_last_try_is_on_the_page(name: str, root: Path) -> None:
    document = (root / "docs" / "security.md").read_text(encoding="utf-8")
    text = document.partition(f"{name}: from here -->")[2].partition(f"<!-- {name}: to here")[0]
    lines = [line for line in text.splitlines() if line]
    assert re.fullmatch(rf"Made by `scripts/fuzz --{name} [1-9]\d*` on 20\d\d-\d\d-\d\d, in \d+ minutes\.", lines[0])
    assert re.search(r"\d+ cores.*; numpy \d", lines[1])
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
    counts = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    if name == "inputs":
        assert len(counts) > 20 and counts["**all**"]["inputs"] != "0"
        assert all(row[fault] == "0" for row in counts.values() for fault in FAULTS)
    else:
        assert counts.pop("faults") == {head[1]: "0"}
        assert sum(int(row[head[1]]) for row in counts.values()) == int(head[1])


def test_the_limits_are_those_of_the_code(root: Path, page: ModuleType) -> None:
    document = (root / "docs" / "security.md").read_text(encoding="utf-8")
    assert page.limits() in document, "run scripts/fuzz --write, or copy fuzz_page.limits() into docs/security.md"
    assert document.count(f"| `{PREFIX}") == len(LIMITS)
