"""A SavedModel folder from end to end: TFLite by TensorFlow's own converter, proved against TensorFlow's own run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.artifact import library_versions
from edgekit.converters.base import ConversionOptions
from edgekit.converters.tensorflow_to_tflite import TensorflowToTflite
from edgekit.converters.torch_to_onnx import TorchToOnnx
from edgekit.converters.torch_to_pt2 import TorchToPt2
from edgekit.environments import FLEX
from edgekit.errors import ModelError, RuntimeMissingError, SourceError, UnsupportedError
from edgekit.pipeline.export import ExportResult
from edgekit.quality.contents import file_signature, operators
from edgekit.source import resolve
from edgekit.source.foreign import require_torch
from edgekit.types import Artifact, Format, Network

pytestmark = pytest.mark.usefixtures("kept_workers")

FLEX_HERE = any(
    tuple(map(int, found.split(".")[:2])) < (2, 20)
    for found in library_versions("tensorflow", "tensorflow-cpu").values()
)


@pytest.fixture(scope="module")
def exported(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return edgekit.export(saved_models / "two", to="tflite", out=tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def network(saved_models: Path) -> Iterator[Network]:
    yield resolve(saved_models / "two")


def test_it_becomes_a_proved_tflite_file(exported: ExportResult) -> None:
    (made,) = exported.artifacts
    assert made.parity.passed
    assert {"random", "batch=2", "batch=5"} <= {case.kind for case in made.parity.cases}
    card = made.artifact.card
    assert card is not None
    assert [str(spec) for spec in card.signature.inputs] == ["k: int64[batch, 4]", "x: float32[batch, 4]"]
    assert any(name.startswith("tensorflow") for name in card.steps[-1].versions)
    feed = {"x": np.ones((3, 4), np.float32), "k": np.ones((3, 4), np.int64)}
    with edgekit.load(made.artifact.path) as runner:
        assert runner.run(feed)["probs"].shape == (3, 3)


def test_a_changed_weight_trips_the_proof(exported: ExportResult, saved_models: Path, tmp_path: Path) -> None:
    content = bytearray(exported.artifacts[0].artifact.path.read_bytes())
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    where = content.find(weight.T.tobytes())  # a fully connected layer has it transposed
    assert where >= 0
    content[where : where + 4] = np.float32(9).tobytes()
    changed = tmp_path / "changed.tflite"
    changed.write_bytes(content)
    result = edgekit.verify(changed, against=saved_models / "two")
    assert not result.passed
    assert "does not compute what" in result.reason


def test_other_formats_are_refused(network: Network) -> None:
    for converter in (TorchToOnnx(), TorchToPt2()):
        with pytest.raises(UnsupportedError, match=f"cannot be converted to {converter.format}: use --to tflite"):
            converter.suited(network)


@pytest.mark.slow
def test_what_cannot_be_converted_names_the_operator(saved_models: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="TFLite has no operator for Igamma"):
        edgekit.export(saved_models / "gamma", to="tflite", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_flex_is_proved_where_the_variable_says(
    saved_models: Path, flex_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = f"python:{flex_python}"
    monkeypatch.setenv(FLEX.variable, flex_python)
    (made,) = edgekit.export(
        saved_models / "gaussian", to="tflite", out=tmp_path, data="digits", layout="NHWC"
    ).artifacts
    assert made.parity.passed
    assert {"sample", "batch=5"} <= {case.kind for case in made.parity.cases}
    assert any("Flex: FlexMatrixTriangularSolve" in note for note in made.notes)
    card = made.artifact.card
    assert card is not None and card.steps[-1].params["proved_on"] == device
    with pytest.raises(RuntimeMissingError, match=r"\(FlexMatrixTriangularSolve\)"):
        edgekit.load(made.artifact.path, runtime="litert")


@pytest.mark.slow
@pytest.mark.skipif(FLEX_HERE, reason="this TensorFlow brings Flex operators")
def test_flex_that_cannot_be_proved_is_refused(
    saved_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FLEX.variable, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # no .venv-flex beside it
    told = rf"proved on cpu, so nothing was published: it needs .*\(FlexCholesky\), which tensorflow.*{FLEX.variable}="
    with pytest.raises(UnsupportedError, match=told):
        edgekit.export(saved_models / "root", to="tflite", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_options_that_cannot_be_honoured_are_refused(network: Network, saved_models: Path, tmp_path: Path) -> None:
    for options, name in (
        (ConversionOptions({"x": {0: "n"}}), "--dynamic"),
        (ConversionOptions(channels_last=True), "--channels-last"),
    ):
        with pytest.raises(UnsupportedError, match=f"{name} cannot be honoured"):
            TensorflowToTflite().check(network, options)
    with pytest.raises(UnsupportedError, match="not prune it"):
        require_torch(network, "prune")
    with pytest.raises(UnsupportedError, match="savedmodel model; export it first"):
        edgekit.quantize(saved_models / "two", scheme="int8-weights", out=tmp_path / "q.tflite", seconds=0)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(SourceError, match="is a folder that edgekit does not recognise"):
        edgekit.export(tmp_path, to="tflite", out=tmp_path / "out")


def test_inspect_and_its_contents_need_no_tensorflow(saved_models: Path, tmp_path: Path) -> None:
    document = edgekit.inspect(saved_models / "two").document()
    assert document["format"] == "savedmodel"
    assert document["operators"] == {"AddV2": 1, "Cast": 1, "MatMul": 1, "Softmax": 1}
    signature = file_signature(Artifact(saved_models / "two", Format.SAVED_MODEL))
    assert [str(spec) for spec in signature.inputs] == ["k: int64[batch, 4]", "x: float32[batch, 4]"]
    shutil.copytree(saved_models / "two", tmp_path / "cut")
    graph = tmp_path / "cut" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-40])
    with pytest.raises(ModelError, match="cut short"):
        operators(Artifact(tmp_path / "cut", Format.SAVED_MODEL))


@pytest.mark.slow
def test_bench_and_run_take_the_folder(saved_models: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((1, 4), np.float32), k=np.ones((1, 4), np.int64))
    answer = edgekit.run(saved_models / "two", str(tmp_path / "in.npz")).answers[0]
    assert answer.outputs["probs"].shape == (1, 3)
    document = edgekit.bench(saved_models / "two", seconds=0.2, workers=1).document()
    (row,) = document["results"]
    assert (row["runtime"], row["format"], row["batch"]) == ("tensorflow", "savedmodel", 1)
    assert row["samples"] > 10
