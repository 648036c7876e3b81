"""Networks that pack sequences: files give what torch gives, at many combinations of lengths, or it is said why not.

A conversion costs seconds, so one network holds a layer for each combination of options.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import edgekit
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.recurrent import packing
from edgekit.converters.torch_to_onnx import TorchToOnnx
from edgekit.converters.torch_to_tflite import TorchToTflite
from edgekit.errors import FeedError, ParityError, UnsupportedError
from edgekit.quality.cases import cases
from edgekit.quality.contents import operators
from edgekit.runtime import load
from edgekit.types import Artifact, Format, InputSpec, Network

pytestmark = pytest.mark.usefixtures("kept_workers")

NetworkOf = Callable[..., Network]
CONVERTERS = {"onnx": TorchToOnnx, "tflite": TorchToTflite}
KINDS = ("LSTM", "GRU", "RNN")
STEPS = 6
TOLERANCE = 3e-6
"""Float32 rounding of values below 1 (6e-8 each) through 6 steps of 2 layers, and tanh and sigmoid by polynomials that
are good to some units in the last place."""
COMBINATIONS = [lengths for lengths in itertools.product((1, 2, 5, 6), repeat=3) if STEPS in lengths]
SOME = ((6, 1, 3), (2, 6, 6), (1, 1, 6), (6, 6, 6), (4, 6, 5))


class Packs(nn.Module):
    """One layer from packed to padded sequences: its outputs with the value -7 behind each length, lengths, h_n."""

    def __init__(self, kind: str, *, batch_first: bool = True, enforce_sorted: bool = False, **more: Any) -> None:
        super().__init__()
        self.total = more.pop("total", None)
        self.layer = getattr(nn, kind)(3, 4, batch_first=batch_first, **more)
        self.batch_first, self.enforce_sorted = batch_first, enforce_sorted

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 3), (B,) -> (B, T, H), (B,), (L * D, B, 4); (T, B, 3) and (T, B, H) where not batch first."""
        packed, state = self.layer(pack_padded_sequence(x, lengths, self.batch_first, self.enforce_sorted))
        y, kept = pad_packed_sequence(packed, self.batch_first, -7.0, self.total)
        return y, kept, state[0] if isinstance(state, tuple) else state


class Several(nn.Module):
    """Layers with ``options`` side by side on one (B, T, 3)."""

    def __init__(self, options: Sequence[tuple[str, int, bool, bool, int | None]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleList(
            Packs(kind, num_layers=n, bidirectional=both, batch_first=first, total=total)
            for kind, n, both, first, total in options
        )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for part in self.parts:
            made += part(x if part.batch_first else x.transpose(0, 1), lengths)
        return tuple(made)


def given() -> tuple[Tensor, Tensor]:
    return torch.randn(3, STEPS, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([6, 3, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_options_at_every_combination_of_lengths(kind: str, network_of: NetworkOf) -> None:
    """The captured program, which every format is made of; half of all options: any three meet in each of their
    values."""
    every = itertools.product((kind,), (1, 2), (False, True), (False, True), (None, STEPS))
    options = [option for option in every if sum(map(bool, (option[1] - 1, *option[2:]))) % 2 == 0]
    module, (x, lengths) = Several(options).eval(), given()
    run = Capture(network_of(module, x, lengths), ConversionOptions()).program.module()
    for combination in COMBINATIONS:
        with torch.no_grad():
            wanted, got = module(x, torch.tensor(combination)), run(x, torch.tensor(combination))
        for a, b in zip(wanted, got, strict=True):
            assert a.shape == b.shape and (a - b).abs().max() < TOLERANCE, combination


@pytest.mark.parametrize("format_", CONVERTERS)
def test_the_files_give_what_torch_gives(format_: str, network_of: NetworkOf, tmp_path: Path) -> None:
    options = [
        ("LSTM", 2, True, True, None),
        ("LSTM", 1, True, False, STEPS),
        ("GRU", 1, True, True, None),
        ("GRU", 2, False, False, None),
        ("RNN", 1, True, True, STEPS),
        ("RNN", 2, False, True, None),
    ]
    module, (x, lengths) = Several(options).eval(), given()
    path = tmp_path / f"m.{format_}"
    notes = CONVERTERS[format_]().convert(Capture(network_of(module, x, lengths), ConversionOptions()), path)
    assert not any("unrolled" in note or "is a loop" in note for note in notes)
    if format_ == "tflite":  # 4 + 2 of LSTM, 2 + 2 of RNN
        counts = operators(Artifact(path, Format.TFLITE))
        assert counts["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 6 and counts["UNIDIRECTIONAL_SEQUENCE_RNN"] == 4
        assert counts["WHILE"] == 4
    with load(path) as runner:
        (kind,) = {spec.dtype for spec in runner.signature.inputs if spec.name == "lengths"}
        for combination in SOME:
            with torch.no_grad():
                wanted = module(x, torch.tensor(combination))
            got = runner.run({"x": x.numpy(), "lengths": np.array(combination, kind)})
            for k, expected in enumerate(wanted):
                assert np.abs(got[f"output_{k}"] - expected.numpy()).max() < TOLERANCE, (combination, k)


class Sentence(nn.Module):
    """A classifier as one finds them: words, packed by lengths, the last state of both directions."""

    def __init__(self, kind: str = "GRU", lengths: str = "given") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(10, 6, padding_idx=0)
        self.layer = getattr(nn, kind)(6, 8, bidirectional=True, batch_first=True)
        self.head, self.how = nn.Linear(16, 3), lengths

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T), (B,) -> (B, 3)"""
        count: Any = {"computed": (ids != 0).sum(1), "fixed": [4, 2]}.get(self.how, lengths)
        packed = pack_padded_sequence(self.words(ids), count, batch_first=True, enforce_sorted=False)
        state = self.layer(packed)[1]
        state = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([state[0], state[1]], 1))


IDS = torch.tensor([[3, 4, 9, 1, 0, 0], [5, 2, 0, 0, 0, 0]])
COUNTS = torch.tensor([4, 2])
FACTORY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
import test_packing as t
def given(): return t.Sentence("LSTM"), (t.IDS, t.COUNTS)
def computed(): return t.Sentence("GRU", "computed"), (t.IDS,)
def padded(): return t.Packs("GRU", bidirectional=True), t.given()
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(FACTORY)
    return tmp_path / "nets.py"


def test_a_proof_varies_the_lengths_and_the_card_says_their_range(factory: Path, tmp_path: Path) -> None:
    (made,) = edgekit.export(f"{factory}:given", to="onnx", out=tmp_path, dynamic=["ids:1=words"]).artifacts
    card = made.artifact.card
    assert card is not None
    assert card.contract["lengths"].params == {"most": "words", "sorted": False, "longest": False}
    assert "'lengths' goes from 1 to words" in made.notes
    ran = cases(card.signature, card.contract, examples={"ids": IDS.numpy(), "lengths": COUNTS.numpy()})
    assert {tuple(case.feed["lengths"].tolist()) for case in ran} >= {(1, 1), (6, 6), (4, 2), (2, 2)}
    assert sum(case.kind == "lengths" for case in made.parity.cases) == 5
    assert edgekit.verify(made.artifact.path, against=f"{factory}:given").passed
    with load(made.artifact.path) as runner:
        runner.run({"ids": IDS.numpy(), "lengths": np.array([6, 1])})
        for words, lengths, said in ((IDS, [6, 0], "0 to 6"), (IDS, [7, 1], "1 to 7"), (IDS[:, :3], [3, 4], "3 to 4")):
            with pytest.raises(FeedError, match=rf"got lengths from {said}, wanted 1 to words, .*; cut longer"):
                runner.run({"ids": words.numpy(), "lengths": np.array(lengths)})


@pytest.mark.parametrize("wrong", ["turned", "last", "within"])
def test_a_wrong_rewriting_trips_the_proof(
    wrong: str, factory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reverse direction over all of the padding; the last step in place of that at the length; no padding value."""
    mutants: dict[str, Callable[..., Tensor]] = {
        "turned": lambda rows, x: x.flip(1),
        "last": lambda rows, y: y[:, -1][None],
        "within": lambda rows, longest=False: torch.ones(3, STEPS, 1, dtype=torch.bool),
    }
    monkeypatch.setattr(packing.Rows, wrong, mutants[wrong])
    with pytest.raises(ParityError, match="does not compute what"):
        edgekit.export(f"{factory}:padded", to="onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lengths_that_the_network_computes(factory: Path, tmp_path: Path) -> None:
    """The network refuses a row of no word itself; the proof says that it was left out, and holds for the others."""
    (made,) = edgekit.export(f"{factory}:computed", to="onnx", out=tmp_path).artifacts
    assert any("itself refuses: zeros" in note and "greater than 0" in note for note in made.notes)
    assert {"random", "example", "highest"} <= {case.kind for case in made.parity.cases}


def test_lengths_that_are_fixed(network_of: NetworkOf) -> None:
    module = Sentence("RNN", "fixed").eval()
    capture = Capture(network_of(module, IDS), ConversionOptions())
    with torch.no_grad():
        assert torch.allclose(capture.program.module()(IDS), module(IDS), atol=TOLERANCE)
    assert capture.contract == {} and capture.notes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_batch_and_time_stay_open(kind: str, network_of: NetworkOf, tmp_path: Path) -> None:
    module = Sentence(kind).eval()
    axes = {"ids": {0: "batch", 1: "words"}, "lengths": {0: "batch"}}
    TorchToOnnx().convert(Capture(network_of(module, IDS, COUNTS), ConversionOptions(axes)), tmp_path / "m.onnx")
    with load(tmp_path / "m.onnx") as runner:
        for lengths in ([3], [1, 9, 4], [7, 7, 7, 2]):
            ids = torch.randint(0, 10, (len(lengths), max(lengths)))
            with torch.no_grad():
                wanted = module(ids, torch.tensor(lengths))
            got = runner.run({"ids": ids.numpy(), "lengths": np.array(lengths)})
            assert np.abs(got["output"] - wanted.numpy()).max() < TOLERANCE


def test_what_the_network_asks_of_lengths_is_said(network_of: NetworkOf) -> None:
    def told(**more: Any) -> tuple[InputSpec, tuple[str, ...]]:
        capture = Capture(network_of(Packs("GRU", **more), *given()), ConversionOptions())
        _ = capture.program
        return capture.contract["lengths"], capture.notes

    rule, (note,) = told()
    assert rule.params == {"most": STEPS, "sorted": False, "longest": True}
    assert "one length has to be the largest" in note
    rule, notes = told(enforce_sorted=True, total=9)
    assert rule.params == {"most": STEPS, "sorted": True, "longest": False}
    assert notes == ("'lengths' goes from 1 to 6, sorted from the longest on",)


class Cells(nn.Module):
    """Encoders whose last h and c start a decoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True)
        self.plain = nn.LSTM(3, 4, bias=False)
        self.decoder = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        _, (h, c) = self.encoder(pack_padded_sequence(x, lengths, True, False))
        _, (_, flat) = self.plain(pack_padded_sequence(x.transpose(0, 1), lengths, False, False))
        return c, flat, self.decoder(x, (h[-1:], c[-1:]))[0]


@pytest.mark.parametrize("format_", CONVERTERS)
def test_the_last_cell_state_is_held_behind_the_end(format_: str, network_of: NetworkOf, tmp_path: Path) -> None:
    module, (x, lengths) = Cells().eval(), given()
    capture = Capture(network_of(module, x, lengths), ConversionOptions())
    notes = CONVERTERS[format_]().convert(capture, tmp_path / f"m.{format_}")
    assert not any("unrolled" in note for note in notes)
    assert sum("one more column" in note for note in capture.notes) == 5
    assert not list(module.buffers())  # those of the capture are gone
    garbage = x.clone()
    garbage[:, 3:] = 1e6  # what stands behind an end is not looked at
    with load(tmp_path / f"m.{format_}") as runner:
        (kind,) = {spec.dtype for spec in runner.signature.inputs if spec.name == "lengths"}
        for some, combination in ((x, SOME[0]), (x, SOME[1]), (x, (3, 3, 2)), (garbage, (3, 1, 2))):
            with torch.no_grad():
                wanted = module(some, torch.tensor(combination))[:2]
            got = runner.run({"x": some.numpy(), "lengths": np.array(combination, kind)})
            for k, expected in enumerate(wanted):
                assert np.abs(got[f"output_{k}"] - expected.numpy()).max() < TOLERANCE, (combination, k)


class Touches(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        more = {"proj_size": 2} if how == "cell" else {}
        self.layer, self.head, self.how = nn.LSTM(3, 4, batch_first=True, **more), nn.Linear(4, 2), how

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed, (_, cell) = self.layer(pack_padded_sequence(x, lengths, True, False))
        if self.how == "cell":
            return cell
        if self.how == "sizes":
            return packed.batch_sizes[1] * x
        data = self.head(packed.data) if self.how == "linear" else packed.data.relu()
        return pad_packed_sequence(PackedSequence(data, packed.batch_sizes), True)[0]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cell", r"last cell state \(c_n\) of an nn\.LSTM with a projection"),
        ("sizes", r"PackedSequence\.batch_sizes\[1\]"),
        ("linear", r"\(linear\), and how many rows"),
        ("relu", r"PackedSequence\.data\.relu"),
    ],
)
def test_what_cannot_be_followed_is_refused(how: str, said: str, network_of: NetworkOf) -> None:
    with pytest.raises(UnsupportedError, match=f"'net' cannot be captured: it .*{said}"):
        _ = Capture(network_of(Touches(how), *given()), ConversionOptions()).program
    packed = pack_padded_sequence(*given(), True, False)  # torch's own again, after a failure too
    assert isinstance(packed.data, Tensor) and packed.batch_sizes.tolist() == [3, 3, 2, 1, 1, 1]
