"""Run by the interpreter that has a runtime: two models in one process, and what is left of closed ones.

    python conformance_program.py ARCHIVE RUNTIME SMALL LARGE

ARCHIVE is edgekit's device layer. Prints a JSON object.
"""

from __future__ import annotations

import gc
import json
import os
import sys

sys.path.insert(0, sys.argv[1])

import numpy as np

from edgekit.bench.memory import process_memory
from edgekit.runtime import load

ROUNDS = 20


def main() -> None:
    runtime, small, large = sys.argv[2:5]
    sys.stdout, answer = sys.stderr, sys.stdout
    feeds = [{"x": np.full((1, 4), k, np.float32)} for k in range(3)]
    first, second = load(small, runtime=runtime), load(small, runtime=runtime)
    alone = [first.run(feed)["y"].tolist() for feed in feeds]
    between = []
    for feed, other in zip(feeds, reversed(feeds), strict=True):
        between.append(first.run(feed)["y"].tolist())
        second.run(other)
    first.close()
    after = second.run(feeds[1])["y"].tolist()
    second.close()
    held = []
    for _ in range(ROUNDS):
        with load(large, runtime=runtime) as runner:
            (spec,) = runner.signature.inputs
            runner.run({spec.name: np.zeros(spec.resolved(), np.float32)})
        del runner
        gc.collect()
        held.append(process_memory()["resident_bytes"])
    json.dump({"alone": alone, "between": between, "after": after, "held": held}, answer)
    answer.flush()
    os._exit(0)


main()
