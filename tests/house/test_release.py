"""What a stranger finds beside the code: versions, licences, citation, templates, images."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import yaml

from edgekit.version import __version__


def test_every_shipped_weight_has_the_licence_of_its_data(root: Path) -> None:
    text = (root / "models" / "weights" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for row in rows for name in row.split("|")[1].split(",")}
    assert named == {path.stem for path in (root / "models" / "weights").glob("*.safetensors")}
    assert all(len(row.split("|")) == 6 and row.split("|")[4].strip() for row in rows)


def test_the_version_stands_in_one_place_and_in_what_cites_it(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and citation["license"] == project["project"]["license"]


def test_the_changelog_begins_with_what_is_not_released(root: Path) -> None:
    headings = [
        line for line in (root / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("## ")
    ]
    assert headings[0] == "## Unreleased"


def test_templates_and_images_are_read(root: Path) -> None:
    for path in (root / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"]
        assert all(part["type"] == "textarea" and part["attributes"]["label"] for part in form["body"])
    container = json.loads((root / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert (root / container["postCreateCommand"].split()[0]).exists()
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (line,) = [line for line in (root / "Dockerfile").read_text(encoding="utf-8").splitlines() if "pip install" in line]
    assert set(line.split("[")[1].split("]")[0].split(",")) <= set(extras)
