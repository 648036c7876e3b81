"""edgekit's int8 ONNX beside NNCF's, both in OpenVINO, and float32 and bfloat16. See scripts/compare_openvino.

Files are kept in --out and not made again. Networks of timm have random weights (seed 0) and are calibrated on noise:
times hold, decibels compare the two quantizers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from figures import replaced
from timm_here import use_timm

import edgekit
from edgekit.artifact import open_artifact
from edgekit.bench.environment import environment
from edgekit.data import open_data
from edgekit.data.arrays import save_npz
from edgekit.data.dataset import stratified
from edgekit.data.preprocess import feeds
from edgekit.environments import OPENVINO
from edgekit.errors import EdgekitError

NETWORKS = {
    "cnn": "cnn",
    "resnet18": "timm:resnet18",
    "mobilenetv3_large": "timm:mobilenetv3_large_100",
    "vit_tiny": "timm:vit_tiny_patch16_224",
    "convnext_atto": "timm:convnext_atto",
}
SAMPLES = 40
PAGE = Path("docs/openvino.md")
MARKS = "<!-- scripts/compare_openvino --write: from here -->", "<!-- to here -->"
Row = Mapping[str, Mapping[str, float]]


def make(name: str, folder: Path) -> None:
    """The float file, calibration samples and edgekit's int8 file of a network."""
    float_file, samples, made = (folder / f"{name}{suffix}" for suffix in (".onnx", ".npz", "-int8.onnx"))
    if not float_file.exists():
        import torch

        use_timm()
        torch.manual_seed(0)
        edgekit.export(NETWORKS[name], to="onnx", out=folder, name=name)
    artifact = open_artifact(float_file)
    assert artifact.card is not None
    (spec,) = artifact.card.signature.inputs
    if name == "cnn":
        gathered = feeds(
            stratified(open_data("cifar10@train"), SAMPLES), artifact.card.signature, artifact.card.contract
        )
        save_npz(samples, {spec.name: np.concatenate([feed[spec.name] for feed in gathered])})
    else:
        generator = np.random.default_rng(0)
        shape = (SAMPLES, *spec.resolved()[1:])
        save_npz(samples, {spec.name: generator.normal(size=shape).astype(np.float32)})
    if not made.exists():
        edgekit.quantize(float_file, scheme="int8", out=made, data=f"npz:{samples}", min_snr=0.0, allow_slower=True)


def measured(name: str, folder: Path, isa: str | None) -> Row:
    """Times and decibels by way, from one interleaved run."""
    python = OPENVINO.python()
    if python is None:
        raise SystemExit(f"OpenVINO is not there: {OPENVINO.install}, and nncf beside it")
    more = {} if isa is None else {"ONEDNN_MAX_CPU_ISA": isa}
    command = [python, str(Path(__file__).with_name("openvino_times.py")), str(folder), name]
    done = subprocess.run(command, env={**os.environ, **more}, stdout=subprocess.PIPE, text=True, check=True)
    rows: Row = json.loads(done.stdout.splitlines()[-1])
    return rows


def lines(found: Mapping[str, Row], isa: str | None) -> list[str]:
    told = f", instructions up to `{isa}`" if isa else ""
    date, version = datetime.datetime.now(tz=datetime.UTC).date(), OPENVINO.packages[0].partition("==")[2]
    text = [
        f"{environment()['cpu']}{told}, OpenVINO {version}, {date}. Milliseconds of CPU time on\n"
        "one thread, medians of interleaved blocks:",
        "",
        "| network | f32 | bf16 | edgekit int8 | NNCF int8 | edgekit / NNCF | edgekit, NNCF in dB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        times = " | ".join(f"{row[way]['ms']:.2f}" for way in ("f32", "bf16", "ours", "nncf"))
        ratio = row["ours"]["ms"] / row["nncf"]["ms"]
        text.append(f"| {name} | {times} | {ratio:.2f} | {row['ours']['db']:.1f}, {row['nncf']['db']:.1f} |")
    return [*text, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/openvino"))
    parser.add_argument("--isa", action="append", help="also with instructions up to this one (oneDNN's names)")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.networks or list(NETWORKS)
    text: list[str] = []
    for name in list(wanted):
        try:
            make(name, options.out)
        except EdgekitError as error:
            wanted.remove(name)
            text += [f"{name} is missing: its int8 file was refused ({str(error).partition(';')[0]}).", ""]
    for isa in (None, *(options.isa or ())):
        text += lines({name: measured(name, options.out, isa) for name in wanted}, isa)
    print("\n".join(text))
    if options.write:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), "\n".join(text), *MARKS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
