"""Writes the table of log-mel numbers into docs/card.md, between its marks; see scripts/card_numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.logmel import log_mel, speech
from edgekit.types import Array

PAGE = Path(__file__).resolve().parent.parent / "docs" / "card.md"
BEGIN, END = "<!-- numbers: scripts/card_numbers -->", "<!-- end of numbers -->"
RATE, SAMPLES, LEAST = 8000, 456, 0.1
SHOWN = (0, 4, 8, 10, 12, 16, 20, 24, 26, 28, 30)
"""Bands of the table; the last lies at the floor."""


def sound() -> Array:
    """456 samples at 8 kHz, 3 frames: two tones that become louder; float64 (samples,)."""
    n = np.arange(SAMPLES)
    tones = 0.7 * np.sin(2 * np.pi * 440 * n / RATE) + 0.3 * np.sin(2 * np.pi * 1500 * n / RATE)
    return np.asarray(n / (SAMPLES - 1) * tones)


def table() -> str:
    """Features of :func:`sound` as a table of Markdown: a row for each band shown, for both rules of the level."""
    features = speech(RATE)
    plain, running = log_mel(sound(), features), log_mel(sound(), features, LEAST)
    head = ["band", *(f"as is, frame {k}" for k in range(3)), *(f"running, frame {k}" for k in range(3))]
    rows = [[str(b), *(f"{v:.4f}" for v in (*plain[:, b], *running[:, b]))] for b in SHOWN]
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(page: str) -> str:
    """``page`` with the table of today."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
