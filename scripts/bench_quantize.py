"""Wall time of ``edgekit quantize --scheme int8`` (with proof and card) over that of onnxruntime's quantize_static.

One row a network, both on the same 64 samples, as commands of their own that take turns. ``quantize_static`` neither
runs nor checks what it made. The bar is for resnet18: what a network of milliseconds takes is the start of processes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timm_here import use_timm

BAR = 3.0
ROUNDS = 3
SAMPLES = 64
FACTORY = """
import sys
import torch

sys.path.insert(0, {scripts!r})
from timm_here import use_timm

def cnn():
    from edgekit.models.cnn import cnn

    torch.manual_seed(0)
    return cnn().eval(), torch.zeros(1, 3, 32, 32)

def resnet18():
    use_timm()
    import timm

    torch.manual_seed(0)
    return timm.create_model("resnet18", pretrained=False).eval(), torch.zeros(1, 3, 224, 224)
"""
STATIC = """
import sys
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

model, samples, out = sys.argv[1:]
name = onnx.load(model, load_external_data=False).graph.input[0].name

class Samples(CalibrationDataReader):
    def __init__(self):
        self.left = iter(np.load(samples)["inputs"][: {samples}])

    def get_next(self):
        sample = next(self.left, None)
        return None if sample is None else {{name: sample[None]}}

quantize_static(
    model, out, Samples(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
)
"""
DATA = """
import sys
import numpy as np

size = int(sys.argv[2])
np.savez(sys.argv[1], inputs=np.random.default_rng(0).standard_normal(({count}, 3, size, size), dtype=np.float32))
"""


def main() -> int:
    edgekit = str(Path(sys.executable).with_name("edgekit"))
    networks = {"cnn": 32} | ({"resnet18": 224} if use_timm() else {})
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "factory.py").write_text(FACTORY.format(scripts=str(Path(__file__).parent)))
        Path(folder, "static.py").write_text(STATIC.format(samples=SAMPLES))
        Path(folder, "data.py").write_text(DATA.format(count=2 * SAMPLES))  # a part is held back, a part is for tests
        for name, size in networks.items():
            run([edgekit, "export", f"factory.py:{name}", "--to", "onnx", "-o", ".", "--name", name], folder)
            run([sys.executable, "data.py", f"{name}.npz", str(size)], folder)
            ratios[name] = row(name, edgekit, folder)
    return 0 if ratios.get("resnet18", 0.0) <= BAR else 1


def row(name: str, edgekit: str, folder: str) -> float:
    """The ratio of one network, which is printed."""
    model, samples = f"{name}.onnx", f"{name}.npz"
    ours = [edgekit, "quantize", model, "--scheme", "int8", "--data", f"npz:{samples}", "--samples", str(SAMPLES)]
    commands = {
        "edgekit": [*ours, "--seconds", "0", "--min-snr", "0", "-o", f"{name}.int8.onnx"],  # its weights are random
        "quantize_static": [sys.executable, "static.py", model, samples, f"{name}.static.onnx"],
    }
    seconds: dict[str, list[float]] = {tool: [] for tool in commands}
    for round_ in range(ROUNDS + 1):
        for tool in sorted(commands, reverse=bool(round_ % 2)):  # ABBA, so that a slow phase weighs on both
            start = time.perf_counter()
            run(commands[tool], folder)
            if round_ >= 1:  # the first fills the file cache
                seconds[tool].append(time.perf_counter() - start)
    own, theirs = (statistics.median(seconds[tool]) for tool in commands)
    ratios = sorted(a / b for a, b in zip(*seconds.values(), strict=True))
    print(
        f"{name}: edgekit quantize with proof {own:.1f} s, quantize_static {theirs:.1f} s, ratio {own / theirs:.2f} "
        f"(rounds {ratios[0]:.2f} to {ratios[-1]:.2f}; bar for resnet18: {BAR:.1f})",
        flush=True,
    )
    return own / theirs


def run(command: list[str], folder: str) -> None:
    environment = {**os.environ, "LITERT_TORCH_SHOW_PROGRESS": "n"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
