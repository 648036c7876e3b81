"""Networks of one's own and of others through both formats: proved, or refused with a reason that is known here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.errors import ConversionError
from edgekit.pipeline.export import export

pytestmark = pytest.mark.usefixtures("kept_workers")


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
catalogue = _load("edgekit_networks_catalogue", HERE / "catalogue.py")
REFUSED = {
    ("SRGAN-upsampler-height", "tflite"): "fixed sizes",
    ("VAE-decoder-batch", "tflite"): "fixed sizes",
    ("seq2seq-GRU-words", "tflite"): "fixed sizes",
    ("BERT-tiny-words", "tflite"): "fixed sizes",
    ("tagger,-packed-length", "tflite"): "fixed sizes",
    ("CRNN-width", "onnx"): "a size that was asked to be dynamic is fixed in the network",
    ("CRNN-width", "tflite"): "a size that was asked to be dynamic is fixed in the network",
}
"""Reasons are quoted in docs/coverage.md; a network that goes through after all is not a fault."""


REFUSED_SOON = ("VAE-decoder-batch", "CRNN-width")
"""Whose refusals are seen every time; until the others are refused, they are converted for ten seconds or more."""


def _cases() -> list[object]:
    """Every network in both formats; one of them is left to the sweep: in turns, or the refused one."""
    networks = [entry for entry in catalogue.NETWORKS if entry.group != "zoo"]
    found = []
    for number, entry in enumerate(networks):
        refused = any(name == entry.id for name, _ in REFUSED)
        for place, to in enumerate(("onnx", "tflite")):
            now = entry.id in REFUSED_SOON or to == "onnx" if refused else (number + place) % 2
            later = entry.heavy or not now
            found.append(pytest.param(entry, to, id=f"{entry.id}-{to}", marks=pytest.mark.sweep if later else ()))
    return found


@pytest.mark.parametrize(("entry", "to"), _cases())
def test_it_goes_through(entry: object, to: str, tmp_path: Path, root: Path) -> None:
    source = entry.source  # type: ignore[attr-defined]
    if source.startswith("timm:") and not _load("timm_here", root / "scripts" / "timm_here.py").use_timm():
        pytest.skip("needs .venv-timm or $EDGEKIT_TIMM: run scripts/test")
    if source.startswith("hf:") or "bert" in source:
        pytest.importorskip("transformers")
    try:
        made = export(source, to=to, out=tmp_path, dynamic=entry.dynamic)  # type: ignore[attr-defined]
    except ConversionError as error:
        reason = REFUSED.get((entry.id, to))  # type: ignore[attr-defined]
        if reason is None or reason not in str(error):
            raise
        return
    found = made.artifacts[0]
    assert found.parity.passed
    assert len(found.parity.cases) >= 7
    assert max(found.parity.scale.values()) > 1e-3, "outputs near zero would prove nothing"


def test_the_document_names_every_network(root: Path) -> None:
    """docs/coverage.md was made from this catalogue, and has no wrong file."""
    text = (root / "docs" / "coverage.md").read_text(encoding="utf-8")
    for entry in catalogue.NETWORKS:
        assert f"| {entry.name} |" in text, f"run scripts/coverage: {entry.name} is missing"
    for kind in catalogue.recurrent():
        assert f"| {kind} |" in text
    assert "WRONG |" not in text
    assert "failed |" not in text
