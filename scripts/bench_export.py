"""Wall time of ``edgekit export`` (conversion and proof, both formats) over that of the raw exporters."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR = 2.0
ROUNDS = 5
FACTORY = """
import torch
from edgekit.models.cnn import cnn

def network():
    torch.manual_seed(0)
    return cnn().eval(), torch.zeros(1, 3, 32, 32)
"""
RAW = """
import torch
from factory import network

module, example = network()
torch.onnx.export(module, (example,), "raw.onnx", dynamo=True, external_data=False)
import litert_torch

litert_torch.convert(module, (example,)).export("raw.tflite")
"""


def main() -> int:
    edgekit = str(Path(sys.executable).with_name("edgekit"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "factory.py").write_text(FACTORY)
        Path(folder, "raw.py").write_text(RAW)
        commands = {
            "edgekit export": [edgekit, "export", "factory.py:network", "--to", "onnx", "--to", "tflite", "-o", "out"],
            "raw exporters": [sys.executable, "raw.py"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(ROUNDS + 1):
            for name in sorted(commands, reverse=bool(round_ % 2)):  # ABBA, so that a slow phase weighs on both
                start = time.perf_counter()
                run(commands[name], folder)
                if round_ >= 1:  # the first fills the file cache
                    seconds[name].append(time.perf_counter() - start)
    ours, theirs = (statistics.median(seconds[name]) for name in commands)
    ratios = sorted(a / b for a, b in zip(*seconds.values(), strict=True))
    ratio = ours / theirs
    print(f"edgekit export with proof {ours:.2f} s, the two raw exporters {theirs:.2f} s (medians of {ROUNDS} rounds)")
    word = "met" if ratio <= BAR else "MISSED"
    print(f"ratio {ratio:.2f} (rounds {ratios[0]:.2f} to {ratios[-1]:.2f}); bar {BAR:.1f}: {word}")
    return 0 if ratio <= BAR else 1


def run(command: list[str], folder: str) -> None:
    environment = {**os.environ, "LITERT_TORCH_SHOW_PROGRESS": "n"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
