"""The answers of a worker as a real one gives them, for a model y = relu(x) of four floats; nothing runs."""

from __future__ import annotations

import os
import struct
from typing import Any

TENSOR = {"dtype": "float32", "shape": [1, 4]}
TIMED = {"calls": 1.0, "ms": 0.02, "share": 1.0}
NODE = {"name": "relu", "type": "Relu", "by": "CPUExecutionProvider", "layer": None, **TIMED}
METER = {"name": "package-0", "source": "RAPL", "joules": 1.0, "watts": 1.0, "joules_per_run": 0.1, "idle_watts": 0.5,
         "joules_per_run_beyond_idle": 0.05}  # fmt: skip
VALUES: dict[str, dict[str, Any]] = {
    "hello": {"protocol": 1, "edgekit": "0", "python": "3.11.7", "executable": "/usr/bin/python3", "pid": os.getpid(),
              "machine": "0123456789abcdef", "runtimes": {"onnxruntime": "1.31.0", "litert": None}},
    "environment": {
        "cpu": "A CPU", "cpu_id": "model=1", "isa": ["avx2"], "cores": 4, "memory_bytes": 1 << 30, "machine": "x86_64",
        "os": "Linux 6", "python": "3.11.7", "implementation": "cpython", "versions": {"numpy": "2.0"},
        "affinity": [0, 1], "cgroup": {"cpus": "unlimited", "memory_bytes": "unlimited"}, "governor": "unknown",
        "frequency_mhz": "unknown", "temperature_c": 40.0, "load": [0.1, 0.1, 0.1], "busy": 0,
    },
    "memory": {"peak_memory_bytes": 50_000_000},
    "storage": {"folder": "/cache/files", "free_bytes": 1 << 40, "kept_bytes": 0},
    "find": {"path": None},
    "together": {"path": "/cache/files/m.onnx"},
    "lease": {"holder": None},
    "lease_is_mine": {"mine": True},
    "holder": {"holder": None},
    "load": {"signature": {"inputs": [{"name": "x", **TENSOR}], "outputs": [{"name": "y", **TENSOR}]},
             "load_ns": 5_000_000, "runtime": "onnxruntime",
             "runtime_version": "1.31.0", "delegation": None, "peak_memory_bytes": 50_000_000,
             "resident": False, "chip": None},
    "time_block": {"suspended_ns": 0, "discarded": 0},
    "reference": {"ns": 500_000},
    "footprint": {"peak_bytes": 50_000_000, "data_bytes": 50_000_000, "arena_bytes": None},
    "profile": {"tool": "onnxruntime", "runs": 10, "run_ms": 0.02, "total_ms": 0.02, "unattributed_ms": 0.0,
                "resolution_us": 1.0, "types": [{"type": "Relu", "nodes": 1, **TIMED}],
                "layers": [{"layer": None, "nodes": 1, **TIMED}], "by": [{"by": "CPU", "nodes": 1, **TIMED}],
                "nodes": [NODE]},
    "work": {"macs": 1000, "narrow_macs": 0, "bytes": 4096, "types": [{"type": "Gemm", "macs": 1000}], "uncounted": []},
    "peaks": {"flops_per_s": 1e10, "bytes_per_s": 1e10, "memory_bytes_per_s": 1e10},
    "weights": {"weights": 10, "denormal": 0},
    "drop_cache": {"before": 1.0, "after": 0.0},
    "serve": {"given_up": 0, "longest_line": 1, "wall_ns": 1_000_000_000},
    "transfer": {"bytes_in": 16, "bytes_out": 16},
    "energy": {"runs": 10, "seconds": 1.0, "meters": [METER], "refused": []},
}  # fmt: skip
STAGES = ("read and pre-process", "copy in", "run", "copy out", "post-process")


def answer(asked: dict[str, Any], state: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Header and body of the answer. ``state``: what the worker remembers, such as the model it has loaded."""
    command = command_of(asked)
    value = dict(VALUES.get(command, {}))
    header: dict[str, Any] = {"id": asked.get("id"), "ok": True, "value": value}
    if command == "load":
        state["model"] = asked["path"]
    if command == "run" and "model" not in state:
        told = {"class": "DeviceError", "message": "the worker has no model yet"}
        return {"id": asked["id"], "ok": False, "error": told, "arrays": []}, b""
    if command == "put":
        value["path"] = f"/cache/files/{asked['sha256']}{asked['suffix']}" if asked["last"] else None
    rows = arrays(command, asked)
    header["arrays"] = [{"name": name, "dtype": dtype, "shape": [len(data) // 8] if dtype == "<i8" else [1, 4]}
                        for name, dtype, data in rows]  # fmt: skip
    return header, b"".join(data for _, _, data in rows)


def command_of(asked: dict[str, Any]) -> str:
    """What is asked for: a command of the worker, or the function that it is to call."""
    called = str(asked.get("function", "")).partition(":")[2]
    return called.removesuffix("_here") or str(asked["command"])


def arrays(command: str, asked: dict[str, Any]) -> list[tuple[str, str, bytes]]:
    """Name, dtype and bytes of what comes with the answer to ``command``."""
    if command == "run":
        return [("y", "<f4", bytes(16))]
    if command == "time_block":
        count = max(asked["min_runs"], 20) if asked["max_ns"] > 10_000 else asked["min_runs"]
        warm = 20 if asked["warmup"]["max_ns"] else 0
        return [("samples_ns", "<i8", ns(count)), ("warmup_ns", "<i8", ns(warm))]
    names = {
        "serve": ("latency_ns", "service_ns"),
        "stages": STAGES,
        "transfer": (*STAGES[1:4], "device"),
        "reset_cost": ("samples_ns",),
    }
    return [(name, "<i8", ns(20)) for name in names.get(command, ())]


def ns(count: int) -> bytes:
    return struct.pack(f"<{count}q", *(20_000 + 10 * (k % 7) for k in range(count)))
