"""What hostile devices put in the place of an honest value."""

from __future__ import annotations

from typing import Any

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202eevil\r\n\x7f"
VALUES: dict[str, dict[str, tuple[Any, ...]]] = {
    "hello": {
        "protocol": (99, "1", True, ...), "pid": (-1, "x", 1e300), "runtimes": ([], {"onnxruntime": 5}),
        "machine": (None, "x" * 1_000_000), "executable": (5,), "edgekit": ({},),
    },
    "environment": {
        "cores": (-1, 1.5, [], 10**30), "isa": ("avx", [1]), "versions": ([], {"numpy": []}), "cpu": (..., {}),
        "memory_bytes": (1e300, -5), "load": (["much"], [1e300]), "cgroup": (None,), "temperature_c": ([],),
        "affinity": ([-1],), "busy": (-1,),
    },
    "holder": {"holder": ("ann", {"owner": "ann"}, {"owner": "a", "held_s": 1, "left_s": 1e300},
                          {"owner": "a", "held_s": "x", "left_s": 1})},
    "lease": {"holder": ([], {"owner": ESCAPES * 100, "held_s": 0, "left_s": 0})},
    "lease_is_mine": {"mine": (1, "yes", None)},
    "storage": {"free_bytes": ("much", -1, 1e300), "folder": (None,)},
    "find": {"path": (5, "", "relative", "/" + "x" * 5000, "/folder/")},
    "put": {"path": (None, 5)},
    "load": {
        "signature": (None, [], {"inputs": []}), "signature.inputs": (5, [{}], {}),
        "signature.inputs.0.name": (5, None, "x" * 100_000), "signature.inputs.0.dtype": ("object", "float128", "U5"),
        "signature.inputs.0.shape": (5, [-1], [1.5], [[1]], [1] * 100, [1 << 31, 1 << 31], [""], ["n" * 100_000]),
        "signature.outputs.0.shape": ("14", [None], [1 << 40]), "load_ns": (-1, 1.5, 1e300, "x"),
        "runtime": (None, "x" * 1000),
        "delegation": ([], {"nodes": 1}, {"nodes": -1, "delegated": 0, "by": "x", "left": []}),
        "peak_memory_bytes": (-5, "x", 1 << 60), "resident": ("yes", None), "chip": ([],),
    },
    "time_block": {"suspended_ns": (-1, "x", 1e300), "discarded": (None, -1)},
    "memory": {"peak_memory_bytes": ("x", [], -1)},
    "footprint": {"arena_bytes": ([], -1), "data_bytes": ("x", 1e300)},
    "reference": {"ns": (0, -1, 1e300, "x")},
    "profile": {"types": (5, [{}]), "run_ms": (-1, 1e300), "nodes": ("x",), "runs": (0,), "tool": (None,)},
    "work": {"macs": ("x", -1, 10**30), "bytes": (0,), "types": ([5],), "uncounted": ({},)},
    "peaks": {"flops_per_s": (0, -1, "x"), "bytes_per_s": (1e300,)},
    "weights": {"weights": ("x",), "denormal": (-1,)},
    "drop_cache": {"after": (2, "x"), "before": (-1,)},
    "serve": {"given_up": (-1, "x"), "wall_ns": (0,), "longest_line": (None,)},
    "energy": {"meters": (5, [{"name": "x"}]), "runs": (0,), "seconds": (0,)},
}  # fmt: skip
"""Command -> place in its value -> what stands there instead."""
