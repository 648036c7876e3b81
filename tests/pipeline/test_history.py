"""``report DIR``: courses of what is saved below a folder, judged by the rules of ``compare``."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InputError, UsageError
from edgekit.pipeline.history import history
from edgekit.pipeline.report import report
from edgekit.report.document import dumps, envelope
from edgekit.results.base import Result
from edgekit.results.bench import BenchRecord, Entry, LatencyFigures
from edgekit.results.compressed import Device
from edgekit.results.eval import EvalResult, Evaluation
from edgekit.results.history import HistoryResult
from edgekit.types import Evidence, Verdict

PLACE = Device(name="cpu", kind="cpu", evidence=Evidence.MEASURED, cpu="one", cpu_id="1")


def timed(model: str = "net.onnx", *, ms: float = 1.0, seed: int = 0, **more: Any) -> Entry:
    """A cell in 20 blocks of 100 runs by two workers, 1% apart."""
    ns = (np.random.default_rng(seed).normal(ms, 0.01 * ms, 2000) * 1e6).astype(int)
    p50 = float(np.median(ns)) / 1e6
    return Entry(**{
        "model": model, "sha256": f"{seed:064d}", "format": "onnx", "bytes": 1000, "device": PLACE,
        "runtime": "onnxruntime", "threads": 1, "batch": 1, "scenario": "single-stream", "samples": 2000,
        "latency_ms": LatencyFigures(p50=p50, ci95_p50=(0.99 * p50, 1.01 * p50)), "samples_ns": tuple(ns.tolist()),
        "blocks": (100,) * 20, "block_workers": ("a", "b") * 10, **more,
    })  # fmt: skip


def save(folder: Path, name: str, verb: str, result: Result, date: str = "", **head: Any) -> Path:
    """A document as ``--json`` writes it, of another date."""
    document = envelope(verb, result.document()) | ({"date": date} if date else {}) | head
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dumps(document), encoding="utf-8")
    return file


def bench(folder: Path, name: str, date: str, *entries: Entry) -> Path:
    return save(folder, name, "bench", BenchRecord(results=entries), date)


def test_a_regression_and_its_end(tmp_path: Path) -> None:
    bench(tmp_path, "z-first.json", "2026-01-01T00:00:00+00:00", timed(ms=1.0, seed=1))
    bench(tmp_path, "sub/second.json", "2026-02-01T00:00:00+00:00", timed(ms=2.0, seed=2))
    bench(tmp_path, "a-third.json", "2026-03-01T00:00:00+00:00", timed(ms=1.0, seed=3))
    (course,) = history(tmp_path).courses
    assert [run.document for run in course.runs] == ["z-first.json", "sub/second.json", "a-third.json"]
    verdicts = [run.against_previous and run.against_previous.verdict for run in course.runs]
    assert verdicts == [None, Verdict.SLOWER, Verdict.FASTER]
    assert [run.slower for run in course.runs] == [False, True, False]
    assert course.comparison is not None and course.comparison.verdict is not Verdict.SLOWER
    assert history(tmp_path).regressions == 1
    assert course.runs[1].sha256 == f"{2:064d}"


def test_what_the_noise_hides_is_no_regression(tmp_path: Path) -> None:
    bench(tmp_path, "1.json", "2026-01-01T00:00:00+00:00", timed(ms=1.0, seed=1))
    bench(tmp_path, "2.json", "2026-01-02T00:00:00+00:00", timed(ms=1.02, seed=2))
    found = history(tmp_path)
    assert found.regressions == 0 and found.courses[0].runs[1].against_previous is not None


def test_different_places_are_never_compared(tmp_path: Path) -> None:
    """Another CPU, one of the same name with another stepping, a runtime, threads, an evidence class."""
    others = [
        timed(device=replace(PLACE, cpu="two")),
        timed(device=replace(PLACE, cpu_id="2")),
        timed(device=replace(PLACE, name="pi")),
        timed(device=replace(PLACE, evidence=Evidence.CONSTRAINED)),
        timed(runtime="litert"),
        timed(threads=2),
        timed(batch=4),
        timed("other.onnx"),
    ]
    bench(tmp_path, "0.json", "2026-01-01T00:00:00+00:00", timed())
    for number, entry in enumerate(others, 1):
        bench(tmp_path, f"{number}.json", "2026-01-02T00:00:00+00:00", entry)
    found = history(tmp_path)
    assert len(found.courses) == 9 and all(course.comparison is None for course in found.courses)


def test_files_of_one_name_in_a_document(tmp_path: Path) -> None:
    bench(tmp_path, "1.json", "2026-01-01T00:00:00+00:00", timed("a/net.onnx"), timed("b/net.onnx", seed=1))
    assert {course.model for course in history(tmp_path).courses} == {"a/net.onnx", "b/net.onnx"}


def test_samples_that_were_not_kept(tmp_path: Path) -> None:
    for day in (1, 2):
        bench(tmp_path, f"{day}.json", f"2026-01-0{day}T00:00:00+00:00", timed(ms=day, samples_ns=None))
    (course,) = history(tmp_path).courses
    assert course.comparison is not None
    assert course.comparison.verdict is Verdict.INCONCLUSIVE and "holds no samples" in course.comparison.reason


def test_quality_over_time(tmp_path: Path) -> None:
    for day, value in ((1, 0.9), (2, 0.8)):
        result = EvalResult(
            model=Path("/somewhere/net.onnx"), sha256="0" * 64, split="test", runtime="onnxruntime", device="cpu",
            evaluation=Evaluation("accuracy", value, 10, "digits@test"),
        )  # fmt: skip
        save(tmp_path, f"{day}.json", "eval", result, f"2026-01-0{day}T00:00:00+00:00")
    (course,) = history(tmp_path).courses
    assert (course.figure, course.model, course.comparison) == ("accuracy", "net.onnx", None)
    assert course.change == pytest.approx(0.8 / 0.9)


def test_what_is_left_out(tmp_path: Path) -> None:
    good = bench(tmp_path, "good.json", "", timed())
    os.utime(good, (1e9, 1e9))
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "broken.json").write_text(good.read_text()[:-100])
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "later.json").write_text('{"schema": "edgekit.bench/2", "results": []}')
    (tmp_path / "notes.txt").write_text("no")
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state" / "good.json").write_text(good.read_text())
    found = history(tmp_path)
    assert found.documents == 1
    reasons = {one.path: one.reason for one in found.left_out}
    assert set(reasons) == {"package.json", "broken.json", "list.json", "later.json"}
    assert "edgekit.bench/2" in reasons["later.json"] and "JSON" in reasons["broken.json"]


def test_a_document_without_a_date_has_that_of_its_file(tmp_path: Path) -> None:
    file = bench(tmp_path, "old.json", "", timed())
    document = json.loads(file.read_text())
    del document["date"]
    file.write_text(json.dumps(document))
    os.utime(file, (1e9, 1e9))
    assert history(tmp_path).courses[0].runs[0].date == "2001-09-09T01:46:40+00:00"


@pytest.mark.parametrize("content", [None, '{"name": 1}'])
def test_a_folder_without_results(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match="holds no saved result") as error:
        report([tmp_path])
    assert error.value.exit_code == 3


def test_the_verb(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    bench(folder, "1.json", "2026-01-01T00:00:00+00:00", timed(ms=1.0))
    bench(folder, "2.json", "2026-02-01T00:00:00+00:00", timed(ms=2.0, seed=1))
    found = report([folder], out=tmp_path / "page.html")
    assert isinstance(found, HistoryResult) and found.page == tmp_path / "page.html"
    text = found.page.read_text(encoding="utf-8")
    assert "Slower than the run before" in text and "2026-02-01" in text
    assert report([folder]).document()["page"] is None
    with pytest.raises(UsageError, match="one folder"):
        report([folder, folder / "1.json"], out=tmp_path / "page.html")
    with pytest.raises(UsageError, match="name the page"):
        report([folder / "1.json"])
