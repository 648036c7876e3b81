"""A small residual network, trained on the digits, and its files in both formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import edgekit
from edgekit.artifact import open_artifact
from edgekit.data import Dataset, open_data
from edgekit.data.dataset import stratified
from edgekit.data.preprocess import feeds
from edgekit.models.checkpoint import load_checkpoint
from edgekit.pipeline.train import train
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.observe import calibrate
from edgekit.runtime import load
from edgekit.types import Artifact, Feed, Format, Network

SAMPLES = 64


@pytest.fixture(scope="session")
def digits_test() -> Dataset:
    return open_data("digits@test")


@pytest.fixture(scope="session")
def digits_folder(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of both, made once a run."""

    def make(folder: Path) -> None:
        path = folder / "digits.safetensors"
        train("cnn", data="digits", out=path, epochs=5, builder={"width": 16, "blocks": (1, 1)})
        edgekit.export(
            path, to=["onnx", "tflite"], out=folder, name="digits", channels_first=True
        )  # both take one feed

    return once("digits", make)


@pytest.fixture(scope="session")
def checkpoint(digits_folder: Path) -> Path:
    """Two stages, 8 and 16 channels; a few seconds give some 90%."""
    return digits_folder / "digits.safetensors"


@pytest.fixture
def network(checkpoint: Path) -> Network:
    return load_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def files(digits_folder: Path) -> Mapping[Format, Artifact]:
    """The network as ONNX and as TFLite, with its card."""
    artifacts = [open_artifact(digits_folder / f"digits.{suffix}") for suffix in ("onnx", "tflite")]
    return {artifact.format: artifact for artifact in artifacts}


@pytest.fixture(scope="session")
def calibrations(files: Mapping[Format, Artifact]) -> Mapping[Format, Calibration]:
    """Ranges on some training samples, for each file."""
    return {format_: calibrate_on(artifact) for format_, artifact in files.items()}


def calibrate_on(artifact: Artifact, method: str = "minmax") -> Calibration:
    with load(artifact.path) as runner:
        signature = runner.signature
    assert artifact.card is not None
    samples = stratified(open_data("digits@train"), SAMPLES)
    given = feeds(samples, signature, artifact.card.contract)
    return calibrate(artifact.path, given, signature, method=method, data=samples.label, format=artifact.format)


@pytest.fixture(scope="session")
def digit_feeds(files: Mapping[Format, Artifact], digits_test: Dataset) -> list[Feed]:
    """Some test samples as the files take them."""
    artifact = files[Format.ONNX]
    assert artifact.card is not None
    return list(feeds(digits_test, artifact.card.signature, artifact.card.contract, limit=16))
