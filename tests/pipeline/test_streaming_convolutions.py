"""``export --streaming`` of convolutions over time: files that look ahead, in bare runtimes against the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.artifact import read_card
from edgekit.data.audio import LEAST
from edgekit.errors import FeedError
from edgekit.pipeline.export import ExportResult
from edgekit.types import Card

pytestmark = pytest.mark.usefixtures("kept_workers")
Call = Callable[[dict[str, Any]], dict[str, Any]]

SOURCE = '''
import torch
from torch import nn


class Words(nn.Module):
    """Convolutions that look ahead, one with a stride, a residual connection, a recurrent layer: rows and an answer."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv1d(16, 48, 5, stride=2, padding=2), nn.BatchNorm1d(48)
        self.b, self.short = nn.Conv1d(48, 48, 3, padding="same", dilation=2, groups=2), nn.Conv1d(16, 48, 1, stride=2)
        self.gru, self.head = nn.GRU(48, 48, batch_first=True), nn.Linear(48, 4)

    def forward(self, x):
        x = x.transpose(1, 2)
        y = torch.relu(self.b(torch.relu(self.norm(self.a(x)))) + self.short(x))
        z = self.gru(y.transpose(1, 2))[0]
        return {"answer": self.head(z[:, -1]), "rows": z}


class Mean(Words):
    def forward(self, x):
        return self.a(x.transpose(1, 2)).mean(-1)


def words(kind=Words):
    torch.manual_seed(0)
    module = kind().eval()
    nn.init.normal_(module.norm.bias)
    return module, torch.randn(1, 20, 16)


def mean():
    return words(Mean)
'''
ROUNDING = 0.06
"""Of the outputs, as root mean squares: 24 dB, which 8-bit values keep through four layers, one of them with a state; a
state that is lost or late leaves nothing of them."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("convolutions") / "networks.py"
    path.write_text(SOURCE)
    return f"{path}:words"


@pytest.fixture(scope="module")
def made(source: str, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    out = tmp_path_factory.mktemp("steps")
    return edgekit.export(source, to=["onnx", "tflite"], out=out, streaming=True, name="live")


@pytest.fixture(scope="module")
def data(source: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sequences, labelled as the network itself labels them."""
    x = np.random.default_rng(0).standard_normal((24, 20, 16)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(path, x=x, labels=whole(source, x)["answer"].argmax(-1))
    return f"npz:{path}"


def whole(source: str, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    import torch

    from edgekit.source import resolve

    network = resolve(source)
    with torch.no_grad():
        results = network.module(torch.from_numpy(x))
    return {spec.name: value.numpy() for spec, value in zip(network.signature.outputs, results, strict=True)}


def bare(path: Path) -> Call:
    """The file in its runtime, without edgekit."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda feed: dict(zip(names, session.run(None, feed), strict=True))
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path), num_threads=1).get_signature_runner()
    return lambda feed: {name: value.copy() for name, value in runner(**feed).items()}


def rows(call: Call, card: Card, x: np.ndarray[Any, Any]) -> Iterator[dict[str, Any]]:
    """What an app does by the card alone: frames, states, and the runs after the end."""
    how = card.streaming
    assert how is not None
    now = {s.name: np.zeros(s.shape, s.dtype) for s in card.signature.inputs if s.name in how.states}
    steps = x.shape[1] // how.frames
    for n in range(steps + how.delay):
        if n >= steps:
            now[how.ended] = np.ones_like(now[how.ended])
        first = n * how.frames if n < steps else 0
        outputs = call({"x": x[:, first : first + how.frames], **now})
        now = {before: outputs.pop(after) for before, after in how.states.items()}
        yield outputs


def gap(path: Path, source: str) -> float:
    """Difference from the network, of its outputs, by root mean squares: three sequences in a row, one interpreter."""
    card, call, worst = read_card(path), bare(path), 0.0
    assert card is not None and card.streaming is not None
    for seed, steps in enumerate((40, 3, 40)):
        x = np.random.default_rng(seed).standard_normal((1, steps * card.streaming.frames, 16)).astype(np.float32)
        got, wanted = list(rows(call, card, x)), whole(source, x)
        joined = np.concatenate([row["rows"] for row in got], 1)[:, card.streaming.skipped["rows"] :]
        for a, b in ((joined, wanted["rows"]), (got[-1]["answer"], wanted["answer"])):
            assert a.shape == b.shape
            worst = max(worst, float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))))
    return worst


def test_the_files_are_proved_named_and_say_how_late_they_are(made: ExportResult) -> None:
    for item in made.artifacts:
        assert item.path.stem == "live"
        lines = [row for row in item.parity.cases if row.kind == "stream"]
        assert len(lines) >= 6 and all(row.passed for row in lines)
        card = read_card(item.path)
        assert card is not None and card.streaming is not None
        how = card.streaming
        assert (how.frames, how.delay, how.ended, how.skipped) == (2, 3, "stream.ended", {"rows": 3})
        assert any("one run takes 2 frames" in note for note in item.notes)
        assert any("3 runs behind the inputs" in note and "'stream.ended' set to 1" in note for note in card.notes)


def test_forty_steps_in_bare_runtimes(made: ExportResult, source: str) -> None:
    for item in made.artifacts:
        assert gap(item.path, source) < 1e-5  # float32 sums, 40 steps of a GRU


def test_a_session_waits_for_what_was_looked_ahead_for(made: ExportResult, source: str) -> None:
    x = np.random.default_rng(5).standard_normal((1, 12, 16)).astype(np.float32)
    wanted = whole(source, x)
    with edgekit.load(made.artifacts[0].path) as runner:
        stream = runner.stream()
        assert stream.frames == 2 and stream.delay == 3
        for _ in range(2):  # finish() begins anew
            taken = [stream.step({"x": x[:, n : n + 2]}) for n in range(0, 12, 2)]
            late = stream.finish()
            assert len(late) == 3
            np.testing.assert_allclose(late[-1]["answer"], wanted["answer"], atol=1e-5)
            live = np.concatenate([row["rows"] for row in taken], 1)[:, 3:]
            np.testing.assert_allclose(live, wanted["rows"][:, :3], atol=1e-5)
        assert np.allclose(stream.run({"x": x})["rows"], wanted["rows"], atol=1e-5)
        with pytest.raises(FeedError, match=r"5 frames of 'x' are not a whole number of steps of 2; give 4 or 6"):
            stream.run({"x": x[:, :5]})


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_in_integers(suffix: str, made: ExportResult, source: str, data: str, tmp_path: Path) -> None:
    path = next(item.path for item in made.artifacts if item.path.suffix == f".{suffix}")
    target = tmp_path / f"q.{suffix}"
    done = edgekit.quantize(path, scheme="int8", data=data, out=target, seconds=0)
    assert done.before is not None and done.before.value == 1.0 and done.after is not None and done.after.value > 0.8
    assert 0 < gap(target, source) < ROUNDING


def test_what_cannot_stream_publishes_nothing(source: str, tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    mean = source.replace(":words", ":mean")
    done = edgekit_here("export", mean, "--to", "onnx", "--streaming", "-o", tmp_path / "o")
    assert done.code == 3 and "first to differ is mean()" in done.err and "Traceback" not in done.err
    for free, said in (("x:0=batch", "leave --dynamic ...=batch out"), ("y:1=time", "the network has: x")):
        done = edgekit_here("export", source, "--to", "onnx", "--streaming", "--dynamic", free, "-o", tmp_path / "o")
        assert done.code == 2 and said in done.err
    assert not (tmp_path / "o").exists()


def test_the_contract_of_a_step_can_be_kept_live(tmp_path: Path) -> None:
    """The shipped networks take whole recordings as loud as they can be, which are not over yet."""
    item = edgekit.export("gru", to="pt2", out=tmp_path, streaming=True).artifacts[0]
    card = read_card(item.path)
    assert card is not None
    params = card.contract["audio"].params
    assert params["level"] == "running" and params["least"] == LEAST
    assert any("is known only at its end" in note for note in card.notes)
