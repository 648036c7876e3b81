"""``optimize`` on a stranger's network: what is published is what the recipes make, and holds in the bare runtimes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

import edgekit
from edgekit.artifact import sha256_file
from edgekit.errors import DataError, UsageError
from tests.conftest import Ended

TRIALS = 4


def words(own: Path, out: Path, *more: str) -> list[str]:
    """The command line."""
    plain = ["--trials", str(TRIALS), "--epochs", "1", "--seconds", "0.3", "--limit", "60", "--max-drop", "0.1"]
    runtimes = ["--runtimes", "onnxruntime,litert", "--json", "-", "-q"]
    return ["optimize", f"{own / 'net.py'}:build", "--data", f"npz:{own / 'data.npz'}", "-o", str(out), *plain,
            *runtimes, *more]  # fmt: skip


@pytest.fixture(scope="session")
def done(own: Path, edgekit_program: str, once: Callable[[str, Callable[[Path], object]], Path]) -> tuple[Any, Path]:
    """The document of a whole study, and its folder."""

    def make(folder: Path) -> None:
        ended = subprocess.run([edgekit_program, *words(own, folder)], capture_output=True, text=True, timeout=900)
        assert ended.returncode == 0, ended.stderr

    folder = once("search-done", make)
    text = (folder / "optimize.json").read_text()
    return json.loads(text.replace(json.loads(text)["folder"], str(folder))), folder  # it was made under another name


def answers(path: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The classes that a bare runtime gives."""
    if path.endswith(".onnx"):
        session = onnxruntime.InferenceSession(path)
        name = session.get_inputs()[0].name
        return np.array([session.run(None, {name: row[None]})[0][0].argmax() for row in values])
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for row in values:
        interpreter.set_tensor(source, row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(target)[0].argmax())
    return np.array(found)


def test_the_document_keeps_the_contract(done: tuple[Any, Path]) -> None:
    document, out = done
    assert document["schema"] == "edgekit.optimize/1" and len(document["trials"]) == TRIALS
    wanted = {"path", "recipe", "quality", "latency_ms", "bytes", "peak_memory_bytes", "device", "runtime"}
    assert document["front"] and all(wanted <= set(row) for row in document["front"])
    for row in document["front"]:
        assert Path(row["path"]).is_absolute() and Path(row["path"]).parent == out / "front"
        assert Path(row["recipe"]).is_file() and sha256_file(row["path"]) == row["sha256"]
        assert Path(row["path"]).stat().st_size == row["bytes"]
    best = document["recommended"]
    assert best["path"] in [row["path"] for row in document["front"]] and best["reason"]


def test_quality_is_what_the_bare_runtimes_give(done: tuple[Any, Path], own: Path) -> None:
    from edgekit.data.dataset import open_data

    document, _ = done
    test = open_data(f"npz:{own / 'data.npz'}@test")
    values = np.stack([np.asarray(row) for row in next(iter(test.arrays.values()))])
    for row in document["front"]:
        assert row["quality"] == pytest.approx(np.mean(answers(row["path"], values) == test.labels), abs=1e-9)


def test_a_compressed_file_is_recommended_and_keeps_the_limit(done: tuple[Any, Path]) -> None:
    best = done[0]["recommended"]
    assert not best["baseline"] and best["drop"] <= 0.1
    assert best["verdict"] in ("faster", "same") and not best["limits"]


def test_the_recipe_makes_the_file_again_bit_for_bit(
    done: tuple[Any, Path], edgekit_cli: Callable[..., Ended], tmp_path: Path
) -> None:
    trained = [row for row in done[0]["front"] if "epoch" in row["name"]]
    for number, row in enumerate([done[0]["recommended"], *trained[:1]]):
        ended = edgekit_cli("recipe", "run", row["recipe"], "-o", f"again{number}")
        assert ended.code == 0, ended.err
        hashes = {path.name: sha256_file(path) for path in (tmp_path / f"again{number}").glob(f"*.{row['format']}")}
        assert row["sha256"] in hashes.values()


def test_the_same_command_makes_nothing_again(
    done: tuple[Any, Path], own: Path, edgekit_cli: Callable[..., Ended], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done[1], copy)
    ended = edgekit_cli(*words(own, copy))
    assert ended.code == 0, ended.err
    kept, before = ([row | {"on_front": None} for row in found["trials"]] for found in (ended.document, done[0]))
    assert kept == before  # the front alone is timed anew


def test_limits_that_nothing_keeps_publish_nothing(
    done: tuple[Any, Path], own: Path, edgekit_cli: Callable[..., Ended], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done[1], copy)
    shutil.rmtree(copy / "front")
    ended = edgekit_cli(*words(own, copy, "--max-bytes", "100"))
    assert ended.code == 1 and "100 are allowed" in ended.err and not (copy / "front").exists()
    assert ended.document["recommended"] is None and ended.document["passed"] is False


def test_what_makes_no_sense_is_refused_before_any_work(own: Path, tmp_path: Path) -> None:
    plain = {"data": f"npz:{own / 'data.npz'}", "out": tmp_path / "out"}
    source = f"{own / 'net.py'}:build"
    with pytest.raises(UsageError, match="emulated and has no time"):
        edgekit.optimize(source, on="emulator:cortex-a72", **plain)
    with pytest.raises(UsageError, match="give one"):
        edgekit.optimize(source, max_drop=0.1, min_snr=20, **plain)
    with pytest.raises(UsageError, match="give one"):
        edgekit.optimize(source, jobs=2, workers="ray", **plain)
    assert not (tmp_path / "out").exists()


def test_other_classes_are_refused_before_any_trial(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cnn has 10 classes \(airplane.*finetune to these classes first"):
        edgekit.optimize("cnn", data="digits", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_quantized_file_is_no_source(done: tuple[Any, Path], own: Path, edgekit_cli: Callable[..., Ended]) -> None:
    best = done[0]["recommended"]
    ended = edgekit_cli("optimize", best["path"], "--data", f"npz:{own / 'data.npz'}", "-o", "out")
    assert ended.code == 3 and "quantized already" in ended.err


def test_a_file_without_labels_is_judged_by_likeness(
    done: tuple[Any, Path], own: Path, edgekit_cli: Callable[..., Ended], tmp_path: Path
) -> None:
    _, out = done
    (source,) = (out / ".study" / "files" / "float-onnx").glob("float.onnx")
    with np.load(own / "data.npz") as file:
        (name,) = set(file.files) - {"labels"}
        np.savez(tmp_path / "bare.npz", **{name: file[name][:200]})
    ended = edgekit_cli(
        "optimize", source, "--data", "npz:bare.npz", "--trials", "2", "--seconds", "0.3", "--runtimes", "onnxruntime",
        "-o", "out", "--json", "-", "-q",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    found = ended.document
    assert found["metric"] == "likeness" and found["recommended"]["drop"] <= 0.1
    assert {row["format"] for row in found["front"]} == {"onnx"}
