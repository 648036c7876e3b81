"""The wheel holds every module, the weights and the type marker, and installs nothing but ``edgekit``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

MAPPED = {"edgekit": "edgekit", "models": "edgekit/models", "converters": "edgekit/converters"}


def test_every_package_is_listed(root: Path) -> None:
    """An unlisted package works in an editable installation and is missing from the wheel."""
    listed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = [
        ".".join((place, *file.parent.relative_to(root / folder).parts)).replace("/", ".")
        for folder, place in MAPPED.items()
        for file in (root / folder).rglob("__init__.py")
    ]
    assert sorted(found) == sorted(listed)


def test_wheel_contents(root: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, clone)
    for folder in MAPPED:
        shutil.copytree(root / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(tmp_path),
        ".",
    ]
    done = subprocess.run([sys.executable, *command], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
    assert held == _wanted(root)
    assert "licenses/LICENSE" in metadata
    assert wheel.name.endswith("-py3-none-any.whl")


def _wanted(root: Path) -> set[str]:
    wanted = {"edgekit/py.typed"}
    for folder, place in MAPPED.items():
        wanted |= {f"{place}/{file.relative_to(root / folder)}" for file in (root / folder).rglob("*.py")}
    data = [*(root / "models/weights").glob("*.safetensors"), *(root / "models/recipes").glob("*.toml")]
    files = [*(root / "edgekit/packaging/templates").glob("*/*"), *(root / "edgekit/report/page/templates").glob("*")]
    templates = {str(file.relative_to(root)) for file in files}
    return wanted | {f"edgekit/{file.relative_to(root)}" for file in data} | templates


def test_comparison_can_fail(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/new.py").touch()
    assert _wanted(tmp_path) == {"edgekit/py.typed", "edgekit/models/new.py"}
