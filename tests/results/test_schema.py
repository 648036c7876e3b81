"""The published schemas are those of the dataclasses, and what the commands write keeps them."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edgekit.cli.program import run as program
from edgekit.results.schema import VERBS, schema


def check(document: Mapping[str, Any], root: Path) -> None:
    """Against the published file; a key that no schema names would be one that nobody can rely on."""
    verb = str(document["schema"]).partition(".")[2].partition("/")[0].replace("mixed-plan", "quantize")
    published = json.loads((root / "schemas" / f"{verb}.json").read_text(encoding="utf-8"))
    errors = [f"{error.json_path}: {error.message[:200]}" for error in _strict(published).iter_errors(document)]
    assert errors == []


def _strict(published: Mapping[str, Any]) -> Draft202012Validator:
    """Without the freedom to add keys, which later versions have."""
    closed = {
        name: kind if "additionalProperties" in kind else {**kind, "unevaluatedProperties": False}
        for name, kind in published["$defs"].items()
    }
    head = {name: {} for name in ("schema", "edgekit", "environment", "command", "date")}
    (*kinds,) = ({"properties": head, "$ref": kind["$ref"]} for kind in published["anyOf"])
    roots = {kind["$ref"].rpartition("/")[2] for kind in published["anyOf"]}
    for name in roots:
        closed[name] = {**closed[name], "properties": {**closed[name]["properties"], **head}}
    return Draft202012Validator({**published, "anyOf": kinds, "$defs": closed})


def test_the_published_files_are_current(root: Path) -> None:
    wanted = runpy.run_path(str(root / "scripts" / "schemas.py"))["texts"]()
    found = {file.name: file.read_text(encoding="utf-8") for file in (root / "schemas").iterdir()}
    assert found == wanted, "run scripts/schemas"


@pytest.mark.parametrize("verb", VERBS)
def test_they_are_schemas_that_say_what_a_document_is(verb: str) -> None:
    made = schema(verb)
    Draft202012Validator.check_schema(made)
    assert all(kind["description"] for kind in made["$defs"].values())
    with pytest.raises(AssertionError, match="required property"):
        assert [error.message for error in Draft202012Validator(made).iter_errors({"schema": "x"})] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped mlp as ONNX and TFLite, and the document of that export."""
    folder = tmp_path_factory.mktemp("schemas")
    to = ["--to", "onnx", "--to", "tflite", "-o", str(folder)]
    assert program(["export", "mlp", *to, "-q", "--json", str(folder / "export.json")]) == 0
    (folder / "x.csv").write_text(",".join(["1"] * 30) + "\n", encoding="utf-8")
    return folder


COMMANDS = {
    "models": "",
    "doctor": "--quick",
    "device list": "",
    "inspect": "mlp.onnx",
    "eval": "mlp.onnx --data breast-cancer",
    "verify": "mlp.tflite --against mlp",
    "run": "mlp.onnx x.csv",
    "recipe check": "mlp",
    "quantize": "mlp.tflite --scheme int8-weights --data breast-cancer --seconds 0 -o int8.tflite",
    "quantize --dry-run": "mlp.onnx --scheme int8 --data breast-cancer --for npu -o int8.onnx",
    "quantize --mixed": "mlp.onnx --scheme int8 --data breast-cancer --for npu -o plan.json",
    "prune": "mlp --method channels --amount 0.3 -o pruned.safetensors",
    "train": "mlp --data breast-cancer --epochs 1 -o trained.safetensors",
    "bench": "mlp.onnx mlp.tflite --seconds 0.2 --workers 1 --threads 1,2 --profile --roofline --probe --fresh",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_writes(
    command: str, files: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    out = tmp_path / "document.json"
    assert program([*command.split(), *COMMANDS[command].split(), "-q", "--json", str(out)]) == 0
    check(json.loads(out.read_text()), root)


def test_an_export_and_a_comparison(files: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    check(json.loads((files / "export.json").read_text()), root)
    assert program(["bench", "mlp.onnx", "--seconds", "0.1", "--fresh", "-q", "--json", str(tmp_path / "a.json")]) == 0
    out = tmp_path / "compare.json"
    assert program(["compare", *[str(tmp_path / "a.json")] * 2, "-q", "--json", str(out)]) == 0
    check(json.loads(out.read_text()), root)


def test_a_key_that_no_schema_names_is_found(files: Path, root: Path) -> None:
    document = json.loads((files / "export.json").read_text())
    document["artifacts"][0]["extra"] = 1
    with pytest.raises(AssertionError, match=r"\$"):
        check(document, root)
