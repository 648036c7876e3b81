"""A training is compared with the best constant answer, whatever the task."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from edgekit.pipeline.constant_answer import compare_with_constant
from edgekit.types import Quality

DATA = """
import numpy as np

def masks(split):
    mask = np.zeros((4, 5), np.int64)
    mask[0, 0], mask[0, 1] = 1, 255
    return [(np.zeros((4, 5, 3), np.uint8), mask)] * 3

def values(split):
    return [(np.zeros(2, np.float32), float(value)) for value in (1, 2, 6)]

def labels(split):
    return [(np.zeros(2, np.float32), label) for label in (1, 1, 1, 0)]
"""


@pytest.mark.parametrize(
    ("name", "metric", "reached", "lower", "said"),
    [
        ("labels", "accuracy", 0.75, False, "accuracy 75.00% on .*, and always answering '1' gives 75.00%"),
        ("masks", "miou", 18 / 19 / 2, False, "miou 47.37% on .*, and always answering '0' gives 47.37%"),
        ("values", "mae", 5 / 3, True, "mae 1.667 on .*, and always answering the median gives 1.667"),
    ],
)
def test_what_does_not_beat_it_is_said(
    name: str, metric: str, reached: float, lower: bool, said: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "d.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)

    def warned(value: float) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "edgekit"):
            compare_with_constant((Quality(metric, value, f"d.py:{name}@test", 3, lower_is_better=lower),))
        return caplog.text

    assert re.search(said, warned(reached))
    assert not warned(reached - 0.1 if lower else reached + 0.1)
