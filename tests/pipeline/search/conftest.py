"""A small network of a stranger's, its data, and what a search is asked for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.source import resolve

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
    short = {
        "trials": 4,
        "batch": 2,
        "epochs": 1,
        "seconds": 0.05,
        "formats": ("onnx",),
        "runtimes": ("onnxruntime",),
        "max_drop": 0.99,
    }
    return {"source": f"{folder}/net.py:make", "data": f"npz:{folder}/data.npz", "sampler": "random", **short}


@pytest.fixture(scope="session")
def decided() -> Callable[[Any], list[Any]]:
    """What of a search's document timing does not decide."""

    def of(document: Any) -> list[Any]:
        rows = sorted(document["trials"], key=lambda row: row["number"])
        return [
            [row["number"], row["parameters"], row["state"] == "failed", row.get("sha256"),
             [one["quality"] for one in row.get("evidence", ())]]
            for row in rows
        ]  # fmt: skip

    return of


@pytest.fixture(scope="session")
def command(subject: dict[str, Any], edgekit_program: str) -> Callable[..., list[str]]:
    """``edgekit optimize`` of the subject, into a folder."""

    def of(out: Path, *more: str) -> list[str]:
        words = [f"--{name.replace('_', '-')}={','.join(value) if isinstance(value, tuple) else value}"
                 for name, value in subject.items() if name != "source"]  # fmt: skip
        return [edgekit_program, "optimize", subject["source"], *words, "-o", str(out), *more]

    return of


@pytest.fixture(scope="session")
def alone(once: Callable[[str, Callable[[Path], object]], Path], command: Any, decided: Any) -> list[Any]:
    """What one process decides, with one thread."""

    def make(folder: Path) -> None:
        subprocess.run(command(folder), check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)

    return decided(json.loads((once("search-alone", make) / "optimize.json").read_text()))


WIDE = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 4)]
    return nn.Sequential(*layers).eval(), (torch.zeros(1, 32),)
"""


@pytest.fixture(scope="session")
def own(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with ``net.py``, wide enough that integers and fewer units are faster, and ``data.npz``, whose labels
    are its answers."""

    def make(folder: Path) -> None:
        (folder / "net.py").write_text(WIDE)
        network = resolve(f"{folder / 'net.py'}:build")
        values = np.random.default_rng(0).standard_normal((800, 32)).astype(np.float32)
        with torch.no_grad():
            labels = network.module(torch.from_numpy(values)).argmax(1).numpy()
        np.savez(folder / "data.npz", **{next(iter(network.example_inputs)): values, "labels": labels})

    return once("search-own", make)
