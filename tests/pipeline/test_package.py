"""``package``: what is refused, all or nothing, what the result says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit import registry
from edgekit.artifact import read_card, write_card
from edgekit.errors import ModelError, ParityError, UnsupportedError, UsageError
from edgekit.options.base import option_fields
from edgekit.pipeline.doctor import TINY_ONNX
from edgekit.pipeline.steps import StepKind
from edgekit.results.package import PackageResult
from edgekit.types import Card, InputSpec, SelfTest, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")
LABELS = ("ant", "bee", "cat", "dog")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = Relu(x) of a table of four columns, a classifier; the self-test is Relu of seeded values."""
    from edgekit.data.seeded import seeded_feed

    path = tmp_path / "m.onnx"
    path.write_bytes(TINY_ONNX)
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
    contract = {"x": InputSpec("table", mean=(1.0,) * 4, std=(1.0,) * 4)}
    wanted = tuple(max(float(v), 0.0) for v in seeded_feed(signature, contract, 0)["x"].ravel())
    task = Task("classification", LABELS, "accuracy")
    write_card(path, Card("insects", "custom", task, signature, contract, selftest=SelfTest(0, {"y": wanted}, 1e-6)))
    return path


def changed(model: Path, **facts: Any) -> Path:
    card = read_card(model)
    assert card is not None
    write_card(model, replace(card, **facts))
    return model


def test_the_folder_and_its_manifest(model: Path, tmp_path: Path, root: Path) -> None:
    result = edgekit.package(model, for_="python", out=tmp_path / "app")
    manifest = json.loads((tmp_path / "app" / "package.json").read_text())
    assert manifest["schema"] == "edgekit.package/1" and manifest["for"] == "python"
    listed = {row["path"]: row["sha256"] for row in manifest["files"]}
    there = {str(f.relative_to(tmp_path / "app")): f for f in (tmp_path / "app").rglob("*") if f.is_file()}
    assert {*listed, "package.json"} == {*there}
    assert all(hashlib.sha256(there[name].read_bytes()).hexdigest() == digest for name, digest in listed.items())
    assert result.selftest.passed and result.preprocessing == {"x": "table"}
    assert (tmp_path / "app" / "model.onnx").read_bytes() == model.read_bytes()
    document = {"schema": "edgekit.package/1", "edgekit": "0", "environment": {}, **result.document()}
    jsonschema.validate(document, json.loads((root / "schemas" / "package.json").read_text()))
    assert document["for"] == "python"


@pytest.mark.parametrize("content", ["nothing", "a file", "no package"])
def test_a_folder_that_is_not_empty(content: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "app"
    if content == "a file":
        out.write_text("mine")
        with pytest.raises(UsageError):
            edgekit.package(model, for_="python", out=out)
        assert out.read_text() == "mine"
        return
    out.mkdir()
    if content == "no package":
        (out / "mine.txt").write_text("mine")
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="is not empty"):
                edgekit.package(model, for_="python", out=out, overwrite=overwrite)
        assert [file.name for file in out.iterdir()] == ["mine.txt"]
        return
    edgekit.package(model, for_="python", out=out)
    (out / "more.txt").write_text("of the first")
    with pytest.raises(UsageError, match="--overwrite"):
        edgekit.package(model, for_="python", out=out)
    edgekit.package(model, for_="python", out=out, overwrite=True)
    assert not (out / "more.txt").exists()


def test_nothing_is_left_of_one_that_failed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edgekit.package(model, for_="python", out=tmp_path / "app")
    before = {file.name for file in tmp_path.iterdir()}

    def broken(*_: object) -> None:
        raise UnsupportedError("not today")

    monkeypatch.setattr("edgekit.packaging.python.readme", broken)
    with pytest.raises(UnsupportedError):
        edgekit.package(model, for_="python", out=tmp_path / "app", overwrite=True)
    with pytest.raises(UnsupportedError):
        edgekit.package(model, for_="python", out=tmp_path / "other")
    assert {file.name for file in tmp_path.iterdir()} == before
    assert (tmp_path / "app" / "package.json").is_file()


def test_a_file_without_a_card(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(TINY_ONNX)
    with pytest.raises(ModelError, match="has no card"):
        edgekit.package(tmp_path / "m.onnx", for_="python", out=tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_a_card_without_a_selftest(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no self-test"):
        edgekit.package(changed(model, selftest=None), for_="python", out=tmp_path / "app")


def test_a_file_that_computes_something_else(model: Path, tmp_path: Path) -> None:
    changed(model, selftest=SelfTest(0, {"y": (5.0,)}, 1e-3))
    with pytest.raises(ParityError, match="what its card promises"):
        edgekit.package(model, for_="python", out=tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_labels(model: Path, tmp_path: Path) -> None:
    changed(model, task=Task("classification", (), "accuracy"))
    with pytest.raises(UsageError, match="--labels FILE with 4 lines"):
        edgekit.package(model, for_="python", out=tmp_path / "app")
    names = tmp_path / "labels.txt"
    names.write_text("a\nb\nc\n")
    with pytest.raises(UsageError, match="has 3 labels"):
        edgekit.package(model, for_="python", labels=names, out=tmp_path / "app")
    names.write_text("a\nb\nc\nd\n")
    edgekit.package(model, for_="python", labels=names, out=tmp_path / "app")
    assert (tmp_path / "app" / "labels.txt").read_text() == "a\nb\nc\nd\n"


def test_formats_and_targets(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no target of package is called 'watch'; there are: python, "):
        edgekit.package(model, for_="watch", out=tmp_path / "app")
    with pytest.raises(UnsupportedError, match=r"--for mcu takes \.tflite"):
        edgekit.package(model, for_="mcu", out=tmp_path / "app")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(UnsupportedError, match="SavedModel folder"):
        edgekit.package(tmp_path / "s", for_="python", out=tmp_path / "app")


def test_a_kind_that_a_target_has_not(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.packaging.cpp.Cpp.kinds", ("image",))
    with pytest.raises(UnsupportedError, match=r"no preprocessing of table in C\+\+ \(it has: image\)"):
        edgekit.package(model, for_="cpp", out=tmp_path / "app")


def test_exit_codes(model: Path, tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    (tmp_path / "bare.onnx").write_bytes(TINY_ONNX)
    for given, code in (("bare.onnx", 3), ("missing.onnx", 3), ("m.onnx", 0)):
        done = edgekit_here("package", tmp_path / given, "--for", "python", "-o", tmp_path / f"app-{code}")
        assert done.code == code, done
        assert code == 0 or "Traceback" not in done.err
    assert edgekit_here("package", model, "--for", "python", "-o", tmp_path / "app-0").code == 2


def test_a_step_of_recipes(model: Path, tmp_path: Path) -> None:
    step = registry.entry("steps", "package", StepKind, "step")
    words = {one.word: one.option for one in option_fields(step.options)}
    assert (words["model"].takes, words["out"].gives, words["out"].names) == ("model", "", "output")
    result = step.run(model=model, for_="python", out=tmp_path / "app")
    assert isinstance(result, PackageResult) and (tmp_path / "app" / "model.py").is_file()


def test_a_file_that_takes_several_samples_is_refused(tmp_path: Path) -> None:
    """Its program would fail on the first picture of an app."""
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=(2, 4))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    signature = Signature((TensorSpec("x", "float32", (2, 4)),), (TensorSpec("y", "float32", (2, 4)),))
    contract = {"x": InputSpec("table", mean=(1.0,) * 4, std=(1.0,) * 4)}
    task = Task("classification", LABELS, "accuracy")
    write_card(path, Card("two", "custom", task, signature, contract, selftest=SelfTest(0, {}, 1e-6)))
    with pytest.raises(UnsupportedError, match=r"takes 2 samples a run .x., and an app has one"):
        edgekit.package(path, for_="python", out=tmp_path / "app")
    assert not (tmp_path / "app").exists()
