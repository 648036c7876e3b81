"""The verbs take paths as well as text, and what they write on the card is text."""

from __future__ import annotations

from pathlib import Path

import edgekit
from edgekit.artifact import open_artifact


def test_paths_all_the_way(tmp_path: Path) -> None:
    trained, tuned, pruned = (tmp_path / f"{name}.safetensors" for name in ("trained", "tuned", "pruned"))
    edgekit.train("mlp", data="breast-cancer", epochs=1, out=trained)
    edgekit.finetune(trained, data="breast-cancer", epochs=1, distil_from=trained, out=tuned)
    edgekit.prune(tuned, amount=0.3, data="breast-cancer", epochs=1, out=pruned)
    edgekit.export(pruned, to=["onnx"], out=tmp_path / "build", name="mlp")
    card = open_artifact(tmp_path / "build" / "mlp.onnx").card
    assert card is not None
    sources = [step.params["source"] for step in card.steps if "source" in step.params]
    assert sources == [trained.name, tuned.name]
    assert edgekit.evaluate(tmp_path / "build" / "mlp.onnx", data="breast-cancer", limit=20).document()["total"] == 20
