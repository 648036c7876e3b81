"""A stranger's network: wide enough that integers and fewer units are faster, and data whose labels are its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.source import resolve

CODE = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 4)]
    return nn.Sequential(*layers).eval(), (torch.zeros(1, 32),)
"""


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``net.py`` and ``data.npz``."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(CODE)
    network = resolve(f"{folder / 'net.py'}:build")
    values = np.random.default_rng(0).standard_normal((800, 32)).astype(np.float32)
    with torch.no_grad():
        labels = network.module(torch.from_numpy(values)).argmax(1).numpy()
    np.savez(folder / "data.npz", **{next(iter(network.example_inputs)): values, "labels": labels})
    return folder
