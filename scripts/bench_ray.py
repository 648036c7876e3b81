"""A search whose trials train, on one and on two nodes of Ray.

    scripts/bench_ray [--trials 30] [--epochs 60] [--rounds 1] [--write]

A local cluster (``ray.cluster_utils.Cluster``) of nodes with one CPU each, which are processes of this machine: with
fewer cores than nodes, or with other work on them, two nodes cannot be faster than one. The order is one, two, two, one
and so on. Each search begins with an empty folder, in a process of its own; its clock is the search's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MOST = 0.65
NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU()
    return torch.nn.Sequential(*layers, torch.nn.Linear(512, 10)), (torch.zeros(1, 64),)
"""
SEARCH = """
import json, sys, time
from ray.cluster_utils import Cluster
import edgekit
options, nodes = json.loads(sys.argv[1]), int(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for _ in range(nodes - 1):
    cluster.add_node(num_cpus=1)
began = time.monotonic()
result = edgekit.optimize(workers=cluster.address, **options)
seconds = time.monotonic() - began
cluster.shutdown()
print(json.dumps({"seconds": seconds}))
"""


def subject(folder: Path) -> dict[str, Any]:
    """A network and data on which training is most of a trial."""
    (folder / "net.py").write_text(NETWORK, encoding="utf-8")
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(4000, 64)).astype(np.float32)
    np.savez(folder / "data.npz", inputs=inputs, labels=inputs[:, :10].argmax(1))
    return {
        "source": f"{folder}/net.py:make", "data": f"npz:{folder}/data.npz", "sampler": "random", "formats": ["onnx"],
        "runtimes": ["onnxruntime"], "seconds": 0.2, "max_drop": 0.99,
    }  # fmt: skip


def search(options: dict[str, Any], nodes: int, out: Path) -> dict[str, Any]:
    """Seconds of a search on ``nodes`` nodes, and what timing does not decide of its trials."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    command = [sys.executable, "-c", SEARCH, json.dumps({**options, "out": str(out)}), str(nodes)]
    done = subprocess.run(command, env=own, check=True, stdout=subprocess.PIPE, text=True)
    document = json.loads((out / "optimize.json").read_text(encoding="utf-8"))
    rows = sorted(document["trials"], key=lambda row: row["number"])
    decided = [(row["number"], row["parameters"], row.get("sha256")) for row in rows]
    seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return {"nodes": nodes, "seconds": seconds, "decided": decided, "trials": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="keep the figures in docs/search-ray.json")
    given = parser.parse_args()
    runs: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        options = {**subject(Path(place)), "trials": given.trials, "epochs": given.epochs, "batch": given.trials}
        for number in range(given.rounds):
            for nodes in (1, 2) if number % 2 == 0 else (2, 1):
                runs.append(search(options, nodes, Path(place) / f"{number}-{nodes}"))
                print(f"{nodes} nodes: {runs[-1]['seconds']:.1f} s", flush=True)
    times = {nodes: statistics.median(run["seconds"] for run in runs if run["nodes"] == nodes) for nodes in (1, 2)}
    same = all(run["decided"] == runs[0]["decided"] for run in runs)
    ratio = times[2] / times[1]
    from edgekit.bench.environment import environment

    print(
        f"{given.trials} trials: {ratio:.2f} of the time on two nodes (at most {MOST} is wanted); the trials "
        f"{'are the same' if same else 'DIFFER'}; {os.cpu_count()} cores, load before {load:.1f}"
    )
    if given.write:
        figures = {
            "trials": given.trials, "epochs": given.epochs, "seconds": times, "ratio": round(ratio, 3), "same": same,
            "cores": os.cpu_count(), "load_before": round(load, 1), "date": str(date.today()),
            "cpu": environment()["cpu"],
        }  # fmt: skip
        (ROOT / "docs" / "search-ray.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if same and ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
