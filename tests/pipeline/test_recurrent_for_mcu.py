"""Recurrent layers of torch, exported and quantized for microcontrollers, beside torch in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgekit
from edgekit.environments import TFLM
from edgekit.types import Array

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_workers")]

FEATURES, HIDDEN, STEPS, CALIBRATING, ALL = 6, 12, 10, 48, 56


class Given(nn.Module):
    """States as inputs and outputs."""

    def __init__(self, cell: type[nn.GRU] | type[nn.RNN] | type[nn.LSTM]) -> None:
        super().__init__()
        self.cell, self.head = cell(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 3)

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> Any:
        y, end = self.cell(x, state if len(state) > 1 else state[0])
        return self.head(y), *(end if isinstance(end, tuple) else (end,))


class Inside(nn.Module):
    """Two layers in both directions, between a convolution, a linear layer and a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 8, 3, padding=1)
        self.gru = nn.GRU(8, HIDDEN, 2, batch_first=True, bidirectional=True)
        self.norm, self.head = nn.LayerNorm(2 * HIDDEN), nn.Linear(2 * HIDDEN, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.head(self.norm(self.gru(x)[0]))  # type: ignore[no-any-return]


CASES = {"gru": (lambda: Given(nn.GRU), 1), "lstm": (lambda: Given(nn.LSTM), 2), "inside": (Inside, 0)}


def samples(states: int) -> list[Array]:
    """(n, T, F), and (n, 1, H) each: noise, which no int8 range is too narrow for."""
    random = np.random.default_rng(5)
    x = random.uniform(-2, 2, (ALL, STEPS, FEATURES)).astype(np.float32)
    return [x, *(random.uniform(-1, 1, (ALL, 1, HIDDEN)).astype(np.float32) for _ in range(states))]


@pytest.mark.parametrize("case", CASES)
def test_it_is_near_torch_in_float(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tflm_python: str
) -> None:
    monkeypatch.setenv(TFLM.variable, tflm_python)
    make, states = CASES[case]
    torch.manual_seed(0)
    network = make().eval()
    given = samples(states)
    example = tuple(torch.from_numpy(array[:1]) for array in given)
    edgekit.export(network, example, to=["tflite"], out=tmp_path, name="m")
    with edgekit.load(tmp_path / "m.tflite") as runner:
        names = [spec.name for spec in runner.signature.inputs]
    seen = {name: array[:CALIBRATING] for name, array in zip(names, given, strict=True)}
    np.savez(tmp_path / "d.npz", **seen)  # type: ignore[arg-type]
    made = edgekit.quantize(
        tmp_path / "m.tflite", scheme="int8", for_="mcu", data=f"npz:{tmp_path / 'd.npz'}", out=tmp_path / "q.tflite"
    )
    assert (made.account.integer_operators, made.account.left_float) == (made.account.operators, ())
    assert made.micro is not None
    errors, sizes = [], []
    with edgekit.load(tmp_path / "q.tflite") as runner, torch.no_grad():
        for number in range(CALIBRATING, ALL):
            feed = {name: array[number : number + 1] for name, array in zip(names, given, strict=True)}
            wanted = network(*map(torch.from_numpy, feed.values()))
            parts = wanted if isinstance(wanted, tuple) else (wanted,)
            for part, found in zip(parts, runner.run(feed).values(), strict=True):
                errors.append(np.square(found - part.numpy()).mean())
                sizes.append(np.square(part.numpy()).mean())
    assert 10 * np.log10(np.mean(sizes) / np.mean(errors)) > 28  # of 8-bit outputs 35 to 40 dB were seen
