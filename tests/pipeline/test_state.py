"""State that leaks from one sequence into the next: every recurrent file is searched, by ``export`` and ``verify``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit import devices
from edgekit.artifact import open_artifact
from edgekit.errors import ParityError, UsageError
from edgekit.flatbuffer_reader import without_prefix
from edgekit.graph.tflite_editor import Editor
from edgekit.pipeline.export import ExportResult, export
from edgekit.pipeline.inspect import inspect
from edgekit.pipeline.schemes import quantize
from edgekit.pipeline.verify import verify
from edgekit.quality import failing
from edgekit.quantization.tflite import stateless
from edgekit.report.verbs import render_inspect

pytestmark = pytest.mark.usefixtures("kept_workers")

SOURCE = '''
import torch
from torch import nn


class Words(nn.Module):
    def __init__(self, hidden=4):
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)

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


def wide():
    torch.manual_seed(0)
    return Words(48), torch.randn(1, 5, 3)


def gru():
    return nn.GRU(3, 4, batch_first=True), torch.randn(1, 5, 3)
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("state") / "networks.py"
    path.write_text(SOURCE)
    return f"{path}:words"


@pytest.fixture(scope="module")
def words(source: str, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export(source, to=["onnx", "tflite", "pt2"], out=tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def kept(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that keeps its state, as it was asked to."""
    (made,) = export(source, to="tflite", out=tmp_path_factory.mktemp("kept"), stateful=True).artifacts
    return made.artifact.path


@pytest.fixture
def stateful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every runner keeps its state from run to run: what a runner that forgets to reset does."""
    real = devices.open_runner

    def open_runner(*args: Any, **more: Any) -> Any:
        return real(*args, **{**more, "stateful": True})

    for module in (devices, failing):
        monkeypatch.setattr(module, "open_runner", open_runner)


def in_a_row(path: Path, calls: int = 1000) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What a bare interpreter gives for each of three inputs when it is opened, and the largest differences later."""
    random, interpreters = np.random.default_rng(0), [Interpreter(str(path), num_threads=1) for _ in range(4)]
    inputs = [(random.standard_normal((1, 5, 3)) * scale).astype(np.float32) for scale in (1, 5, 0)]

    def run(interpreter: Interpreter, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        result: np.ndarray[Any, Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return result

    for interpreter in interpreters:
        interpreter.allocate_tensors()
    first = np.stack([run(one, x) for one, x in zip(interpreters, inputs, strict=False)])
    apart = np.zeros(3)
    for k in random.integers(3, size=calls):
        apart[k] = max(apart[k], np.abs(run(interpreters[3], inputs[k]) - first[k]).max())
    return first, apart


def test_a_thousand_calls_of_an_app_give_what_the_first_gives(words: ExportResult, kept: Path) -> None:
    first, apart = in_a_row(words.artifacts[1].artifact.path)
    reset, left = in_a_row(kept)
    assert apart.max() == 0
    assert np.abs(first - reset).max() < 1e-6 and left.max() > 0.01


def test_every_file_is_called_several_times_in_a_row(words: ExportResult, files: dict[str, Path], source: str) -> None:
    for item in words.artifacts:
        kinds = [case.kind for case in item.parity.cases]
        assert kinds.count("calls") == 6 and kinds.count("state") == 2, item.artifact.path
        result = verify(item.artifact.path, against=source)
        assert result.passed
        assert [row.max_abs for row in result.ledger.cases if row.kind == "state"] == [0.0, 0.0]
    for path in files.values():  # without recurrence
        card = open_artifact(path).card
        assert card is not None and card.stateful is None
        assert "state" not in [row.kind for row in verify(path, against=path).ledger.cases]


def test_what_a_file_says_of_its_state(words: ExportResult, kept: Path, tmp_path: Path) -> None:
    onnx, tflite, _ = (item.artifact for item in words.artifacts)
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(without_prefix(kept.read_bytes()))  # no card, as one of another tool, or of an older edgekit
    said = {path: inspect(path) for path in (onnx.path, tflite.path, kept, foreign)}
    assert [found.document()["stateful"] for found in said.values()] == [None, False, True, True]
    text = {path: " ".join(map(str, render_inspect(found))) for path, found in said.items()}
    assert "every call starts from zeros by itself" in text[tflite.path]
    for path in (kept, foreign):
        assert "kept between calls; call allocate_tensors() first, and reset_all_variables() between" in text[path]
    card = open_artifact(kept).card
    assert card is not None and card.steps[-1].params["stateful"] is True
    assert any("keeps its state between calls: call allocate_tensors() first" in note for note in card.notes)


def test_files_that_keep_their_state_are_reset_between_two_sequences(kept: Path, source: str, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(without_prefix(kept.read_bytes()))
    for path in (kept, foreign):
        result = verify(path, against=source)
        assert result.passed
        assert [row.max_abs for row in result.ledger.cases if row.kind == "state"] == [0.0, 0.0]


@pytest.mark.usefixtures("stateful")
def test_a_runner_that_does_not_reset_is_found(kept: Path, source: str) -> None:
    result = verify(kept, against=source)
    rows = [row for row in result.ledger.cases if row.kind == "state"]
    assert not result.passed and not any(row.passed for row in rows)
    assert all("left over from the run before" in row.reason for row in rows)


@pytest.mark.usefixtures("stateful")
def test_it_is_found_where_both_sides_leak(kept: Path) -> None:
    """A comparison of the two alone would pass: they are the same file, and leak alike."""
    result = verify(kept, against=kept)
    assert {row.kind for row in result.ledger.cases if not row.passed} == {"state"}
    assert "the same input is run twice" in result.reason and "no layer, since the first run is right" in result.reason


@pytest.mark.usefixtures("stateful")
def test_a_file_without_state_needs_no_reset(words: ExportResult, source: str) -> None:
    assert verify(words.artifacts[1].artifact.path, against=source).passed


REAL = stateless.stateless


def none(content: bytes) -> bytes:
    return content


def half_shut(content: bytes) -> bytes:
    """Gates that shut for most of the state, and not for all of it."""
    editor = Editor(REAL(content))
    graph = editor.main()
    for k, tensor in enumerate(graph.raw.tensors):
        if bytes(tensor.name).endswith(b"/state_reset"):
            value = graph.data(k)
            assert value is not None
            tensor.buffer = editor.buffer(np.where(value > 0, 3, 0).astype(np.float32))
    return editor.content()


@pytest.mark.parametrize("made", [none, half_shut])
def test_a_state_left_behind_is_never_published(
    made: Callable[[bytes], bytes], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.quantization.tflite.stateless.stateless", made)
    with pytest.raises(ParityError, match=r"so state is left over from the run before on the case 'state'"):
        export(source, to="tflite", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_state_is_kept_only_where_there_is_one(source: str, tmp_path: Path) -> None:
    for to, more, why in (
        ("onnx", {}, "--stateful is for TFLite"),
        (["onnx", "tflite"], {"streaming": True}, "with the state as inputs and outputs; leave --stateful out"),
    ):
        with pytest.raises(UsageError, match=why):
            export(source, to=to, out=tmp_path, stateful=True, **more)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"no operator of gru.tflite keeps a state in variables"):
        export(source.replace(":words", ":gru"), to="tflite", out=tmp_path, stateful=True)
    assert not list(tmp_path.iterdir())


def test_what_is_quantized_is_stateless_unless_it_is_asked_not_to_be(source: str, tmp_path: Path) -> None:
    export(source.replace(":words", ":wide"), to="tflite", out=tmp_path)
    for stateful in (False, True):
        target = tmp_path / f"{stateful}.tflite"
        made = quantize(tmp_path / "wide.tflite", scheme="int8-dynamic", out=target, stateful=stateful, seconds=0)
        assert made.artifact.card is not None and made.artifact.card.stateful is stateful
        _, apart = in_a_row(target, 100)
        assert bool(apart.max() > 0) is stateful
        told = any("keeps its state between calls" in note for note in made.artifact.card.notes)
        assert told is stateful


def test_a_network_that_keeps_state_in_a_buffer_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"It changes its own buffers \(mean\): make them an input and an output"):
        export(source.replace(":words", ":counter"), to="pt2", out=tmp_path)
    assert not list(tmp_path.iterdir())
