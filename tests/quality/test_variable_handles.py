"""TFLite files with variable handles: operators without inputs or without outputs, tensors that are not numbers."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import edgekit
from edgekit.artifact import open_artifact
from edgekit.errors import UnsupportedError
from edgekit.quality.coverage import coverage, quantized_already

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture
def handles(model_files: ModuleType, tmp_path: Path) -> Path:
    path: Path = model_files.resource_tflite(tmp_path / "v.tflite")
    return path


def test_it_is_inspected(handles: Path) -> None:
    document = edgekit.inspect(handles).document()
    assert document["operators"] == {
        "ASSIGN_VARIABLE": 2, "VAR_HANDLE": 2, "ADD": 1, "CALL_ONCE": 1, "READ_VARIABLE": 1,
    }  # fmt: skip
    assert document["stateful"]
    assert document["account"] is None  # nothing is quantized: a handle is not an integer


def test_what_moves_a_variable_is_not_work(handles: Path) -> None:
    artifact = open_artifact(handles)
    found = coverage(artifact)
    assert (found.operators, found.integer_operators) == (1, 0)
    assert [left.operator for left in found.left_float] == ["ADD"]
    assert not quantized_already(artifact)


@pytest.mark.parametrize("scheme", ["fp16", "int8-weights", "int8-dynamic"])
def test_it_is_not_quantized_and_that_is_said(handles: Path, scheme: str) -> None:
    with pytest.raises(UnsupportedError, match="keeps its state in resource variables"):
        edgekit.quantize(handles, scheme=scheme, out=handles.with_name("q.tflite"), seconds=None)
    assert not handles.with_name("q.tflite").exists()
