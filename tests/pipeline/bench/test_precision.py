"""Fewer bits are proved before they are timed: the card's self-test, with the error that the precision allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.artifact import write_card
from edgekit.data.seeded import seeded_feed
from edgekit.errors import ParityError
from edgekit.pipeline.bench import bench
from edgekit.report.bench import bench_report
from edgekit.runtime import load
from edgekit.types import Card, SelfTest, Task


def _program(path: Path, wrong_by: float) -> Path:
    """A dense layer whose card expects outputs that are off by this share of the largest one."""
    torch.manual_seed(0)
    torch.export.save(torch.export.export(torch.nn.Linear(64, 8), (torch.zeros(1, 64),)), path)
    with load(path) as runner:
        signature = runner.signature
        (values,) = runner.run(seeded_feed(signature, {}, 3)).values()
    expected = tuple(float(v) for v in (values + wrong_by * np.abs(values).max()).reshape(-1))
    test = SelfTest(3, {signature.outputs[0].name: expected}, tolerance=1e-4)
    write_card(path, Card("dense", "custom", Task(), signature, selftest=test))
    return path


def test_the_self_test_allows_what_the_precision_costs(tmp_path: Path) -> None:
    path = _program(tmp_path / "m.pt2", wrong_by=0.003)  # 0.3%: within float16's 0.8%, far beyond float32's
    result = bench(path, runtime="torch:eager:fp16", seconds=0.1, workers=1)
    (entry,) = result.document()["results"]
    assert (
        entry["selftest"]["precision"] == "fp16"
        and 1e-4 < entry["selftest"]["max_abs"] < entry["selftest"]["tolerance"]
    )
    assert "m.pt2 in fp16: its self-test is off by" in str(bench_report(result.record))
    with pytest.raises(ParityError, match=r"the card allows 0\.0001"):
        bench(path, runtime="torch:eager", seconds=0.1, workers=1)


def test_more_than_that_is_not_timed(tmp_path: Path) -> None:
    path = _program(tmp_path / "m.pt2", wrong_by=0.03)
    with pytest.raises(ParityError, match=r"fails its own self-test on cpu: .*fp16 allows 0\.0.*; it was not timed"):
        bench(path, runtime="torch:eager:fp16", seconds=0.1, workers=1)
