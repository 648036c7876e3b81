"""Time per operator of a ``.pt2`` file: its graph is gone through node by node, each ATen call under the clock.

On the CPU torch runs an operator to its end before it returns, so that the clock around a call is its time. Views cost
what they cost in Python; of the layers, ``nn_module_stack`` of each node tells.
"""

from __future__ import annotations

from typing import Any

from edgekit.bench.clock import now_ns
from edgekit.extras.profile.rows import Row, document
from edgekit.runtime import Runner
from edgekit.runtime.torch import TorchRunner, limited_threads
from edgekit.types import Feed

MOST_RUNS = 100
WARMUP_RUNS = 3
RESOLUTION_US = 0.1
"""About what reading the clock twice costs."""


def profile(runner: Runner, feed: Feed, seconds: float) -> dict[str, Any]:
    """See :func:`edgekit.extras.profile.profile`."""
    import torch
    from torch.fx import Interpreter, Node

    assert isinstance(runner, TorchRunner)
    times: dict[Node, int] = {}

    class Timed(Interpreter):
        def run_node(self, n: Node) -> Any:
            started = now_ns()
            result = super().run_node(n)
            times[n] = times.get(n, 0) + now_ns() - started
            return result

    arguments = [torch.from_numpy(array.copy()) for _, array in sorted(runner.bound(feed), key=lambda p: int(p[0].key))]
    interpreter = Timed(runner.graph_module)
    total = runs = 0
    with torch.inference_mode(), limited_threads(runner.threads):
        for count in range(WARMUP_RUNS + MOST_RUNS):
            if count == WARMUP_RUNS:
                times.clear()
                total = runs = 0
            started = now_ns()
            interpreter.run(*arguments)
            total += now_ns() - started
            runs += 1
            if count >= WARMUP_RUNS and total > seconds * 1e9:
                break
    rows = [_row(node, ns / 1e6 / runs) for node, ns in times.items() if node.op == "call_function"]
    tool = f"torch {torch.__version__}, graph gone through node by node"
    return document(rows, tool=tool, runs=runs, run_ms=total / 1e6 / runs, resolution_us=RESOLUTION_US)


def _row(node: Any, ms: float) -> Row:
    stack = node.meta.get("nn_module_stack")
    layer = None
    if stack:
        layer = str(list(stack.values())[-1][0]).removeprefix("L['self']").lstrip(".")
    return Row(str(node.name), str(node.target).removesuffix(".default"), "ATen on CPU", ms, layer=layer)
