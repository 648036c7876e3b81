"""``prune``: pruned, recovered, written, and exported like any other network."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from edgekit.models.checkpoint import load_checkpoint

import edgekit
from edgekit.errors import DataError, EdgekitError, UnsupportedError, UsageError
from edgekit.pipeline.prune import PruneOptions, prune
from edgekit.pipeline.train import train
from edgekit.report.prune import render_prune
from edgekit.report.text import show


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
    assert document["steps"][-1]["params"]["distil_from"] == str(digits)
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
        ({"amount": 0.5, "method": "magnitude"}, UnsupportedError, "there is: channels"),
        ({"amount": 0.5, "method": "2:4"}, UnsupportedError, "there is: channels"),
        ({"amount": 0.5, "method": "lottery"}, UsageError, "no pruning method"),
        ({"amount": 0.5, "epochs": 2}, UsageError, "needs --data"),
        ({"amount": 0.5, "data": "digits", "epochs": -1}, UsageError, "epochs is -1"),
        ({"amount": 0.5, "options": PruneOptions(spread="wide")}, UsageError, "even, global"),
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


def test_command_line(digits: Path, edgekit_cli: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgekit_cli("prune", digits, "--amount", "0.4", "-o", tmp_path / "p.safetensors", "--json", "-")
    assert ended.code == 0, ended.err
    assert ended.document["schema"] == "edgekit.prune/1"
    assert ended.document["macs"]["removed"] >= 0.4
