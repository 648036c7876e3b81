#!/usr/bin/env python3
"""A stand-in for benchmark_model, for tests: what the real one prints, with times that follow from the file's size.

The lines are those of the binary for android_aarch64 (TensorFlow 2.16 and later), as its users published them.
``$STANDIN_TOOL`` may say ``old`` (no percentiles, as before 2.16), ``crash`` or ``hang``.
"""

from __future__ import annotations

import os
import signal
import sys
import time

options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
how = os.environ.get("STANDIN_TOOL", "")
with open(options["graph"], "rb") as model:
    size = len(model.read())
if how == "hang":
    time.sleep(600)
if how == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if how == "refuse":
    print("ERROR: Node number 57 (BATCH_MATMUL) failed to prepare.")
    print("ERROR: Failed to allocate tensors!\nERROR: Benchmarking failed.")
    sys.exit(1)
mean = size / 10
more = "" if how == "old" else f" p5={mean * 0.98:.0f} median={mean * 0.99:.0f} p95={mean * 1.1:.0f}"
print("INFO: STARTING!\nINFO: Log parameter values verbosely: [0]")
print(f"INFO: Num threads: [{options['num_threads']}]\nINFO: Graph: [{options['graph']}]\nINFO: Signature to run: []")
print("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.")
print("VERBOSE: Replacing 7 out of 9 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions.")
print("INFO: Initialized session in 119.515ms.")
print(
    "INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds."
)
print(
    "INFO: count=9 first=87112 curr=51629 min=51629 max=87112 avg=58147.4 std=11478 p5=51629 median=51962 p95=87112\n"
)
print(
    "INFO: Running benchmark for at least 1 iterations and at least 1 seconds but terminate if exceeding 150 seconds."
)
print(
    f"INFO: count=50 first={mean:.0f} curr={mean:.0f} min={mean * 0.9:.0f} max={2 * mean:.0f} avg={mean:g} "
    f"std=60{more}\n"
)
print(
    "INFO: Inference timings in us: Init: 119515, First inference: 87112, Warmup (avg): 58147.4, "
    f"Inference (avg): {mean:g}"
)
print("INFO: Memory footprint delta from the start of the tool (MB): init=55.4961 overall=55.4961")
if options.get("report_peak_memory_footprint") == "true":
    print("INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383")
