"""docs/card.md: its table is that of today, its words give the same numbers, and it names every field there is."""

from __future__ import annotations

import cmath
import dataclasses
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.model_metadata import _ContractParams
from edgekit.types import Card, InputSpec, Quality, QuantizedTensor, SelfTest, Step, Streaming, Task


@pytest.fixture
def script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("card_numbers", root / "scripts/card_numbers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_today(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.written(page) == page, "run scripts/card_numbers"


def test_the_words_of_the_page_give_its_numbers(script: ModuleType) -> None:
    """The five steps of the page in plain Python, with a transform summed up term by term."""
    rate, window, hop, n_fft, bands, fmin, fmax, floor, least = 8000, 200, 128, 256, 40, 20, 4000, 1e-6, 0.1
    tones = [(0.7, 440), (0.3, 1500)]
    x = [n / 455 * sum(a * math.sin(2 * math.pi * f * n / rate) for a, f in tones) for n in range(456)]
    low, high = (2595 * math.log10(1 + f / 700) for f in (fmin, fmax))
    corners = [700 * (10 ** ((low + (high - low) * k / (bands + 1)) / 2595) - 1) for k in range(bands + 2)]
    rows = [line.split("|")[1:-1] for line in script.table().splitlines()[2:]]
    for t in range(3):
        y = [x[t * hop + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / window)) for n in range(window)]
        turn = [cmath.exp(-2j * math.pi * k / n_fft) for k in range(n_fft)]
        power = [abs(sum(v * turn[k * n % n_fft] for n, v in enumerate(y))) ** 2 for k in range(n_fft // 2 + 1)]
        level = max(least, *(abs(v) for v in x[: t * hop + window]))
        for row in rows:
            a, b, c = corners[int(row[0]) : int(row[0]) + 3]
            weights = [max(0.0, min((k * rate / n_fft - a) / (b - a), (c - k * rate / n_fft) / (c - b)))
                       for k in range(n_fft // 2 + 1)]  # fmt: skip
            energy = sum(w * p for w, p in zip(weights, power, strict=True))
            for place, value in ((1 + t, energy), (4 + t, energy / level**2)):
                assert float(row[place]) == pytest.approx(math.log(max(value, floor)), abs=2e-4)  # four digits, float32


def test_every_field_is_on_the_page(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    kinds = (Card, Task, InputSpec, Streaming, Step, Quality, SelfTest, QuantizedTensor)
    names = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    audio = ("rate", "window", "hop", "n_fft", "bands", "fmin", "fmax", "floor", "frames", "level", "least", "pad")
    assert set(audio) <= set(_ContractParams.__annotations__)
    assert [name for name in (*names, *audio, "schema", "initial") if f"`{name}`" not in page] == []
