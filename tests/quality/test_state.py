"""The check for state that leaks: it passes what forgets, and trips on what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.artifact import open_artifact
from edgekit.quality.cases import Case
from edgekit.quality.state import has_recurrent_layers, is_recurrent, state_cases
from edgekit.types import Array, Feed

CASES = [Case("random", {"x": np.full(2, k, np.float32)}, typical=True) for k in (1.0, 2.0, 3.0)]


class Counter(nn.Module):
    """Adds up what it was given in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        self.total += x
        return self.total.clone()


def test_what_forgets_passes() -> None:
    rows = state_cases(lambda feed: {"y": feed["x"] * 2}, CASES)
    assert [(row.kind, row.passed, row.max_abs) for row in rows] == [("state", True, 0.0)] * 2


def test_what_adds_up_is_found_when_run_twice() -> None:
    total = np.zeros(2, np.float32)

    def leaky(feed: Feed) -> dict[str, Array]:
        total[:] += feed["x"]
        return {"y": feed["x"] * 2, "z": total.copy()}

    twice, order = state_cases(leaky, CASES)
    assert not twice.passed and twice.output == "z"
    assert twice.max_abs == 3.0  # the last input once more
    assert "the same input is run twice, so state is left over" in twice.reason
    assert not order.passed


def test_what_remembers_the_input_before_is_found_in_another_order() -> None:
    """Twice in a row it is right: only the order shows it."""
    seen: list[Array] = []

    def leaky(feed: Feed) -> dict[str, Array]:
        others = [x for x in seen if not np.array_equal(x, feed["x"])]
        seen.append(feed["x"])
        return {"y": feed["x"] + (others[-1] if others else 0)}

    twice, order = state_cases(leaky, CASES)
    assert twice.passed
    assert not order.passed and "in another order" in order.reason


def test_nan_never_passes() -> None:
    calls = iter(range(100))
    twice, _ = state_cases(lambda feed: {"y": feed["x"] * (np.nan if next(calls) == 1 else 1)}, CASES)
    assert not twice.passed and twice.max_abs is None


def test_recurrent_files_are_recognised(tmp_path: Path) -> None:
    x = torch.zeros(1, 3, 2)
    for name, module, given, recurrent in (
        ("lstm", nn.LSTM(2, 4, batch_first=True), x, True),
        ("cell", nn.GRUCell(2, 4), x[0], True),
        ("counter", Counter(), torch.zeros(2), True),
        ("linear", nn.Linear(2, 4), x, False),
    ):
        path = tmp_path / f"{name}.pt2"
        torch.export.save(torch.export.export(module.eval(), (given,)), str(path))
        assert is_recurrent(open_artifact(path)) is recurrent, name
    assert has_recurrent_layers(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.RNN(2, 2))))
    assert has_recurrent_layers(nn.LSTMCell(2, 2)) and not has_recurrent_layers(nn.Linear(2, 2))
