"""Run-to-run variance: what a document says of it, and what a saved one is read as."""

from __future__ import annotations

from edgekit.bench.variance import BUILT_IN, SESSION_SPREAD, RunVariance, variance_of, wider
from edgekit.documents import typed
from edgekit.results.bench import BenchRecord


def record(document: dict[str, object]) -> BenchRecord:
    return typed(BenchRecord, {"results": [], **document}, "it")


def test_a_document_says_what_it_was_made_with() -> None:
    assert variance_of(record({"protocol": {"noise_floor": BUILT_IN.document()}})) == BUILT_IN
    assert BUILT_IN.document()["source"] == "built-in"
    assert BUILT_IN.session == SESSION_SPREAD


def test_a_document_with_what_was_learned_is_read_as_it_says() -> None:
    said = {
        "source": "learned", "process_spread": 0.02, "process_weight": 3.0, "occasion_spread": 0.01,
        "occasion_weight": 8.0, "occasion_spread_noisy": 0.2, "occasion_weight_noisy": 3.0, "runs": 7, "revisits": 2,
    }  # fmt: skip
    learned = RunVariance(0.02, 3.0, 0.01, 0.2, 8.0, 3.0)
    assert variance_of(record({"protocol": {"noise_floor": said}})) == learned
    older = {key: said[key] for key in ("process_spread", "process_weight", "occasion_spread")}
    assert variance_of(record({"protocol": {"noise_floor": older}})) == RunVariance(0.02, 3.0, 0.01)
    assert variance_of(record({"protocol": {"noise_floor": {**older, "runs": [1]}}})) == RunVariance(0.02, 3.0, 0.01)
    assert wider(learned, BUILT_IN) == RunVariance(0.02, 2.0, 0.01, 0.2, 4.0, 3.0)


def test_a_document_that_says_nothing_usable_has_the_built_in_one() -> None:
    assert variance_of(record({})) == BUILT_IN
    assert variance_of(record({"protocol": {"noise_floor": {"process_spread": "x"}}})) == BUILT_IN


def test_a_noisy_result_has_the_larger_spread() -> None:
    assert BUILT_IN.when(noisy=False) is BUILT_IN
    assert BUILT_IN.when(noisy=True).session == BUILT_IN.session_noisy
