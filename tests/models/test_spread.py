"""Several processes train one network: what the user wrote goes along, and weights of any size come back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.pipeline.finetune import finetune
from edgekit.usercode import import_file, imported_files

NEIGHBOUR = """
import os
import torch

class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(30, 1600), torch.nn.Linear(1600, 2)

    def forward(self, features):
        return self.last(torch.relu(self.first(features)))

class Dies(Wide):
    def forward(self, features):
        if torch.distributed.is_initialized():
            os._exit(7)
        return super().forward(features)
"""
SOURCE = """
import torch
from wide import Dies, Wide

def net():
    return Wide(), torch.zeros(1, 30)

def dies():
    return Dies(), torch.zeros(1, 30)

def local():
    class Local(Wide):
        pass
    return Local(), torch.zeros(1, 30)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "wide.py").write_text(NEIGHBOUR)
    (tmp_path / "net.py").write_text(SOURCE)
    return tmp_path


def _finetuned(factory: str, place: Path) -> subprocess.CompletedProcess[str]:
    """In a program of its own: each process imports the main module again."""
    words = ["finetune", f"net.py:{factory}", "--data", "breast-cancer", "--epochs", "2", "--processes", "2"]
    program = "from edgekit.cli import main; main()"
    command = [sys.executable, "-c", program, *words, "-o", "net.safetensors", "--json", "-"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)


def test_a_network_of_the_users_own_files(place: Path) -> None:
    """213 kB of weights, more than the 64 KiB that a pipe holds; a class that no other process can import by name."""
    done = _finetuned("net", place)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2 of 2") == 1  # the first process tells
    assert json.loads(done.stdout)["quality"]["value"] > 0.8  # chance is 0.63
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == ["net.py", "net.safetensors", "wide.py"]


@pytest.mark.slow
def test_a_process_that_dies_ends_all(place: Path) -> None:
    done = _finetuned("dies", place)
    assert done.returncode == 4, done.stderr
    assert "edgekit: a training process failed: process " in done.stderr
    assert "internal error" not in done.stderr and not (place / "net.safetensors").exists()


def test_what_cannot_be_sent_is_refused_before_any_process_starts(place: Path) -> None:
    words = r"cannot be sent .*Local.*; train it with one process, or define its classes at the top"
    with pytest.raises(UsageError, match=words):
        finetune(f"{place}/net.py:local", data="breast-cancer", out=place / "o.safetensors", overrides={"processes": 2})


def test_a_file_imported_again_shares_nothing_under_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "twice.py"
    path.write_text("made = []\n")
    first, second = import_file(path), import_file(path)
    assert first.made is not second.made
    assert first.__name__ == second.__name__ and imported_files()[first.__name__] == str(path)


def test_a_file_that_fails_leaves_no_module(tmp_path: Path) -> None:
    path = tmp_path / "fails_here.py"
    path.write_text("raise ValueError('not today')\n")
    with pytest.raises(ValueError, match="not today"):
        import_file(path)
    assert str(path) not in imported_files().values() and str(tmp_path) not in sys.path
