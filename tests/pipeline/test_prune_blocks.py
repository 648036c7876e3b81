"""``prune --method blocks``: as far as asked, recovered, written, and into both formats."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.errors import GateError, UnsupportedError, UsageError
from edgekit.models.checkpoint import load_checkpoint
from edgekit.pipeline.prune import prune
from edgekit.pipeline.train import train
from edgekit.pruning.channels import examples
from edgekit.pruning.macs import layer_macs
from edgekit.report.prune import render_prune
from edgekit.report.text import show
from edgekit.source import resolve

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks with an identity shortcut, one without."""
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    train("cnn", data="digits", out=path, epochs=3, builder={"width": 16, "blocks": (2, 2)})
    return path


def test_pruned_recovered_and_into_both_formats(digits: Path, tmp_path: Path) -> None:
    """Blocks, then channels of what is left, then a fine-tuning taught by the whole network."""
    before = digits.read_bytes()
    result = prune(str(digits), amount=0.4, method="blocks", out=tmp_path / "b.safetensors", data="digits", epochs=3)
    document = result.document()
    assert len(document["blocks"]) == 2  # a quarter of the work each
    assert document["macs"]["removed"] >= 0.4
    assert document["quality"]["after_finetuning"] > document["quality"]["after_pruning"]
    assert document["steps"][-1]["params"]["distil_from"] == digits.name
    assert document["kept"] == {}
    assert document["sparsity"] is None
    stream = io.StringIO()
    show(render_prune(result), stream)
    assert f"blocks that left: {', '.join(document['blocks'])}" in stream.getvalue()
    assert digits.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b.safetensors"]
    prune(tmp_path / "b.safetensors", amount=0.3, out=tmp_path / "c.safetensors")
    tuned = edgekit.finetune(tmp_path / "c.safetensors", data="digits", out=tmp_path / "f.safetensors", epochs=1,
                             distil_from=digits)  # fmt: skip
    again = load_checkpoint(tmp_path / "f.safetensors")
    assert list(again.card.config["skipped"]) == document["blocks"]
    assert again.card.quality[0].value == tuned.quality.value  # type: ignore[union-attr]
    made = edgekit.export(tmp_path / "f.safetensors", to=["onnx", "tflite"], out=tmp_path, name="n")
    assert [str(row.artifact.format) for row in made.artifacts if row.parity.passed] == ["onnx", "tflite"]
    whole = edgekit.export(digits, to=["onnx"], out=tmp_path, name="w")
    sizes = [row.artifact.path.stat().st_size for row in (made.artifacts[0], *whole.artifacts)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_step_that_an_earlier_one_has_done_already(digits: Path, tmp_path: Path) -> None:
    """The first of two steps takes a whole block, which may be enough; what left in both is said."""
    made = prune(str(digits), amount=0.2, method="blocks", out=tmp_path / "p.safetensors", data="digits", epochs=2,
                 steps=2).document()  # fmt: skip
    assert len(made["blocks"]) == 1
    assert [step["name"] for step in made["steps"]] == ["train", "prune", "finetune", "finetune"]
    more = prune(str(digits), amount=0.4, method="blocks", out=tmp_path / "q.safetensors", data="digits", epochs=2,
                 steps=2)  # fmt: skip
    assert len(more.document()["blocks"]) == 2
    assert sorted(more.document()["blocks"]) == sorted(load_checkpoint(more.path).card.config["skipped"])


def test_budgets(digits: Path, tmp_path: Path) -> None:
    whole = prune(str(digits), amount=0.1, method="blocks", out=tmp_path / "p.safetensors").document()["macs"]
    target = round(0.6 * whole["before"])
    result = prune(str(digits), method="blocks", out=tmp_path / "q.safetensors", target_macs=target)
    assert result.document()["macs"]["after"] <= 0.6 * whole["before"] < whole["after"]
    with pytest.raises(GateError, match="cannot be reached"):
        prune(str(digits), method="blocks", out=tmp_path / "r.safetensors", target_macs=1)
    found = prune(str(digits), method="blocks", out=tmp_path / "r.safetensors", data="digits", epochs=0,
                  max_drop=0.9).document()  # fmt: skip
    assert found["quality"]["drop"] <= 0.9
    assert len({row["value"] for row in found["candidates"]}) <= 3  # five amounts, three blocks


def test_the_shipped_one_does_half_of_the_work_within_a_point() -> None:
    """That its accuracy is what its card says is measured in test_train."""
    whole, pruned = resolve("cnn"), resolve("cnn-pruned")
    macs = [sum(layer_macs(n.module, examples(n)).values()) for n in (whole, pruned)]
    assert macs[1] <= 0.5 * macs[0]
    (before,), (after,) = whole.card.quality, pruned.card.quality
    assert before.data == after.data == "cifar10@test"
    assert before.value - after.value <= 0.01


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"importance": "taylor"}, "whole blocks go by one of: magnitude, random"),
        ({"round_to": 16}, "blocks leave whole"),
        ({"spread": "global"}, "blocks leave whole"),
        ({"keep": ("head",)}, "--keep head is the name of no block that can leave"),
    ],
)
def test_options_of_other_methods(digits: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prune(str(digits), amount=0.2, method="blocks", out=tmp_path / "p.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


def test_networks_without_such_blocks(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no block can leave this network"):
        prune("mlp", amount=0.2, method="blocks", out=tmp_path / "p.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_command_line(digits: Path, edgekit_here: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgekit_here("prune", digits, "--method", "blocks", "--amount", "0.2", "--keep", "blocks.0",
                        "-o", tmp_path / "p.safetensors", "--json", "-")  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.document["schema"] == "edgekit.prune/1"
    assert "blocks.0" not in ended.document["blocks"]
    ended = edgekit_here("prune", "mlp", "--method", "blocks", "--amount", "0.2", "-o", tmp_path / "q.safetensors")
    assert ended.code == 3
