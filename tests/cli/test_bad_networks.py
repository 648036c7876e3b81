"""Networks that cannot be exported: one clear message, the documented exit code, at most a file that shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.cli import main

Refused = Callable[..., str]

SOURCE = """
import torch
from torch import nn

class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

class Pair(nn.Module):
    def forward(self, pair):
        return pair["a"] + pair["b"]

def call(function):
    return Call(function), torch.randn(2, 4)

none = lambda: call(lambda x: None)
number = lambda: call(lambda x: 3.0)
complex_ = lambda: call(lambda x: torch.complex(x, x))
keys = lambda: (Pair(), {0: torch.zeros(2), 1: torch.zeros(2)})
huge = lambda: call(lambda x: x.new_zeros(1 << 50))
brain = lambda: (nn.Linear(4, 4).bfloat16(), torch.randn(2, 4).bfloat16())
shape = lambda: (nn.Linear(4, 4), torch.randn(2, 5))
"""


@pytest.mark.parametrize("to", ["onnx", "tflite"])
@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("none", "gave a NoneType without a tensor; forward must return tensors"),
        ("number", "gave a float without a tensor"),
        ("complex_", "is complex64, and files hold no complex numbers"),
        ("keys", "put it in a tuple: return module, (inputs,)"),
        ("huge", "raises on its own example inputs"),
        ("brain", "is bfloat16, which numpy and the runtimes do not have"),
        ("shape", "raises on its own example inputs (shapes (2, 5))"),
    ],
)
def test_networks_that_are_refused_at_once(factory: str, words: str, to: str, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "nets.py").write_text(SOURCE)
    message = refused("export", f"nets.py:{factory}", "--to", to, "-o", ".")
    assert words in message
    assert "nets.py" in message


GOES = """
import torch
from torch import nn

def training():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    for _ in range(5):
        net(torch.randn(16, 4) * 3 + 1)  # statistics that eval mode uses and training mode does not
    return net.train(), torch.randn(2, 4)

def half():
    return nn.Linear(4, 4).half(), torch.randn(2, 4).half()

class Numbered(nn.Module):
    def forward(self, parts):
        return {0: parts[0] + 1, "b": parts[7] * 2}

def numbered():
    return Numbered(), ({0: torch.randn(2, 4), 7: torch.randn(2, 4)},)
"""


@pytest.mark.parametrize("to", ["onnx", "tflite"])
@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("training", "it is used in eval mode, which changes BatchNorm1d, Dropout"),
        ("half", "proved on"),
        ("numbered", "proved on"),
    ],
)
def test_networks_that_are_odd_and_go_through(
    factory: str, said: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(GOES)
    with pytest.raises(SystemExit) as leaving:
        main(["export", f"nets.py:{factory}", "--to", to, "-o", "out"])
    assert leaving.value.code in (0, None)
    assert said in capfd.readouterr().err
    assert (tmp_path / "out" / f"{factory}.{to}").is_file()


def test_a_part_that_cannot_be_converted_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a user sees, in order: what failed, where it is looked for, and one message; the old file stays."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\nclass Gate(nn.Module):\n    def forward(self, x):\n"
        "        return x if x.sum() > 0 else -x\n"
        "def make():\n    return nn.Sequential(nn.Linear(4, 4), Gate()), torch.randn(1, 4)\n"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "make.onnx").write_text("what was there before")
    with pytest.raises(SystemExit) as leaving:
        main(["export", "net.py:make", "--to", "onnx", "-o", "out"])
    lines = capfd.readouterr().err.splitlines()
    assert leaving.value.code == 3
    assert lines.pop(0) == "converting make to onnx"
    assert lines[0].startswith("torch.export failed; looking for the smallest part of make that fails by itself")
    assert lines[1] == "  fails by itself: 1 (Gate)"
    assert lines[2].startswith("edgekit: torch.export cannot capture 'make': GuardOnDataDependentSymNode")
    assert "out/repro_1.py shows it; nothing was published" in lines[2]
    assert len(lines) == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"make.onnx", "repro_1.py"}
    assert (tmp_path / "out" / "make.onnx").read_text() == "what was there before"
