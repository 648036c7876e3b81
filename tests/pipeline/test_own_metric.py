"""``quantize`` with a metric and a meaning of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from edgekit.artifact import open_artifact
from edgekit.errors import DataError, UsageError
from edgekit.pipeline.schemes import quantize

DATA = "breast-cancer"
pytestmark = pytest.mark.usefixtures("kept_workers")


def test_a_metric_and_a_meaning_of_ones_own(mlp: dict[str, Path], tmp_path: Path) -> None:
    """A file without a card whose columns ``io.toml`` standardises: its drop is that of the user's function."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def missed(outputs, targets):\n    (scores,) = outputs.values()\n"
        "    return float((scores.argmax(axis=1) != targets).mean()) + 0.5\nmissed.lower_is_better = True\n"
    )
    card = open_artifact(mlp["onnx"]).card
    assert card is not None
    ((name, rule),) = card.contract.items()
    meaning = tmp_path / "io.toml"
    meaning.write_text(f"[inputs.{name}]\nkind = 'table'\nmean = {list(rule.mean)}\nstd = {list(rule.std)}\n")
    model = onnx.load(str(mlp["onnx"]))
    del model.metadata_props[:]  # its card
    bare = tmp_path / "bare.onnx"
    onnx.save(model, str(bare))
    asked: dict[str, Any] = {
        "scheme": "int8",
        "data": DATA,
        "metric": f"{mine}:missed",
        "io_file": meaning,
        "seconds": 0,
    }
    quality = quantize(bare, out=tmp_path / "q.onnx", max_drop=0.05, **asked).document()["quality"]
    assert quality["metric"] == "missed" and 0.5 <= quality["before"] < 0.6
    plain = quantize(mlp["onnx"], scheme="int8", data=DATA, out=tmp_path / "p.onnx", seconds=0).document()["quality"]
    assert quality["before"] - 0.5 == pytest.approx(1 - plain["before"])
    mine.write_text("def missed(outputs, targets):\n    return nothing\n")
    with pytest.raises(DataError, match="NameError"):
        quantize(bare, out=tmp_path / "n.onnx", max_drop=0.05, **asked)
    with pytest.raises(UsageError, match="--metric needs --data"):
        quantize(mlp["onnx"], scheme="int8-weights", out=tmp_path / "n.onnx", metric=f"{mine}:missed")
    assert not (tmp_path / "n.onnx").exists()
