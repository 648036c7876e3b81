"""What must hold all over the tree: one clock, no marks of unfinished work, no paths of one machine, whole pins."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

PACKAGE = ("edgekit", "models", "converters")
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b")))
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:" + "|".join(("wo" + "rk/", "ro" + "ot/", "ho" + "me/")) + ")")
NOT_PINNED = {"edgekit", "tflite-runtime", "onnx2tf"}
"""Pinned in files of their own: constraints-tflite-runtime.txt, constraints-onnx2tf.txt."""


def _sources(root: Path, folders: tuple[str, ...] = PACKAGE) -> list[Path]:
    return [file for folder in folders for file in sorted((root / folder).rglob("*.py"))]


def test_one_clock(root: Path) -> None:
    """bench/clock.py is the only reader of the timing clock."""
    readers = {str(f.relative_to(root)) for f in _sources(root) if "perf_counter" in f.read_text(encoding="utf-8")}
    assert readers <= {"edgekit/bench/clock.py"}


def test_numbers_without_axes_keep_none(root: Path) -> None:
    """numpy's ascontiguousarray gives them one; np.asarray(…, order="C") does not."""
    sources = _sources(root, (*PACKAGE, "scripts"))
    assert [str(f.relative_to(root)) for f in sources if "ascontiguousarray" in f.read_text(encoding="utf-8")] == []


def test_nothing_is_unfinished_or_of_one_machine(root: Path) -> None:
    found = []
    for file in _tracked(root):
        text = file.read_text(encoding="utf-8", errors="replace")
        for pattern in (UNFINISHED, MACHINE_PATH):
            found += [f"{file.relative_to(root)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []


def _tracked(root: Path) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    files = [root / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and file.suffix in (".py", ".md", ".toml", ".txt", ".sh", "")]


def test_every_dependency_is_pinned(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)}
    names = {re.split(r"[\[<>=; ]", requirement, maxsplit=1)[0] for requirement in wanted}
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.partition("==")[0].lower(): line.partition("==")[2] for line in lines if not line.startswith("#")}
    assert all(pins.values()), "every line of constraints.txt is NAME==VERSION"
    assert names - NOT_PINNED - pins.keys() == set()
    assert pins["torch"] == "2.13.0"


@pytest.mark.parametrize(
    "script",
    [
        "scripts/quickstart",
        "scripts/test",
        "scripts/check",
        "scripts/bench_startup",
        "scripts/bench_transport",
        "scripts/fuzz",
        "scripts/real_networks",
        "scripts/verify_on_arm",
        "scripts/test-system-packages",
        ".ci/run",
    ],
)
def test_scripts_are_plain_sh_that_parses(script: str, root: Path) -> None:
    path = root / script
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(path)], check=True)


def test_patterns_can_match() -> None:
    assert UNFINISHED.search("# TO" + "DO later")
    assert MACHINE_PATH.search("see /ho" + "me/me/x")
    assert not MACHINE_PATH.search("python:/path/to/python, ../shared/data")
