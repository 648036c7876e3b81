"""``.keras`` files: models on Keras' torch backend are torch modules, and go to every format."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgekit
from edgekit.errors import LimitError, RuntimeMissingError, SourceError, UnsupportedError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.runtime.torch import TorchModuleRunner
from edgekit.source import resolve
from edgekit.source.keras import _package

pytestmark = pytest.mark.usefixtures("kept_workers")

pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def keras() -> Any:
    """Keras as edgekit imports it."""
    try:
        return _package(Path("test.keras"))
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def convolutions(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, activation="relu")(image)
    x = layers.DepthwiseConv2D(3, padding="same")(layers.BatchNormalization()(x))
    model = keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    for weights in model.non_trainable_weights:  # statistics that are not the identity, or folding proves nothing
        weights.assign(np.random.default_rng(0).uniform(0.5, 1.5, weights.shape))
    path = tmp_path_factory.mktemp("keras") / "small.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def two(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs by name, one of them integer, an LSTM, two outputs by name."""
    layers = keras.layers
    tokens, extra = keras.Input((6,), dtype="int32", name="tokens"), keras.Input((3,), name="extra")
    h = layers.Concatenate()([layers.LSTM(8)(layers.Embedding(20, 8)(tokens)), extra])
    outputs = {"score": layers.Dense(1)(h), "kind": layers.Dense(3, activation="softmax")(h)}
    path = tmp_path_factory.mktemp("keras") / "two.keras"
    keras.Model({"tokens": tokens, "extra": extra}, outputs).save(path)
    return path


def test_names_shapes_and_values_are_those_of_keras(keras: Any, two: Path) -> None:
    network = resolve(two)
    assert [str(s) for s in network.signature.inputs] == ["extra: float32[1, 3]", "tokens: int32[1, 6]"]
    assert [str(s) for s in network.signature.outputs] == ["kind: float32[1, 3]", "score: float32[1, 1]"]
    assert network.example_inputs["tokens"].max() == 19  # a proof goes through the whole embedding
    feed = {"tokens": np.array([[1, 5, 19, 0, 3, 2]], np.int32), "extra": np.array([[1, -2, 3]], np.float32)}
    got = TorchModuleRunner(network.module, network.signature).run(feed)
    wanted = keras.saving.load_model(two)(feed)
    for name in got:
        assert np.allclose(got[name], wanted[name].detach().numpy(), atol=1e-6)  # the same kernels in another call


def test_every_format_with_an_open_batch(convolutions: Path, tmp_path: Path) -> None:
    """The names of its weights have a slash."""
    result = edgekit.export(convolutions, to=["onnx", "tflite", "pt2"], out=tmp_path, dynamic=["image:0=batch"])
    for made in result.artifacts:
        assert made.parity.passed
        with edgekit.load(made.artifact.path) as runner:
            assert runner.run({"image": np.zeros((3, 8, 8, 3), np.float32)})["output"].shape == (3, 4)


def test_two_inputs_and_an_lstm_become_onnx(two: Path, tmp_path: Path) -> None:
    (made,) = edgekit.export(two, to="onnx", out=tmp_path).artifacts
    assert made.parity.passed
    assert made.artifact.card is not None
    assert [spec.name for spec in made.artifact.card.signature.outputs] == ["kind", "score"]


def test_a_checkpoint_of_it_comes_back(convolutions: Path, tmp_path: Path) -> None:
    network = resolve(convolutions)
    save_checkpoint(network, tmp_path / "mine.safetensors")
    again = resolve(tmp_path / "mine.safetensors")
    mine, its = network.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(mine[name], its[name]) for name in mine)


def test_what_is_wrong_with_a_file_is_said(keras: Any, convolutions: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.keras"
    cut.write_bytes(convolutions.read_bytes()[:-200])
    with pytest.raises(SourceError, match=r"cannot be read as \.keras.*save or copy it again"):
        resolve(cut)
    with pytest.raises(SourceError, match="does not exist"):
        resolve(tmp_path / "nothing.keras")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.keras")
    with pytest.raises(SourceError, match=r"without a config\.json"):
        resolve(tmp_path / "arrays.keras")
    ragged = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(2)])
    ragged.save(tmp_path / "ragged.keras")
    with pytest.raises(SourceError, match="free axes besides the batch"):
        resolve(tmp_path / "ragged.keras")


def test_a_small_file_that_unpacks_to_a_large_one(keras: Any, convolutions: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(convolutions) as good, zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name) + (b" " * (70 << 20) if name == "config.json" else b""))
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_UNPACKED_RATIO"):
        resolve(tmp_path / "a.keras")


def test_a_damaged_file_leaves_nothing(
    keras: Any, convolutions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With assets: Keras unpacks them first, and leaves them where one of them is damaged."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with zipfile.ZipFile(convolutions) as good, zipfile.ZipFile(tmp_path / "a.keras", "w") as bad:
        for name in (*good.namelist(), "assets/words.txt"):
            bad.writestr(name, good.read(name) if name in good.namelist() else b"one two")
    (tmp_path / "a.keras").write_bytes((tmp_path / "a.keras").read_bytes().replace(b"one two", b"one tw!"))
    with pytest.raises(SourceError, match=r"a\.keras"):
        resolve(tmp_path / "a.keras")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_code_inside_a_file_is_not_run(keras: Any, tmp_path: Path) -> None:
    marker, place = tmp_path / "ran", str(tmp_path / "ran")
    act = keras.layers.Lambda(lambda x: (__import__("pathlib").Path(place).touch(), x)[1], output_shape=(4,))
    keras.Sequential([keras.Input((4,)), act]).save(tmp_path / "code.keras")
    marker.unlink(missing_ok=True)
    with pytest.raises(SourceError, match=r"cannot load it.*file\.py:factory"):
        resolve(tmp_path / "code.keras")
    assert not marker.exists()


def test_another_backend_in_this_process_is_said(
    keras: Any, convolutions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UnsupportedError, match=r"runs on jax in this process.*KERAS_BACKEND=torch"):
        resolve(convolutions)


def test_without_keras_it_says_how_to_get_it(convolutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgekit\[keras\]'"):
        resolve(convolutions)
