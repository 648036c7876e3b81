"""docs/own-work.md: its code and its commands run as they stand, and give what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.artifact import read_card

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def weights(folder: Path) -> None:
    """A net that tells light from dark, as a training script of Lightning leaves it."""
    first = torch.zeros(8, 3, 3, 3)
    first[0, :, 1, 1] = 1.0
    last = torch.zeros(2, 8)
    last[1, 0], last[0, 0] = 1.0, -1.0
    state = {"0.weight": first, "0.bias": torch.zeros(8), "4.weight": last, "4.bias": torch.tensor([0.5, 0.0])}
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}}, folder / "best.ckpt")


@pytest.fixture
def tour(root: Path, tmp_path: Path) -> list[str]:
    text = (root / "docs" / "own-work.md").read_text(encoding="utf-8")
    lines = []
    for language, body in BLOCK.findall(text):
        if language == "python":
            name = body.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(body)
        if language == "sh":
            lines += body.splitlines()
    weights(tmp_path)
    return lines


def test_it_runs(tour: list[str], edgekit_here: Callable[..., object], tmp_path: Path) -> None:
    assert len(tour) == 4
    for line in tour:
        ended = edgekit_here(*shlex.split(line)[1:])
        assert ended.code == 0, (line, ended.err)  # type: ignore[attr-defined]
    card = read_card(tmp_path / "build" / "build.tflite")
    assert card is not None and card.task.labels == ("dark", "light")
    assert card.contract["image" if "image" in card.contract else next(iter(card.contract))].std == (0.25,) * 3
    ended = edgekit_here("eval", "build/build.onnx", "--data", "mine.py:data", "--json", "-", "-q")
    found = ended.document  # type: ignore[attr-defined]
    assert (found["split"], found["total"]) == ("test", 40)
    rng = np.random.default_rng(1)
    values = np.array([int(rng.integers(0, 100)) + 150 * (k % 2) for k in range(40)])
    sums = np.maximum(3 * (values / 255 - 0.5) / 0.25, 0)
    wanted = np.mean((sums > 0.5 - sums) == (np.arange(40) % 2))
    assert found["value"] == pytest.approx(wanted)
    missed = edgekit_here("eval", "build/build.onnx", "--data", "mine.py:data", "--min", "1.01")
    assert missed.code == 1 and "less than --min 1.01" in missed.err  # type: ignore[attr-defined]
