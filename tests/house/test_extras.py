"""A message that advises an extra of edgekit names one that brings the package that is missing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from edgekit.cli.program import PACKAGES as BY_MODULE
from edgekit.pipeline.doctor import PACKAGES as BY_NAME

ADVICE = re.compile(r"edgekit\[([\w,-]+)\]")
OF_MODULE = {"PIL": "pillow", "sklearn": "scikit-learn", "torch_pruning": "torch-pruning", "yaml": "pyyaml"}
WITHOUT_ADVICE = {"flatbuffers", "google", "huggingface_hub", "litert_converter", "markupsafe", "sympy"}
"""What comes with a package that the table has."""
APART = {"executorch", "onnx2tf", "torchao"}
"""Imported by workers in environments of their own."""


def brought_by(extras: dict[str, list[str]], name: str) -> set[str]:
    """Packages of an extra, those of the extras it is made of included."""
    found: set[str] = set()
    for requirement in extras[name]:
        inner = ADVICE.match(requirement)
        for part in inner[1].split(",") if inner else ():
            found |= brought_by(extras, part)
        found.add(re.split(r"[<>=;\[ ]", requirement)[0])
    return found


def messages(root: Path) -> Iterator[str]:
    """Every text of the code that advises an extra."""
    for folder in ("edgekit", "converters", "models"):
        for file in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and ADVICE.search(node.value):
                    yield node.value


def test_every_package_that_may_be_missing_has_its_extra(root: Path) -> None:
    """Exit 4 and the command that brings it, where an import fails; another name is called an internal error."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always = {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]} | {"edgekit"}
    known = always | WITHOUT_ADVICE | APART | set(BY_MODULE) | sys.stdlib_module_names
    asked = {"pandas"}  # of the user's own choice, and named where it is needed
    for folder in ("edgekit", "converters", "models"):
        for file in (root / folder).rglob("*.py"):
            assert set(imported(file)) <= known | asked, file


def imported(file: Path) -> Iterator[str]:
    """Top-level modules that a file imports, in functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_advised_extras(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    packages = {package for name in extras for package in brought_by(extras, name)} - {"edgekit"}
    checked = set()
    for text in messages(root):
        words = re.findall(r"[\w-]+", ADVICE.sub("", text))
        named = packages.intersection(words)
        for extra in ADVICE.findall(text):
            brought = set().union(*(brought_by(extras, part) for part in extra.split(",")))
            assert named <= brought, text
            checked |= named
    assert {"litert-torch", "ai-edge-quantizer", "scikit-learn"} <= checked


def test_advised_extras_of_tables(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for module, extra in BY_MODULE.items():
        package = OF_MODULE.get(module, module.replace("_", "-"))
        assert any(name.startswith(package) for name in brought_by(extras, extra)), (module, extra)
    for package, (_, extra) in BY_NAME.items():
        assert any(name.startswith(package) for name in brought_by(extras, extra)), (package, extra)
