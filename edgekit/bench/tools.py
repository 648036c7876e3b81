"""Programs that time a model by themselves: how they are called, and what they print. Pure text in, figures out.

``benchmark_model`` of TFLite and LiteRT (tensorflow/lite/tools/benchmark) and ``onnxruntime_perf_test``
(onnxruntime/test/perftest). They keep their samples to themselves: what they do not print is None, nothing is derived.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edgekit.errors import DeviceError
from edgekit.results.measures import ToolRun
from edgekit.types import SUPPORTED_SAMPLES, Format

_NUMBER: Final = r"(\d{1,15}(?:\.\d{0,15})?(?:e[+-]?\d{1,2})?)(?![\w.])"
"""Of so few digits that it is a float, and a finite one."""
_COUNT: Final = r"(\d{1,12})"
_COUNTED: Final = re.compile(rf"count={_COUNT} (.*)")
_FIGURE: Final = re.compile(rf"\b(\w+)={_NUMBER}")
_TIMINGS: Final = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_REPLACED: Final = re.compile(r"Replacing (\d{1,6}) out of (\d{1,6}) node\(s\) with delegate \((\w+)\)")
_MEMORY: Final = re.compile(rf"emory footprint.*\(MB\): init={_NUMBER} overall={_NUMBER}")
_PEAK: Final = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_ONNX: Final = {
    "load_ms": (r"Session creation time cost: {} s", 1e3),
    "first_ms": (r"First inference time cost: {} ms", 1.0),
    "mean_ms": (r"Average inference time cost(?: total)?: {} ms", 1.0),
    "min_ms": (r"Min Latency: {} s", 1e3),
    "max_ms": (r"Max Latency: {} s", 1e3),
    "p50": (r"P50 Latency: {} s", 1e3),
    "p90": (r"P90 Latency: {} s", 1e3),
    "p99": (r"P99 Latency: {} s", 1e3),
}
MB: Final = 1 << 20
_READ, _LINE = 1 << 20, 2000
"""Characters that are read of what a tool says, its last ones, and of each line."""


@dataclass(frozen=True)
class Tool:
    """One kind of tool. ``name`` is also what the runtime is called in results."""

    name: str
    format: Format

    def arguments(self, model: str, threads: int, seconds: float, *, memory: bool = False) -> list[str]:
        """Options for ``seconds`` of timed runs after a fifth as much warm-up; ``memory``: for its largest memory."""
        if self.format is Format.ONNX:
            return ["-I", "-s", "-m", "duration", "-t", str(max(round(seconds), 1)), "-x", str(threads), model]
        options = {"graph": model, "num_threads": threads, "num_runs": 1, "min_secs": f"{seconds:.3f}"}
        options |= {"max_secs": f"{5 * seconds:.3f}", "warmup_runs": 1, "warmup_min_secs": f"{seconds / 5:.3f}"}
        options |= {"report_peak_memory_footprint": "true"} if memory else {}
        return [f"--{key}={value}" for key, value in options.items()]

    def read(self, said: str) -> ToolRun:
        """The figures in what it printed.

        Raises:
            DeviceError: they are not there, with its last error; or no run took any time.
        """
        shown = "\n".join(line[:_LINE] for line in said[-_READ:].splitlines())
        found = _read_onnx(shown) if self.format is Format.ONNX else _read_tflite(shown)
        if found is None:
            raise DeviceError(f"{self.name} gave no times: {last_words(shown)}")
        if not (found.count and found.mean_ms and all(found.percentiles.values())):
            raise DeviceError(f"{self.name} says that {found.count} runs took {found.mean_ms:g} ms; run it by hand")
        return found


TOOLS: Final = (
    Tool("onnxruntime_perf_test", Format.ONNX),
    Tool("benchmark_model", Format.TFLITE),
)


def tool_of(file_name: str) -> Tool:
    """Which tool a file is, by its name: all but ``onnxruntime_perf_test`` are taken for ``benchmark_model``."""
    return next((tool for tool in TOOLS if tool.name in file_name), TOOLS[-1])


def last_words(said: str) -> str:
    """The line that tells most of why a tool failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"ERROR|error|.*(Failed|failed|not found|Permission denied)", line)]
    return (errors or lines or ["it said nothing"])[0 if errors else -1][:300]


def _read_tflite(said: str) -> ToolRun | None:
    timings, counted = _TIMINGS.search(said), _COUNTED.findall(said)
    if timings is None or not counted:
        return None
    init, first, _, mean = (float(value) / 1e3 for value in timings.groups())
    told = {key: float(value) for key, value in _FIGURE.findall(counted[-1][1])}  # the last one: the timed runs
    count, replaced = int(counted[-1][0]), _REPLACED.findall(said)
    median = told.get("median")
    peak, memory = _PEAK.search(said), _MEMORY.search(said)
    nodes = int(replaced[0][1]) if replaced else None
    return ToolRun(
        count=count,
        mean_ms=mean,
        min_ms=_ms(told.get("min")),
        max_ms=_ms(told.get("max")),
        std_ms=_ms(told.get("std")),
        load_ms=init,
        first_ms=first,
        percentiles={} if median is None or count < SUPPORTED_SAMPLES[50] else {"p50": median / 1e3},
        told={"count": count, **told, **({"memory_mb": float(memory[2])} if memory else {})},
        nodes=nodes,
        delegated=None if nodes is None else min(sum(int(row[0]) for row in replaced), nodes),
        by=", ".join(dict.fromkeys(row[2] for row in replaced)) or None,
        memory_bytes=None if peak is None else round(float(peak[1]) * MB),
    )


def _read_onnx(said: str) -> ToolRun | None:
    found: dict[str, float] = {}
    for key, (pattern, scale) in _ONNX.items():
        match = re.search(pattern.format(_NUMBER), said)
        if match:
            found[key] = float(match[1]) * scale
    runs = re.search(rf"Total inference requests: {_COUNT}\b", said)
    if runs is None or "mean_ms" not in found:
        return None
    count, peak = int(runs[1]), re.search(r"Peak working set size: (\d{1,15}) bytes", said)
    supported = [f"p{percent}" for percent in (50, 90, 99) if count >= SUPPORTED_SAMPLES[percent]]
    given = {key: found[key] for key in supported if key in found}
    return ToolRun(
        count=count,
        mean_ms=found["mean_ms"],
        min_ms=found.get("min_ms"),
        max_ms=found.get("max_ms"),
        load_ms=found.get("load_ms"),
        first_ms=found.get("first_ms"),
        percentiles=given,
        told={"count": count, **found},
        memory_bytes=None if peak is None else int(peak[1]),
    )


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1e3
