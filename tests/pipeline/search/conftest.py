"""A small network of a stranger's, its data, and what a search is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.results.optimize import OptimizeResult

NETWORK = """
import torch
from layers import hidden

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(hidden(12, 96), hidden(96, 96), torch.nn.Linear(96, 2)), (torch.zeros(1, 12),)
"""
LAYERS = """
import torch

def hidden(inputs, outputs):
    return torch.nn.Sequential(torch.nn.Linear(inputs, outputs), torch.nn.ReLU())
"""


@pytest.fixture(scope="session")
def subject(once: Callable[[str, Callable[[Path], object]], Path]) -> dict[str, Any]:
    """``source``, ``data`` and what else keeps a search short."""

    def make(folder: Path) -> None:
        (folder / "net.py").write_text(NETWORK)
        (folder / "layers.py").write_text(LAYERS)
        draw = np.random.default_rng(0)
        inputs = draw.normal(size=(400, 12)).astype(np.float32)
        np.savez(folder / "data.npz", inputs=inputs, labels=(inputs[:, :3].sum(1) > 0).astype(np.int64))

    folder = once("search-subject", make)
    short = {"epochs": 1, "seconds": 0.05, "formats": ("onnx",), "runtimes": ("onnxruntime",), "max_drop": 0.99}
    return {"source": f"{folder}/net.py:make", "data": f"npz:{folder}/data.npz", "sampler": "random", **short}


@pytest.fixture(scope="session")
def decided() -> Callable[[OptimizeResult], list[tuple[Any, ...]]]:
    """What of a search's trials timing does not decide."""

    def of(result: OptimizeResult) -> list[tuple[Any, ...]]:
        rows = sorted(result.trials, key=lambda row: row.number)
        return [
            (row.number, row.parameters, row.state == "failed", row.sha256, [one.quality for one in row.evidence])
            for row in rows
        ]

    return of
