"""What can be checked of scripts/bench_gpu without a GPU: that it says so, and what it makes of figures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_gpu", root / "scripts" / "bench_gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_gpu"] = module
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_what_is_missing(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not script.what_is_missing():
        pytest.skip("this machine has a GPU")
    target = tmp_path / "results.md"
    assert script.main(["--output", str(target)]) == 4
    assert "nothing was measured: " in capsys.readouterr().err and not target.exists()


def test_the_page_does_not_claim_figures_nobody_measured(root: Path) -> None:
    """Either the page says that no run has been made, or the script wrote it, with date and chip."""
    page = (root / "docs" / "results-gpu.md").read_text(encoding="utf-8")
    assert ("No run on a GPU has been made yet" in page) != ("Made by `scripts/bench_gpu` on 2" in page)


def test_the_plain_loop_takes_every_call(script: ModuleType) -> None:
    calls: list[int] = []
    samples = script.timed(lambda: calls.append(1), 1_000_000)
    assert samples.size == len(calls) > 1 and (samples >= 0).all() and samples.dtype == np.int64


def test_the_networks_export_at_both_batches(script: ModuleType, tmp_path: Path) -> None:
    from edgekit.runtime import load

    for batch in (1, 256):
        path = script.export("cnn", batch, tmp_path)
        assert script.batch_of(path) == batch
        with load(path) as runner:
            assert isinstance(runner.signature.inputs[0].shape[0], str) == (batch == 256)


def test_a_failed_way_and_a_finished_one_are_rows(script: ModuleType) -> None:
    failed = {"runtime": "torch:compile", "error": {"message": "needs triton | here"}}
    assert script._row(failed).count("|") == "a | b | c | d | e | f".count("|")
    p50 = {"copy_in": 0.01, "copy_out": 0.02, "device": None, "run": 1.0}
    entry = {"runtime": "torch:eager", "latency_ms": {"p50": 1.0}, "transfer": {"p50_ms": p50}, "selftest": None}
    assert script._row(entry) == "torch:eager | 1.0000 | 0.0100 | 0.0200 | – | none in the file"


@pytest.mark.gpu
def test_the_bar_is_held(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--output", str(tmp_path / "results.md")]) == 0
