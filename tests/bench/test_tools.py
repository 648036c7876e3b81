"""What timing programs print, as figures: real outputs that users published, cut to the lines that count."""

from __future__ import annotations

import pytest

from edgekit.bench.tools import TOOLS, tool_of
from edgekit.errors import DeviceError

ONNX, TFLITE = TOOLS
NEWER = """\
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 2168 out of 2168 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions
INFO: The input model file size (MB): 24.6229
INFO: Initialized session in 119.515ms.
INFO: count=9 first=87112 curr=51629 min=51629 max=87112 avg=58147.4 std=11478 p5=51629 median=51962 p95=87112

INFO: count=1000 first=52162 curr=49785 min=49088 max=686105 avg=63743.2 std=60716 p5=49620 median=51891 p95=68628

INFO: Inference timings in us: Init: 119515, First inference: 87112, Warmup (avg): 58147.4, Inference (avg): 63743.2
INFO: Memory footprint delta from the start of the tool (MB): init=55.4961 overall=55.4961
"""
OLDER = """\
count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982

Inference timings in us: Init: 3337, First inference: 81913, Warmup (avg): 58984.7, Inference (avg): 56265.8
Peak memory footprint (MB): init=1.26562 overall=26.6641
"""
LARGE = """\
count=4 first=1 curr=1 min=1 max=1.2e+07 avg=1.05e+07 std=1
Inference timings in us: Init: 1e+06, First inference: 2e+06, Warmup (avg): 1, Inference (avg): 1.05e+07
"""
FAILED = """\
VERBOSE: Replacing 2136 out of 2168 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 65 partitions
ERROR: Node number 57 (BATCH_MATMUL) failed to prepare.
ERROR: Failed to allocate tensors!
ERROR: Benchmarking failed.
"""
PERF_TEST = """\
Session creation time cost: 0.0102016 s
First inference time cost: 2 ms
Total inference time cost: 0.185739 s
Total inference requests: 100
Average inference time cost: 1.85739 ms
Total inference run time: 0.18581 s
Number of inferences per second: 538.184
Avg CPU usage: 96 %
Peak working set size: 36696064 bytes
Runs:100
Min Latency: 0.00183404 s
Max Latency: 0.00190312 s
P50 Latency: 0.00185674 s
P90 Latency: 0.00187215 s
P95 Latency: 0.00187215 s
P99 Latency: 0.00190312 s
"""


def test_a_newer_benchmark_model() -> None:
    run = TFLITE.read(NEWER)
    assert (run.count, run.mean_ms, run.min_ms, run.max_ms) == (1000, pytest.approx(63.7432), 49.088, 686.105)
    assert run.percentiles == {"p50": 51.891} and run.told["p95"] == 68628
    assert (run.load_ms, run.first_ms, run.std_ms) == (119.515, 87.112, 60.716)
    assert (run.nodes, run.delegated, run.by) == (2168, 2168, "TfLiteXNNPackDelegate")
    assert run.memory_bytes is None and run.told["memory_mb"] == 55.4961  # a difference is not a peak


def test_an_older_one_gives_no_median() -> None:
    run = TFLITE.read(OLDER)
    assert run.percentiles == {} and run.mean_ms == pytest.approx(56.2658) and run.nodes is None and run.by is None
    assert (
        TFLITE.read(OLDER + "Overall peak memory footprint (MB) via periodic monitoring: 13.5\n").memory_bytes
        == 14155776
    )


def test_large_numbers_and_few_runs() -> None:
    run = TFLITE.read(LARGE.replace("std=1\n", "std=1 p5=1 median=1.1e+07 p95=1\n"))
    assert run.mean_ms == 10500.0 and run.max_ms == 12000.0 and run.load_ms == 1000.0
    assert run.percentiles == {}  # four runs support no p50, whatever is printed


@pytest.mark.parametrize(
    ("said", "words"),
    [(FAILED, "Node number 57"), ("", "it said nothing"), ("sh: not found", "not found"), ("count=3 avg=1", "count=3")],
)
def test_no_times_is_an_error_with_its_words(said: str, words: str) -> None:
    with pytest.raises(DeviceError, match=f"benchmark_model gave no times: .*{words}"):
        TFLITE.read(said)


def test_perf_test_of_onnxruntime() -> None:
    run = ONNX.read(PERF_TEST)
    assert (run.count, run.mean_ms, run.load_ms, run.first_ms) == (100, 1.85739, pytest.approx(10.2016), 2.0)
    # 100 runs support a p90 and no p99 (MLPerf's 64 and 662), which it prints all the same
    assert run.percentiles == {"p50": pytest.approx(1.85674), "p90": pytest.approx(1.87215)}
    assert run.memory_bytes == 36696064 and run.min_ms == pytest.approx(1.83404)
    older = PERF_TEST.replace("time cost: 1.85", "time cost total: 1.85")
    assert ONNX.read(older).mean_ms == 1.85739


def test_which_tool_a_file_is_and_how_it_is_called() -> None:
    assert tool_of("onnxruntime_perf_test") is ONNX and tool_of("android_aarch64_benchmark_model") is TFLITE
    assert tool_of("anything") is TFLITE
    words = TFLITE.arguments("/m.tflite", 4, 0.5, memory=True)
    assert {"--graph=/m.tflite", "--num_threads=4", "--min_secs=0.500", "--report_peak_memory_footprint=true"} <= set(
        words
    )
    assert ONNX.arguments("/m.onnx", 2, 0.2) == ["-I", "-s", "-m", "duration", "-t", "1", "-x", "2", "/m.onnx"]


@pytest.mark.parametrize(
    "said",
    [
        NEWER.replace("avg=63743.2", "avg=0").replace("63743.2", "0"),
        NEWER.replace("63743.2", "1e999"),
        NEWER.replace("63743.2", "1.2.3"),
        NEWER.replace("63743.2", "nan"),
        NEWER.replace("count=1000", f"count={'9' * 5000}").replace("count=9 ", ""),
        NEWER.replace("count=1000", "count=0"),
        NEWER.replace("median=51891", "median=0"),
        "a" * 2_000_000,
        "a=" * 1_000_000,
        "Memory footprint " * 100_000,
        "Replacing 1 out of 1 node(s) with delegate (" * 50_000,
    ],
    ids=["zero", "infinite", "points", "nan", "digits", "none", "median", "word", "figures", "memory", "delegates"],
)
def test_what_a_device_prints_ends_in_a_typed_error(said: str) -> None:
    """Whatever it is, and however long: none of the patterns goes over a text more than once."""
    with pytest.raises(DeviceError, match=r"gave no times|runs took"):
        TFLITE.read(said)


def test_a_delegate_takes_no_more_operators_than_there_are() -> None:
    run = TFLITE.read(NEWER.replace("Replacing 2168 out of 2168", "Replacing 999999 out of 7"))
    assert (run.nodes, run.delegated) == (7, 7)
