"""What a figure was measured on. Cheap (a few file reads), since every document carries it.

What cannot be seen is the word ``unknown``, never a guess.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.artifact import library_versions
from edgekit.runtime.cpu import cpu_rows, instruction_sets

UNKNOWN = "unknown"
CGROUPS = Path("/sys/fs/cgroup")
RUNTIMES = (
    "numpy", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn", "ai-edge-litert",
    "tflite-runtime", "torch", "tensorflow", "tensorflow-cpu", "onnx",
    "litert-torch", "ai-edge-quantizer",
)  # fmt: skip
"""Distributions whose versions are recorded, those of them that are installed."""
IDENTITY = ("vendor_id", "cpu family", "model", "stepping", "cpu implementer", "cpu part", "cpu variant")
"""Rows of ``/proc/cpuinfo`` that tell two CPUs of the same marketing name apart."""
TOLD_FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "fphp", "bf16", "i8mm", "sve", "sve2", "rv64gcv",
)  # fmt: skip
"""The instruction sets that decide which kernels run and what int8 costs."""


def environment() -> dict[str, Any]:
    """CPU, instruction sets, cores, memory, limits, load, temperature, OS, Python and runtime versions, for JSON."""
    found = dict(_fixed())
    found |= {
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else UNKNOWN,
        "cgroup": {"cpus": _cgroup_cpus(), "memory_bytes": _cgroup_memory()},
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or UNKNOWN,
        "frequency_mhz": _frequency_mhz(),
        "temperature_c": _temperature_c(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else UNKNOWN,
        "busy": busy(),
    }
    return found


def cpu_model() -> str:
    """Name of the CPU as the system gives it, ``unknown`` where it gives none."""
    return str(_fixed()["cpu"])


def busy() -> int | str:
    """Threads running or waiting for a core right now on the whole machine, without this one (Linux)."""
    fields = _read("/proc/loadavg").split()
    if len(fields) < 4 or "/" not in fields[3]:
        return UNKNOWN
    return max(int(fields[3].partition("/")[0]) - 1, 0)


def usable_cores() -> int:
    """Cores this process may use: the smaller of its affinity and its cgroup quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cpus()
    return max(1, min(allowed, int(quota))) if isinstance(quota, float) else allowed


@functools.cache
def _fixed() -> dict[str, Any]:
    rows, flags = cpu_rows(), instruction_sets()
    return {
        "cpu": _cpu_name(rows) or platform.processor() or UNKNOWN,
        "cpu_id": " ".join(f"{key.removeprefix('cpu ')}={rows[key]}" for key in IDENTITY if key in rows) or UNKNOWN,
        "isa": [flag for flag in TOLD_FLAGS if flag in flags],
        "cores": os.cpu_count() or UNKNOWN,
        "memory_bytes": _memory_bytes(),
        "machine": platform.machine(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "versions": library_versions(*RUNTIMES),
    }


def _cpu_name(rows: Mapping[str, str]) -> str:
    named = rows.get("model name") or rows.get("hardware") or rows.get("uarch")
    parts = [f"{key.removeprefix('cpu ')} {rows[key]}" for key in ("cpu implementer", "cpu part") if key in rows]
    return named or ("ARM " + ", ".join(parts) if parts else "")


def _memory_bytes() -> int | str:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return UNKNOWN


def _cgroup_cpus() -> float | str:
    """Cores the cgroup grants (quota over period), ``unlimited``, or ``unknown``; version 2, then version 1."""
    pairs = [text.partition(" ")[::2] for place in _cgroup_path() if (text := _read(place / "cpu.max"))]
    if not pairs:
        old = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
        pairs = [(_read(old[0]), _read(old[1]))]
    pairs = [(quota, period) for quota, period in pairs if quota and period]
    limits = [int(quota) / int(period) for quota, period in pairs if quota not in ("max", "-1")]
    return round(min(limits), 3) if limits else "unlimited" if pairs else UNKNOWN


def _cgroup_memory() -> int | str:
    texts = [text for place in _cgroup_path() if (text := _read(place / "memory.max"))]
    texts = texts or [text for text in (_read("/sys/fs/cgroup/memory/memory.limit_in_bytes"),) if text]
    limits = [int(text) for text in texts if text != "max" and int(text) < 1 << 60]
    return min(limits) if limits else "unlimited" if texts else UNKNOWN


@functools.cache
def _cgroup_path() -> tuple[Path, ...]:
    """This process's group and all above it: each may limit."""
    root = CGROUPS
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            folder = root / line[3:].lstrip("/")
            return (folder, *(place for place in folder.parents if place.is_relative_to(root)))
    return (root,)


def _frequency_mhz() -> float | str:
    text = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return round(int(text) / 1000, 1) if text.isdigit() else UNKNOWN


def _temperature_c() -> float | str:
    readings = [_read(zone / "temp") for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*"))]
    degrees = [int(text) / 1000 for text in readings if text.lstrip("-").isdigit()]
    return max(degrees) if degrees else UNKNOWN


def _read(path: str | Path) -> str:
    """The text of a small system file, empty where it is not there or not readable."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
