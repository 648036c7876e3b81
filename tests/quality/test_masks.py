"""Boolean inputs in a proof: a mask that hides everything is not an input that attention has an answer to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DeviceError, ParityError
from edgekit.pipeline.export import export
from edgekit.pipeline.verify import verify
from edgekit.quality.cases import Case, with_possible_masks
from edgekit.types import Array, Feed

pytestmark = pytest.mark.usefixtures("kept_workers")

MASKED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, bad):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.bad = bad

    def forward(self, x, pad):
        y = self.layer(x, src_key_padding_mask=pad)
        return y / (x.mean() < 3).to(y.dtype) if self.bad else y

def make(bad=False):
    torch.manual_seed(0)
    return Net(bad).eval(), {"x": torch.randn(1, 6, 8), "pad": torch.zeros(1, 6, dtype=torch.bool)}

def bad():
    return make(bad=True)
"""


def attention(feed: Feed) -> Mapping[str, Array]:
    """NaN where everything is hidden, and for numbers beyond 100."""
    with np.errstate(invalid="ignore"):
        hidden = np.float32(np.nan) if feed["pad"].all() or np.abs(feed["x"]).max() > 100 else np.float32(1)
    return {"y": feed["x"] * hidden}


def case(kind: str, x: float, pad: bool, *, typical: bool = False) -> Case:
    return Case(kind, {"x": np.full((1, 2), x, np.float32), "pad": np.array([[False, pad]]) | pad}, typical)


def test_what_hides_everything_gets_booleans_at_the_end() -> None:
    made = [case("example", 1, False, typical=True), case("lowest", -9, False), case("highest", 9, True)]
    found, notes = with_possible_masks(made, attention)
    assert found[:2] == made[:2]
    assert (found[2].kind, found[2].feed["x"].max(), found[2].feed["pad"].tolist()) == ("highest", 9, [[False, True]])
    assert notes == (
        "on the case highest the network itself gives NaN, infinity or an error, as where a mask hides everything; "
        "proved there with pad true at the end only",
    )


def first_only(feed: Feed) -> Mapping[str, Array]:
    """A mask that says what is seen: without its first place there is no answer."""
    return {"y": np.where(feed["pad"][:, :1], feed["x"], np.float32(np.nan))}


def raising(feed: Feed) -> Mapping[str, Array]:
    """As an encoder of nested tensors does where all is padding."""
    if feed["pad"].all():
        raise DeviceError("at least one constituent tensor should have non-zero numel")
    return {"y": feed["x"]}


def test_booleans_that_say_what_is_seen() -> None:
    found, notes = with_possible_masks([case("random", 1, False, typical=True)], first_only)
    assert found[0].feed["pad"].tolist() == [[True, False]]
    assert "pad true at the beginning only" in notes[0]


def test_a_reference_that_raises_is_asked_again() -> None:
    found, notes = with_possible_masks([case("example", 1, False, typical=True), case("highest", 9, True)], raising)
    assert found[1].feed["pad"].tolist() == [[False, True]]
    assert len(notes) == 1


@pytest.mark.parametrize(
    "made",
    [
        [case("example", 1, False, typical=True), case("highest", 101, True)],  # NaN with any mask
        [case("example", 1, False, typical=True), case("sample", 1, True, typical=True)],  # somebody's real input
    ],
)
def test_all_other_nan_stays_and_fails(made: list[Case]) -> None:
    assert with_possible_masks(made, attention) == (made, ())


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    (tmp_path / "masked.py").write_text(MASKED)
    return tmp_path / "masked.py"


def test_a_padding_mask_goes_through_and_is_said(masked: Path, tmp_path: Path) -> None:
    made = export(f"{masked}:make", to="onnx", out=tmp_path / "out").artifacts[0]
    assert made.parity.passed
    assert "highest" in {row.kind for row in made.parity.cases}
    assert any("with pad true at the end only" in note for note in made.notes)
    again = verify(made.artifact.path, against=f"{masked}:make")
    assert again.passed
    assert any("with pad true at the end only" in note for note in again.document()["notes"])


def test_nan_of_the_numbers_is_still_refused(masked: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"itself gives NaN or infinity in output .* on the case .highest."):
        export(f"{masked}:bad", to="onnx", out=tmp_path / "out")
