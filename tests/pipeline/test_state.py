"""State that leaks from one sequence into the next: every recurrent file is searched, by ``export`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit import devices
from edgekit.errors import ParityError
from edgekit.pipeline.export import ExportResult, export
from edgekit.pipeline.verify import verify
from edgekit.quality import failing

SOURCE = '''
import torch
from torch import nn


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Counter(nn.Module):
    """Keeps the mean of what it was given, in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 5, 3))

    def forward(self, x):
        self.mean.mul_(0.5).add_(0.5 * x.detach())
        return x + self.mean


def words():
    torch.manual_seed(0)
    return Words(), torch.randn(1, 5, 3)


def counter():
    return Counter(), torch.randn(1, 5, 3)
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("state") / "networks.py"
    path.write_text(SOURCE)
    return f"{path}:words"


@pytest.fixture(scope="module")
def words(source: str, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export(source, to=["onnx", "tflite", "pt2"], out=tmp_path_factory.mktemp("words"))


@pytest.fixture
def stateful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every runner keeps its state from run to run: what a runner that forgets to reset does."""
    real = devices.open_runner

    def open_runner(*args: Any, **more: Any) -> Any:
        return real(*args, **{**more, "stateful": True})

    for module in (devices, failing):
        monkeypatch.setattr(module, "open_runner", open_runner)


def test_every_recurrent_file_is_run_twice_and_in_another_order(words: ExportResult, source: str) -> None:
    for item in words.artifacts:
        kinds = [case["kind"] for case in item.document()["parity"]["cases"]]
        assert kinds.count("state") == 2, item.artifact.path
        result = verify(item.artifact.path, against=source)
        assert result.passed
        assert [row.max_abs for row in result.ledger.cases if row.kind == "state"] == [0.0, 0.0]


def test_files_without_recurrence_are_not(files: dict[str, Path]) -> None:
    for path in files.values():
        assert "state" not in [row.kind for row in verify(path, against=path).ledger.cases]


@pytest.mark.usefixtures("stateful")
def test_a_runner_that_does_not_reset_is_found(words: ExportResult, source: str) -> None:
    path = words.artifacts[1].artifact.path
    result = verify(path, against=source)
    rows = [row for row in result.ledger.cases if row.kind == "state"]
    assert not result.passed and not any(row.passed for row in rows)
    assert all("left over from the run before" in row.reason for row in rows)


@pytest.mark.usefixtures("stateful")
def test_it_is_found_where_both_sides_leak(words: ExportResult) -> None:
    """A comparison of the two alone would pass: they are the same file, and leak alike."""
    path = words.artifacts[1].artifact.path
    result = verify(path, against=path)
    assert {row.kind for row in result.ledger.cases if not row.passed} == {"state"}
    assert "the same input is run twice" in result.reason and "no layer, since the first run is right" in result.reason


@pytest.mark.usefixtures("stateful")
def test_nothing_that_leaks_is_published(source: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError):
        export(source, to="tflite", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_that_keeps_state_in_a_buffer_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(
        ParityError, match=r"is run twice, so state is left over from the run before on the case 'state'"
    ):
        export(source.replace(":words", ":counter"), to="pt2", out=tmp_path)
    assert not list(tmp_path.iterdir())
