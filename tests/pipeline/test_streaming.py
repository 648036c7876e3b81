"""``export --streaming`` all the way: files of one step against whole sequences, and every verb on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.artifact import card_from_json, card_to_json, read_card
from edgekit.errors import FeedError, ModelError, ParityError, UnsupportedError, UsageError
from edgekit.pipeline.export import ExportResult, export
from edgekit.quality.contents import operators
from edgekit.quality.steps import LIMIT

pytestmark = pytest.mark.usefixtures("kept_workers")

SOURCE = '''
import torch
from torch import nn


class Tagger(nn.Module):
    """A tag for every step and an answer for the sequence so far."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 6, 2, batch_first=True)
        self.gru = nn.GRU(6, 5)
        self.rnn = nn.RNN(5, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = self.gru(self.lstm(x)[0].transpose(0, 1))[0].transpose(0, 1)
        z = self.rnn(y)[0]
        return {"tags": self.head(z), "answer": self.head(z[:, -1])}


class Mean(Tagger):
    def forward(self, x):
        return self.head(self.rnn(self.gru(self.lstm(x)[0])[0])[0].mean(1))


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 48, 2, batch_first=True), nn.Linear(48, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def wide():
    torch.manual_seed(0)
    return Wide(), torch.randn(1, 6, 8)


def tagger():
    torch.manual_seed(0)
    return Tagger(), torch.randn(1, 7, 3)


def mean():
    return Mean(), torch.randn(1, 7, 3)
'''
PAIRS = {name: f"{name}_next" for name in ("lstm.h", "lstm.c", "gru.h", "rnn.h")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("streaming") / "networks.py"
    path.write_text(SOURCE)
    return f"{path}:tagger"


@pytest.fixture(scope="module")
def made(source: str, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    out = tmp_path_factory.mktemp("steps")
    return edgekit.export(source, to=["onnx", "tflite", "pt2"], out=out, streaming=True)


@pytest.fixture(scope="module")
def whole(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network for sequences of any length."""
    done = export(source, to="onnx", out=tmp_path_factory.mktemp("whole"), dynamic=["x:1=time"])
    return done.artifacts[0].artifact.path


def test_the_steps_are_proved_against_the_sequence(made: ExportResult) -> None:
    for item in made.artifacts:
        assert item.artifact.path.name == f"tagger-step.{item.artifact.format}"
        kinds = [row.kind for row in item.parity.cases]
        assert kinds.count("stream") == 3 + 1 + 1 + 4  # random, the example, 40 steps, and the lengths 1, 2, 5 and 14
        assert kinds.count("state") == 2
        assert max(row.max_abs or 0 for row in item.parity.cases if row.kind == "stream") <= LIMIT


def test_the_card_says_how_steps_make_a_sequence(made: ExportResult) -> None:
    for item in made.artifacts:
        card = read_card(item.artifact.path)
        assert card is not None and card.streaming is not None
        assert card.streaming.states == PAIRS
        assert card.steps[-1].params["streaming"] is True
        document = card_to_json(card)
        assert document["streaming"]["states"][0] == {"input": "lstm.h", "output": "lstm.h_next", "initial": 0.0}
        assert document["streaming"]["sequence"]["inputs"][0]["shape"] == [1, "time", 3]
        assert card_from_json(document).streaming == card.streaming
        document["streaming"]["states"][0]["initial"] = 1.0
        with pytest.raises(ModelError, match="begins at something else than zero"):
            card_from_json(document)


def test_a_step_is_plain_operators_in_tflite(made: ExportResult) -> None:
    found = operators(made.artifacts[1].artifact)
    assert not {"WHILE", "UNIDIRECTIONAL_SEQUENCE_LSTM"} & set(found)
    assert found["FULLY_CONNECTED"] <= 2 * 4 + 2  # of input and state in each layer, and the heads
    assert operators(made.artifacts[0].artifact)["LSTM"] == 2


def test_a_session_on_the_device(made: ExportResult, whole: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 11, 3)).astype(np.float32)
    with edgekit.load(whole) as runner:
        wanted = [runner.run({"x": x[:, :n]}) for n in range(1, 12)]
    for item in made.artifacts:
        with edgekit.load(item.artifact.path) as runner:
            stream = runner.stream()
            for _ in range(2):
                for n in range(11):
                    outputs = stream.step({"x": x[:, n : n + 1]})
                    assert set(outputs) == {"tags", "answer"}
                    assert np.abs(outputs["answer"] - wanted[n]["answer"]).max() < LIMIT
                    assert np.abs(outputs["tags"] - wanted[n]["tags"][:, -1:]).max() < LIMIT
                stream.reset()
            stream.step({"x": x[:, :1]})  # run() begins anew, whatever was before
            assert {k: v.shape for k, v in stream.run({"x": x}).items()} == {"tags": (1, 11, 3), "answer": (1, 3)}
            assert np.abs(stream.run({"x": x})["tags"] - wanted[-1]["tags"]).max() < LIMIT
            with pytest.raises(FeedError, match="axis 1 is 2 for 1"):
                stream.step({"x": x[:, :2]})
            with pytest.raises(FeedError, match="the batch axis is missing"):
                stream.run({"x": x[0]})


def test_a_file_of_sequences_is_not_a_stream(whole: Path) -> None:
    with edgekit.load(whole) as runner, pytest.raises(ModelError, match="export the network with --streaming"):
        runner.stream()


def test_verify_takes_the_source_a_file_of_sequences_and_another_of_steps(
    made: ExportResult, whole: Path, source: str
) -> None:
    onnx, tflite = (item.artifact.path for item in made.artifacts[:2])
    for against in (source, whole, onnx):
        result = edgekit.verify(tflite, against=against)
        assert result.passed and result.selftest is not None, result.reason


def test_swapped_states_fail_the_proof(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each single step is right; only their sequence is not."""
    from dataclasses import replace

    from edgekit.converters.streaming import one_step as streaming

    real = streaming.one_step

    def swapped(*args: Any) -> Any:
        network = real(*args)
        states = {**PAIRS, "lstm.h": "lstm.c_next", "lstm.c": "lstm.h_next"}
        how = replace(network.card.streaming, states=states)
        return replace(network, card=replace(network.card, streaming=how))

    monkeypatch.setattr(streaming, "one_step", swapped)
    with pytest.raises(ParityError, match=r"steps differs by .* on the case 'stream'.*single steps are right"):
        export(source, to="pt2", out=tmp_path, streaming=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_stream_publishes_nothing(source: str, tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="mixes the steps"):
        export(source.replace(":tagger", ":mean"), to="onnx", out=tmp_path / "out", streaming=True)
    with pytest.raises(UsageError, match=r"leave --dynamic \.\.\.=batch out"):
        export(source, to="onnx", out=tmp_path / "out", streaming=True, dynamic=["x:0=batch"])
    assert not (tmp_path / "out").exists()
    done = edgekit_here("export", source.replace(":tagger", ":mean"), "--to", "onnx", "--streaming", "-o", "o")
    assert done.code == 3 and "cannot be taken step by step" in done.err and "Traceback" not in done.err


def test_every_verb_takes_whole_sequences(made: ExportResult, tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    x = np.random.default_rng(0).standard_normal((6, 9, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x[:1])
    np.savez(tmp_path / "x.npz", x=x, labels=np.array([0, 1, 2, 0, 1, 2]))
    path = made.artifacts[1].artifact.path
    ran = edgekit.run(path, tmp_path / "x.npy").answers[0]
    with edgekit.load(path) as runner:
        wanted = runner.stream().run({"x": x[:1]})
    assert {name: v.shape for name, v in ran.outputs.items()} == {"tags": (1, 9, 3), "answer": (1, 3)}
    assert np.array_equal(ran.outputs["tags"], wanted["tags"])
    found = edgekit.evaluate(path, data=f"npz:{tmp_path / 'x.npz'}").evaluation
    assert found.total == 6
    done = edgekit_here("inspect", path)
    assert "one step of x 1xtimex3" in done.out and "lstm.h <- lstm.h_next" in done.out
    done = edgekit_here("bench", path, "--seconds", "0.1", "--json", "-")
    assert done.code in (0, 5) and done.document["results"][0]["latency_ms"]["p50"] > 0


def test_a_runner_that_forgets_states_is_found(
    made: ExportResult, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.runtime.stream import Stream

    monkeypatch.setattr(Stream, "reset", lambda self: None)
    result = edgekit.verify(made.artifacts[2].artifact.path, against=source)
    assert {row.kind for row in result.ledger.cases if not row.passed} >= {"state"}


def test_a_file_of_one_step_is_quantized_on_whole_sequences(source: str, tmp_path: Path) -> None:
    made = export(source.replace(":tagger", ":wide"), to="tflite", out=tmp_path, streaming=True).artifacts[0]
    x = np.random.default_rng(0).standard_normal((40, 6, 8)).astype(np.float32)
    with edgekit.load(made.artifact.path) as runner:
        stream = runner.stream()
        answers = [stream.run({"x": row[None]})["output"] for row in x]
        assert [set(feed) for feed in stream.step_feeds({"x": x[:1]})] == [{"x", "lstm.h", "lstm.c"}] * 6
        labels = np.concatenate(answers).argmax(-1)
    np.savez(tmp_path / "x.npz", x=x, labels=labels)
    target = tmp_path / "q.tflite"
    done = edgekit.quantize(made.artifact.path, scheme="int8", data=f"npz:{tmp_path / 'x.npz'}", out=target, seconds=0)
    assert done.before is not None and done.before.value == 1.0 and done.after is not None
    assert done.after.value > 0.8  # of an untrained network, whose classes lie close together
    card = read_card(target)
    assert card is not None and card.streaming is not None and done.account.integer_operators > 20
    with edgekit.load(target) as runner:
        again = [runner.stream().run({"x": row[None]})["output"] for row in x[:5]]
    off = np.abs(np.concatenate(again) - np.concatenate(answers[:5]))
    scale = np.abs(answers).max()
    assert 0 < off.max() < 0.1 * scale  # 8-bit steps are 1/128 of the range; six of them, through two layers
