"""The public surface: its names are pinned, nothing heavy is imported before a name is used."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit

PUBLIC = [
    "__version__", "bench", "compare", "doctor", "evaluate", "export", "finetune", "inspect", "load", "models",
    "optimize", "package", "prune", "quantize", "recipe", "report", "run", "train", "verify",
]  # fmt: skip
HEAVY = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "ai_edge_litert",
    "litert_torch",
    "rich",
    "sklearn",
    "PIL",
)


def _python(code: str, cwd: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True).stdout


def test_public_names_are_pinned() -> None:
    assert edgekit.__all__ == PUBLIC


@pytest.mark.parametrize("name", [n for n in PUBLIC if not n.startswith("__") and n != "recipe"])
def test_every_public_name_can_be_called_and_is_described(name: str) -> None:
    found = getattr(edgekit, name)
    assert callable(found)
    verb = (
        found if name == "load" else getattr(importlib.import_module(f"edgekit.pipeline.{edgekit.VERBS[name]}"), name)
    )
    assert (verb.__doc__ or "").strip()


@pytest.mark.parametrize("name", ["check", "show", "run"])
def test_recipe_is_a_module_of_three_verbs(name: str) -> None:
    assert callable(getattr(edgekit.recipe, name))
    assert (getattr(edgekit.recipe, name).__doc__ or "").strip()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = edgekit.recipe.nonsense  # type: ignore[attr-defined]


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = edgekit.nonsense  # type: ignore[attr-defined]


def test_rooms_named_like_verbs_are_both(tmp_path: Path) -> None:
    """``edgekit.bench`` is a room and a verb, whichever is used first."""
    code = (
        "import edgekit{first}; assert callable(edgekit.bench)\n"
        "import edgekit.bench.clock; print(edgekit.bench.clock.__name__)"
    )
    for first in ("", ", edgekit.bench.clock", "; from edgekit import bench"):
        assert _python(code.format(first=first), tmp_path) == "edgekit.bench.clock\n"


def test_import_is_light(tmp_path: Path) -> None:
    loaded = _python("import edgekit, sys; print(*sys.modules)", tmp_path).split()
    assert "edgekit" in loaded
    assert not set(HEAVY) & set(loaded)


def test_help_is_light(tmp_path: Path, edgekit_program: str) -> None:
    """``edgekit --help`` in the very program the user starts: none of the heavy packages is imported."""
    code = (
        "import runpy, sys; sys.argv = ['edgekit', '--help']\n"
        f"try: runpy.run_path({edgekit_program!r}, run_name='__main__')\n"
        "except SystemExit as leaving: assert not leaving.code, leaving.code\n"
        "print('LOADED', *sys.modules)"
    )
    text, _, loaded = _python(code, tmp_path).partition("LOADED")
    assert "Make:" in text
    assert "click" in loaded.split()
    assert not set(HEAVY) & set(loaded.split())


@pytest.mark.parametrize("folder", ["models", "converters"])
def test_folder_is_not_a_package_of_its_own(folder: str, root: Path) -> None:
    """``import models`` from the root would make a second copy of every module."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"import edgekit.{folder}" in done.stderr
