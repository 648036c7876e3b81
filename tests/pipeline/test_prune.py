"""``prune``: pruned, recovered, written, and exported like any other network."""

from __future__ import annotations

import io
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import edgekit
from edgekit.errors import DataError, EdgekitError, GateError, QualityError, UnsupportedError, UsageError
from edgekit.models.checkpoint import load_checkpoint
from edgekit.pipeline.prune import prune, search
from edgekit.pipeline.train import train
from edgekit.pruning import weights as prune_weights
from edgekit.pruning.macs import layer_macs
from edgekit.report.prune import render_prune
from edgekit.report.text import show
from edgekit.types import Network

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learned something of the digits."""
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    train("cnn", data="digits", out=path, epochs=3, builder={"width": 16, "blocks": (1, 1)})
    return path


def test_pruned_and_recovered(digits: Path, tmp_path: Path) -> None:
    before = digits.read_bytes()
    result = prune(str(digits), amount=0.5, out=tmp_path / "p.safetensors", data="digits", epochs=3)
    document = result.document()
    assert 0.5 <= document["macs"]["removed"] < 0.8
    assert document["parameters"]["after"] < document["parameters"]["before"]
    quality = document["quality"]
    assert quality["total"] == 359
    assert quality["after_finetuning"] > quality["after_pruning"]
    assert quality["drop"] == pytest.approx(quality["before"] - quality["after_finetuning"])
    assert [step["name"] for step in document["steps"]] == ["train", "prune", "finetune"]
    assert document["steps"][-1]["params"]["distil_from"] == digits.name
    assert digits.read_bytes() == before
    again = load_checkpoint(tmp_path / "p.safetensors")
    assert again.card.quality[0].value == quality["after_finetuning"]
    made = edgekit.export(tmp_path / "p.safetensors", to=["onnx"], out=tmp_path, name="p")
    whole = edgekit.export(digits, to=["onnx"], out=tmp_path, name="w")
    sizes = [row.artifact.path.stat().st_size for row in (*made.artifacts, *whole.artifacts)]
    assert sizes[0] < 0.85 * sizes[1]  # of this small file the graph itself is a third


def test_pruned_only(digits: Path, tmp_path: Path) -> None:
    bare = prune(str(digits), amount=0.3, out=tmp_path / "p.safetensors")
    assert bare.document()["quality"] is None
    measured = prune(str(digits), amount=0.3, out=tmp_path / "q.safetensors", data="digits", epochs=0)
    quality = measured.document()["quality"]
    assert quality["after_finetuning"] is None
    assert quality["drop"] == pytest.approx(quality["before"] - quality["after_pruning"])
    stream = io.StringIO()
    show(render_prune(measured), stream)
    assert "multiply-accumulates" in stream.getvalue()
    assert "after pruning" in stream.getvalue()
    weights = [load_checkpoint(tmp_path / f"{n}.safetensors").module.state_dict() for n in "pq"]
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"amount": 1.5}, UsageError, r"--amount is 1\.5"),
        ({"amount": 0.99}, UsageError, "cannot be reached"),
        ({"amount": float("nan")}, UsageError, "more than 0 and less than 1"),
        ({}, UsageError, "how much shall leave"),
        ({"amount": 0.3, "method": "2:4"}, UsageError, "--method 2:4 has one amount, 0.5"),
        ({"amount": 0.5, "target_macs": 1000}, UsageError, "exclude each other"),
        (
            {"method": "magnitude", "target_macs": 1000},
            UsageError,
            "save no multiply-accumulates",
        ),
        ({"target_macs": 10**9}, UsageError, "give less"),
        ({"target_macs": 10}, GateError, "cannot be reached"),
        ({"max_drop": 0.01}, UsageError, "needs --data"),
        ({"amount": 0.5, "importance": "taylor"}, UsageError, "needs --data"),
        ({"amount": 0.5, "importance": "luck"}, UsageError, "taylor, bn-scale"),
        ({"amount": 0.5, "method": "magnitude", "importance": "random"}, UsageError, "magnitude"),
        ({"amount": 0.5, "steps": 3}, UsageError, "fine-tunes after each step"),
        ({"target_latency": float("nan")}, UsageError, "--target-latency is nan; give more than 0"),
        ({"target_latency": 1, "to": "pt2"}, UsageError, "onnx, tflite"),
        ({"amount": 0.5, "method": "lottery"}, UsageError, "no pruning method"),
        ({"amount": 0.5, "epochs": 2}, UsageError, "needs --data"),
        ({"amount": 0.5, "data": "digits", "epochs": -1}, UsageError, "epochs is -1"),
        ({"amount": 0.5, "spread": "wide"}, UsageError, "even, global"),
        ({"amount": 0.5, "data": "breast-cancer"}, DataError, "breast-cancer"),
        ({"amount": 0.5, "out": "p.onnx"}, UsageError, ".safetensors"),
    ],
)
def test_refused_before_anything_is_written(
    digits: Path, tmp_path: Path, options: dict[str, Any], error: type[EdgekitError], said: str
) -> None:
    target = tmp_path / options.pop("out", "p.safetensors")
    with pytest.raises(error, match=said):
        prune(str(digits), out=target, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["channels", "magnitude"])
def test_an_exported_program_has_no_layers(digits: Path, tmp_path: Path, method: str) -> None:
    edgekit.export(digits, to=["pt2"], out=tmp_path, name="n")
    with pytest.raises(UnsupportedError, match="holds operators, not layers"):
        prune(tmp_path / "n.pt2", amount=0.3, method=method, out=tmp_path / "p.safetensors")


def test_the_same_widths_are_not_tried_twice(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five amounts, of which rounding makes fewer networks: each is fine-tuned once."""
    made: list[float] = []
    run = search.run_trial

    def counted(job: search.Job, amount: float, place: Path) -> search.PruneTrial:
        made.append(amount)
        return run(job, amount, place)

    monkeypatch.setattr(search, "run_trial", counted)
    options: dict[str, Any] = {"max_drop": 0.9, "round_to": 16}
    tried = prune(str(digits), out=tmp_path / "p.safetensors", data="digits", epochs=0, **options)
    amounts = [row["amount"] for row in tried.document()["candidates"]]
    assert len(amounts) == 5 > len(made)


def test_command_line(digits: Path, edgekit_here: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgekit_here("prune", digits, "--amount", "0.4", "-o", tmp_path / "p.safetensors", "--json", "-")
    assert ended.code == 0, ended.err
    assert ended.document["schema"] == "edgekit.prune/1"
    assert ended.document["macs"]["removed"] >= 0.4


def test_steps_go_on_where_they_were_stopped(digits: Path, tmp_path: Path) -> None:
    """Three steps take the same share each, and a finished one is not done again."""
    epochs: list[int] = []

    def stop(epoch: int, *rest: object) -> None:
        epochs.append(epoch)
        if len(epochs) == 3:  # in the second step
            raise KeyboardInterrupt

    asked = {"amount": 0.5, "data": "digits", "epochs": 7, "steps": 3, "round_to": 1}
    with pytest.raises(KeyboardInterrupt):
        prune(str(digits), out=tmp_path / "p.safetensors", progress=stop, **asked)
    assert not (tmp_path / "p.safetensors").exists()
    assert (tmp_path / "p.step1.safetensors").exists()
    done: list[int] = []
    result = prune(str(digits), out=tmp_path / "p.safetensors", progress=lambda e, *_: done.append(e), **asked)
    assert done == [2, 1, 2, 3]  # what was left of the second step, and the third
    assert [step["name"] for step in result.document()["steps"]] == ["train", *["prune", "finetune"] * 3]
    macs = [step.params for step in result.network.card.steps if step.name == "prune"]
    assert all(row["macs_after"] <= 0.5 ** ((k + 1) / 3) * macs[0]["macs_before"] for k, row in enumerate(macs))
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]
    whole = prune(str(digits), out=tmp_path / "q.safetensors", **asked)
    states = [load_checkpoint(tmp_path / f"{n}.safetensors").module.state_dict() for n in "pq"]
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    assert whole.document()["kept"] == result.document()["kept"]


@pytest.mark.parametrize("importance", ["taylor", "bn-scale", "random"])
def test_other_importances_take_other_channels(digits: Path, tmp_path: Path, importance: str) -> None:
    states = []
    for name in ("magnitude", importance):
        prune(str(digits), amount=0.5, out=tmp_path / "p.safetensors", data="digits", epochs=0, importance=name)
        states.append(load_checkpoint(tmp_path / "p.safetensors"))
    assert states[1].card.steps[-1].params["importance"] == importance
    assert any(not torch.equal(a, b) for a, b in zip(*(s.module.state_dict().values() for s in states), strict=True))


def test_a_target_of_multiply_accumulates(digits: Path, tmp_path: Path) -> None:
    whole = prune(str(digits), amount=0.1, out=tmp_path / "p.safetensors").document()["macs"]["before"]
    result = prune(str(digits), out=tmp_path / "q.safetensors", target_macs=whole // 2)
    assert result.document()["macs"]["after"] <= whole // 2


def test_a_drop_that_is_too_large_is_not_published(digits: Path, tmp_path: Path) -> None:
    before = digits.read_bytes()
    with pytest.raises(QualityError, match=r"--max-drop allows 0\.01; nothing is published"):
        prune(str(digits), amount=0.8, out=tmp_path / "p.safetensors", data="digits", epochs=0,
              max_drop=0.01)  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert digits.read_bytes() == before


def test_as_much_as_stays_within_the_drop(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"max_drop": 0.2, "round_to": 1}
    result = prune(str(digits), out=tmp_path / "p.safetensors", data="digits", epochs=0, **options)
    document = result.document()
    assert document["quality"]["drop"] <= 0.2
    tried = document["candidates"]
    assert len(tried) == 5
    kept = [row["amount"] for row in tried if row["drop"] <= 0.2]
    assert document["amount"] == max(kept)
    assert load_checkpoint(tmp_path / "p.safetensors").card.quality[0].value == document["quality"]["after_pruning"]
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]
    monkeypatch.setattr(search, "TRIALS", 1)  # the first amount tried is half of all that can leave
    with pytest.raises(GateError, match=r"the least that can leave is \d+\.\d% of the multiply-accumulates"):
        prune(str(digits), out=tmp_path / "q.safetensors", data="digits", epochs=0,
              max_drop=0.0, importance="random")  # fmt: skip


def test_a_latency_is_looked_for_on_the_device(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search, over a clock that is exact: time grows with the multiply-accumulates."""
    network = load_checkpoint(digits)
    whole = sum(layer_macs(network.module, [torch.zeros(1, 1, 8, 8)]).values())

    def clock(candidate: Network, format_: str, on: str) -> float:
        assert (format_, on) == ("onnx", "cpu")
        return sum(layer_macs(candidate.module, [torch.zeros(1, 1, 8, 8)]).values()) / whole

    monkeypatch.setattr(search, "timed", clock)
    result = prune(str(digits), out=tmp_path / "p.safetensors", target_latency=0.6, round_to=1)
    assert 0.5 < clock(result.network, "onnx", "cpu") <= 0.6  # six halvings: within 1/64 of all, and widths are whole
    with pytest.raises(GateError, match="the smallest network still takes"):
        prune(str(digits), out=tmp_path / "q.safetensors", target_latency=1e-4)
    with pytest.raises(UsageError, match="already"):
        prune(str(digits), out=tmp_path / "q.safetensors", target_latency=2)
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]


def test_a_candidate_is_timed(digits: Path) -> None:
    """By export and the bench's own clock; the least a run takes is some microseconds, a second is far too much."""
    assert 1e-3 < search.timed(load_checkpoint(digits), "onnx", "cpu") < 1e3


@pytest.mark.parametrize(("method", "share"), [("magnitude", 0.8), ("2:4", 0.5)])
def test_weights_stay_zero_through_fine_tuning_and_export(
    digits: Path, tmp_path: Path, method: str, share: float
) -> None:
    amount = share if method == "magnitude" else None
    result = prune(str(digits), amount=amount, method=method, out=tmp_path / "p.safetensors", data="digits", epochs=4)
    document = result.document()
    zeros, weights = document["sparsity"]["zeros"], document["sparsity"]["weights"]
    assert zeros / weights == pytest.approx(share, abs=0.02)  # the first layer has one input channel: 2:4 leaves it
    assert prune_weights.zeros(result.network.module) == zeros
    assert document["macs"]["removed"] == 0
    assert document["compressed_bytes"]["after"] < 0.9 * document["compressed_bytes"]["before"]
    assert document["quality"]["after_finetuning"] >= document["quality"]["after_pruning"]
    made = edgekit.export(tmp_path / "p.safetensors", to=["onnx"], out=tmp_path, name="p")
    model = onnx.load(made.artifacts[0].artifact.path)
    arrays = [onnx.numpy_helper.to_array(value) for value in model.graph.initializer]
    assert sum(int((a == 0).sum()) for a in arrays if a.ndim > 1) >= zeros
    stream = io.StringIO()
    show(render_prune(result), stream)
    assert "weights that are zero" in stream.getvalue() and "no runtime here skips zeros" in stream.getvalue()


def test_a_fine_tuning_that_diverges_leaves_nothing(digits: Path, tmp_path: Path) -> None:
    before = digits.read_bytes()
    options: dict[str, Any] = {"overrides": {"lr": 1e20, "clip": 0.0, "average": 0.0}}
    with pytest.raises(GateError, match="diverged"):
        prune(str(digits), amount=0.5, out=tmp_path / "p.safetensors", data="digits", epochs=2, **options)
    assert list(tmp_path.iterdir()) == []
    assert digits.read_bytes() == before


def test_interrupted_by_a_signal(digits: Path, edgekit_program: str, tmp_path: Path) -> None:
    """Ctrl-C in the middle of fine-tuning: 130, nothing published, and the same command goes on."""
    command = [edgekit_program, "prune", str(digits), "--amount", "0.5", "--data", "digits", "--epochs", "400"]
    running = subprocess.Popen(
        [*command, "-o", "p.safetensors"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "epoch 2 of" in line:
            break
    running.send_signal(signal.SIGINT)
    said = running.stderr.read()
    assert running.wait(60) == 130, said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["p.resume.safetensors"]


OWN = """
import numpy as np, torch
from torch import nn

def build():
    torch.manual_seed(0)
    layers = nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    return nn.Sequential(*layers), torch.zeros(1, 4), {"task": "regression"}

def values(split):
    rng = np.random.default_rng(split == "test")
    return [(row, float(row.sum())) for row in rng.standard_normal((40, 4)).astype(np.float32)]
"""


def test_other_tasks_learn_from_the_unpruned_network_where_asked(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    source, data = f"{tmp_path}/own.py:build", f"{tmp_path}/own.py:values"
    plain = prune(source, amount=0.5, out=tmp_path / "a.safetensors", data=data, epochs=1).document()
    taught = prune(source, amount=0.5, out=tmp_path / "b.safetensors", data=data, epochs=1, distil=True).document()
    assert plain["steps"][-1]["params"]["distil_from"] is None
    assert taught["steps"][-1]["params"]["distil_from"] == "own.py:build"
    assert plain["quality"]["after_pruning"] == taught["quality"]["after_pruning"]
    assert plain["quality"]["after_finetuning"] != taught["quality"]["after_finetuning"]
    with pytest.raises(UsageError, match="a task of kind 'generation' has no distillation; leave it out"):
        prune("gan", amount=0.3, out=tmp_path / "g.safetensors", data="digits", epochs=1, distil=True)
    assert not (tmp_path / "g.safetensors").exists()
