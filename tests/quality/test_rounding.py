"""A network that amplifies rounding is allowed its own rounding, measured in float64; a wrong file is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.adapter import adapt
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.quality.cases import Case
from edgekit.quality.parity import MOST, ORDERS, prove
from edgekit.quality.rounding import own_rounding
from edgekit.types import Array, Card, Feed, Network, Task


class Steep(nn.Module):
    """Adds a large number and takes it off again, times a lot: float32 has few digits left."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1000.0))

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 10000.0) - 10000.0) * self.factor


def captured() -> Capture:
    module, examples, signature = adapt(Steep(), (torch.rand(1, 50),), {})
    return Capture(Network(module, examples, Card("steep", "custom", Task(), signature)), ConversionOptions())


def test_float64_tells_how_far_float32_is_off() -> None:
    capture = captured()
    feed = {"x": np.random.default_rng(0).random((1, 50), np.float32)}
    exact = feed["x"].astype(np.float64) * 1000
    found = own_rounding(capture, feed)["output"]
    assert np.isclose(found, np.abs(capture.reference(feed)["output"] - exact).max(), rtol=1e-3)
    assert 0.1 < found < 1  # half of float32's spacing at 10,000 is 5e-4, times 1,000


def test_a_module_that_makes_float32_of_its_own_is_allowed_nothing() -> None:
    class Stuck(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ torch.ones(4, 2, dtype=torch.float32)

    module, examples, signature = adapt(Stuck(), (torch.rand(1, 4),), {})
    capture = Capture(Network(module, examples, Card("stuck", "custom", Task(), signature)), ConversionOptions())
    assert own_rounding(capture, examples) == {}


def judged(off: float, own: float, asked: list[Feed]) -> tuple[bool, float, tuple[str, ...]]:
    """A file that is ``off`` from a reference whose outputs are 1 and whose own rounding is ``own``."""

    def candidate(feed: Feed) -> Mapping[str, Array]:
        return {"y": np.array([1 + off])}

    def rounding(feed: Feed) -> Mapping[str, float]:
        asked.append(feed)
        return {"y": own}

    ledger = prove(lambda feed: {"y": np.ones(1)}, candidate, [Case("random", {}, True)], rounding=rounding)
    return ledger.passed, ledger.tolerance, ledger.notes


def test_the_limit_is_widened_only_where_it_is_needed_and_said() -> None:
    asked: list[Feed] = []
    assert judged(5e-5, 1e-4, asked) == (True, 1e-4, ())
    assert not asked, "a case that passes costs nothing"
    passed, limit, notes = judged(4e-4, 3e-5, asked)
    assert (passed, limit) == (True, ORDERS * 3e-5)
    assert notes == ("case 'random': float32 itself rounds by 3.0e-05 there (against float64), so 4.8e-04 was allowed",)
    assert judged(1e-2, 3e-5, asked)[:2] == (False, 1e-4), "a file that is wrong stays wrong, by the usual limit"
    assert judged(1e-3, 0.0, asked)[:2] == (False, 1e-4)


def test_a_network_that_is_far_from_itself_is_not_a_measure() -> None:
    """As one that draws random numbers, which float64 draws anew."""
    assert judged(5e-3, 1.0, [])[:2] == (False, 1e-4)
    assert judged(MOST / 2, 1.0, [])[0]
