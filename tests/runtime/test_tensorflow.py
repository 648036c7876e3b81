"""The ``tensorflow`` runner: SavedModel folders and TFLite files, all in one worker, which pays its start once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.artifact import open_artifact, sha256_file, size_bytes, write_card
from edgekit.devices.client import WorkerClient
from edgekit.devices.runner import open_worker
from edgekit.errors import ModelError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.types import Card, Format, Signature, Task, TensorSpec


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerClient]:
    with open_worker(timeout_s=120) as client:
        yield client


def load(worker: WorkerClient, path: Path, **options: object) -> Signature:
    return worker.load(path, runtime="tensorflow", threads=1, raw=False, **{"stateful": False, **options}).signature


def test_inputs_and_outputs_by_name_with_an_open_batch(worker: WorkerClient, saved_models: Path) -> None:
    signature = load(worker, saved_models / "two")
    assert signature == Signature(
        (TensorSpec("k", "int64", ("batch", 4)), TensorSpec("x", "float32", ("batch", 4))),
        (TensorSpec("logits", "float32", ("batch", 3)), TensorSpec("probs", "float32", ("batch", 3))),
    )
    x, k = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32), np.arange(20).reshape(5, 4)
    got = worker.run({"x": x, "k": k})
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert np.allclose(got["logits"], (x + k) @ weight, rtol=1e-5)  # float32 sums of 4 terms, in another order
    assert np.allclose(got["probs"].sum(1), 1)
    assert worker.run({"x": x[:1], "k": k[:1]})["logits"].shape == (1, 3)


def test_variables_that_are_written_start_anew_unless_stateful(worker: WorkerClient, saved_models: Path) -> None:
    feed = {"x": np.array([[1, 2, 3, 4]], np.float32)}
    load(worker, saved_models / "counter")
    assert [worker.run(feed)["total"].tolist() for _ in range(2)] == [[1, 2, 3, 4]] * 2
    load(worker, saved_models / "counter", stateful=True)
    assert [worker.run(feed)["total"].tolist() for _ in range(2)] == [[1, 2, 3, 4], [2, 4, 6, 8]]
    worker.reset()
    assert worker.run(feed)["total"].tolist() == [1, 2, 3, 4]


def test_what_it_does_not_run_is_said(worker: WorkerClient, saved_models: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="'text' holds string"):
        load(worker, saved_models / "words")
    with pytest.raises(UnsupportedError, match=r"'serving_default'; the folder has: first, second"):
        load(worker, saved_models / "ambiguous")
    shutil.copytree(saved_models / "two", tmp_path / "cut")
    whole = (tmp_path / "cut" / "saved_model.pb").read_bytes()
    (tmp_path / "cut" / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cut: tensorflow .* does not accept it"):
        load(worker, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "variables")
    (tmp_path / "cut" / "saved_model.pb").write_bytes(whole)
    with pytest.raises(ModelError, match=r"cut: tensorflow .* does not accept it"):
        load(worker, tmp_path / "cut")


def test_a_tflite_file(worker: WorkerClient, files: object, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")  # type: ignore[attr-defined]
    signature = load(worker, path)
    feed = {spec.name: np.ones(spec.resolved(), spec.dtype) for spec in signature.inputs}
    with edgekit.load(path, runtime="litert") as runner:
        wanted = runner.run(feed)
    got = worker.run(feed)
    assert all(np.allclose(got[name], wanted[name], rtol=1e-6) for name in wanted)  # the same kernels, another build


def test_without_tensorflow_it_says_how_to_get_it(saved_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgekit\[tensorflow\]'") as caught:
        edgekit.load(saved_models / "two")
    assert caught.value.exit_code == 4


def test_a_runtime_of_other_formats(saved_models: Path) -> None:
    with pytest.raises(UsageError, match=r"two is \.savedmodel; use one of: tensorflow"):
        edgekit.load(saved_models / "two", runtime="litert")


def test_a_folder_as_an_artifact(saved_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(saved_models / "two", folder)
    artifact = open_artifact(folder)
    assert (artifact.format, artifact.card) == (Format.SAVED_MODEL, None)
    assert size_bytes(folder) == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    before = sha256_file(folder)
    card = Card("mine", "custom", Task("classification", ("a", "b", "c")), Signature((), ()))
    write_card(folder, card)
    assert open_artifact(folder).card == card
    assert sha256_file(folder) != before
    (folder / "variables" / "variables.index").rename(folder / "variables" / "other.index")
    assert len({before, sha256_file(folder)}) == 2
    with pytest.raises(UsageError, match="card is written into it"):
        write_card(folder, card, tmp_path / "elsewhere")


@pytest.mark.parametrize(("content", "said"), [(None, "no SavedModel"), (b"", "is empty")])
def test_a_folder_that_is_not_a_saved_model(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ModelError, match=said):
        open_artifact(tmp_path)
