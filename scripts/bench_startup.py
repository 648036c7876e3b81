"""Start-up of the command line as a ratio, from one interleaved run; see scripts/bench_startup."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR = 2.0
ROUNDS = 40


def main() -> int:
    python = Path(sys.executable)
    commands = {
        "edgekit --help": [str(python.with_name("edgekit")), "--help"],
        "import click": [str(python), "-c", "import click"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(ROUNDS + 2):
        for name in sorted(commands, reverse=bool(round_ % 2)):  # ABBA, so that a slow phase weighs on both
            start = time.perf_counter()
            subprocess.run(commands[name], stdout=subprocess.DEVNULL, check=True)
            if round_ >= 2:  # the first two fill the file cache
                seconds[name].append(time.perf_counter() - start)
    ours, theirs = (statistics.median(seconds[name]) for name in commands)
    ratios = sorted(a / b for a, b in zip(*seconds.values(), strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    ratio = ours / theirs
    print(f"edgekit --help {1e3 * ours:.1f} ms, python -c 'import click' {1e3 * theirs:.1f} ms (medians of {ROUNDS})")
    word = "met" if ratio <= BAR else "MISSED"
    print(f"ratio {ratio:.2f} (middle half of the rounds {low:.2f} to {high:.2f}); bar {BAR:.1f}: {word}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
