from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.bench.stages import LEAST_RUNS, STAGES, answer, time_stages
from edgekit.errors import DataError
from edgekit.runtime import load
from edgekit.types import Card, Signature, Task


def test_every_stage_of_every_run(files: ModuleType, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    for path in (files.dense_tflite(tmp_path / "d.tflite"), files.dense_onnx(tmp_path / "d.onnx")):
        with load(path) as runner:
            found = time_stages(runner, str(tmp_path / "x.npz"), 0.05)
            assert tuple(found) == STAGES
            assert len({samples.size for samples in found.values()}) == 1
            assert found["run"].size >= LEAST_RUNS
            assert all((samples >= 0).all() for samples in found.values())
            with pytest.raises(DataError):
                time_stages(runner, str(tmp_path / "missing.npz"), 0.05)


def test_the_parts_of_a_run_make_the_run(files: ModuleType, tmp_path: Path) -> None:
    """Integer inputs and outputs included: quantized on the way in, real numbers on the way out."""
    feed = {"image": np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)}
    with load(files.conv_int8_tflite(tmp_path / "c.tflite")) as runner:
        copy_in, run, copy_out = runner.staged(feed)
        copy_in()
        run()
        assert (copy_out()["features"] == runner.run(feed)["features"]).all()


def test_state_starts_anew(files: ModuleType, tmp_path: Path) -> None:
    feed = {"x": np.ones((1, 3, 2), np.float32)}
    with load(files.recurrent_tflite(tmp_path / "r.tflite")) as runner:
        wanted = runner.run(feed)["y"]
        for _ in range(2):
            copy_in, run, copy_out = runner.staged(feed)
            copy_in()
            run()
            assert (copy_out()["y"] == wanted).all()


def test_answers_by_task() -> None:
    outputs = {"y": np.array([[0.0, 2.0, 1.0]])}

    def card(task: Task) -> Card:
        return Card("n", "custom", task, Signature((), ()))

    best, probability = answer(outputs, card(Task("classification")))
    assert best == 1
    assert probability == pytest.approx(np.exp(2) / (1 + np.exp(2) + np.exp(1)))
    assert answer(outputs, card(Task("forecasting", params={"mean": 1, "std": 10}))).tolist() == [1, 21, 11]
    assert answer(outputs, None).tolist() == [0, 2, 1]
