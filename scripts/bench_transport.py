"""What a transport costs, in ratios and differences of one run.

    scripts/bench_transport [DEVICE...]     (default: ssh on the loopback, with a server of its own, against cpu)

For each device: seconds from the command (a new interpreter) to the first timed inference of a 20 MB file, which is
sent the first time only, then warm, the devices in turn; and the time of one inference there, which the transport must
not be in.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST = """\
import sys, time
import numpy as np
from edgekit.bench.clock import WarmupRule
from edgekit.devices import open_worker
with open_worker(sys.argv[1]) as worker:
    loaded = worker.load(sys.argv[2])
    feed = {spec.name: np.zeros(spec.resolved(), spec.dtype) for spec in loaded.signature.inputs}
    block = worker.time_block(feed, warmup=WarmupRule(0, 0, 0), min_runs=1, min_ns=0, max_ns=1)
    print(time.time(), flush=True)
    block = worker.time_block(feed, warmup=WarmupRule(20, 0, 10**9), min_runs=200, min_ns=0, max_ns=5 * 10**9)
    print(float(np.median(block.samples_ns)))
"""


def first_inference(device: str, model: Path) -> tuple[float, float]:
    """Seconds from the start of a new process to its first timed inference; median nanoseconds of an inference."""
    started = time.time()
    command = [sys.executable, "-c", FIRST, device, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(done[0]) - started, float(done[1])


def large_model(folder: Path) -> Path:
    """An ONNX file of 20 MB: one product with a matrix of random numbers."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(0).standard_normal((1000, 5000)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1000))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5000))],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(folder / "large.onnx"))
    return folder / "large.onnx"


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[str]:
    """A device over ssh on this machine, with this interpreter; the server is that of the tests."""
    server = runpy.run_path(str(ROOT / "tests" / "devices" / "sshd.py"), run_name="sshd")
    running = server["start_sshd"](folder)
    os.environ["EDGEKIT_SSH"] = running.client
    try:
        yield f"ssh://board?python={sys.executable}"
    finally:
        running.process.terminate()
        running.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("devices", nargs="*", metavar="DEVICE", help="default: ssh on the loopback")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgekit-transport-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        model = large_model(folder)
        others = options.devices or [stack.enter_context(loopback(folder))]
        devices = ["cpu", *others]
        print(f"{model.stat().st_size / 1e6:.1f} MB; seconds from command to first timed inference")
        for device in devices:
            print(f"  {device[:40]:40}  first use {first_inference(device, model)[0]:6.2f} s")
        seconds: dict[str, list[float]] = {device: [] for device in devices}
        medians: dict[str, list[float]] = {device: [] for device in devices}
        for _ in range(options.repeats):
            for device in devices:
                spent, median = first_inference(device, model)
                seconds[device].append(spent)
                medians[device].append(median)
        for device in devices:
            more = statistics.median(a - b for a, b in zip(seconds[device], seconds["cpu"], strict=True))
            ratio = statistics.median(a / b for a, b in zip(medians[device], medians["cpu"], strict=True))
            spent = statistics.median(seconds[device])
            print(f"  {device[:40]:40}  warm {spent:6.2f} s, {more:+.2f} s to cpu; inference {ratio:.3f} of cpu's time")


if __name__ == "__main__":
    main()
