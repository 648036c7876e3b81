"""The ledger and the cases: what passes, what never passes, and that every check can fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import ParityError
from edgekit.quality.cases import SEEDS, Case, again, cases
from edgekit.quality.parity import FLOOR, RELATIVE, prove, require
from edgekit.results.base import to_json
from edgekit.types import InputSpec, Signature, TensorSpec

RANDOM = [Case("random", {"x": np.array([1.0, -2.0], np.float32)}, typical=True)]


def same(feed: Any) -> dict[str, Any]:
    return {"y": feed["x"] * 10}


def off_by(amount: float) -> Any:
    return lambda feed: {"y": feed["x"] * 10 + np.float64(amount)}


def test_equal_outputs_pass_and_the_limit_follows_the_scale() -> None:
    ledger = prove(same, same, RANDOM)
    assert ledger.passed
    assert ledger.max_abs == 0.0
    assert ledger.scale == {"y": 20.0}
    assert ledger.tolerance == pytest.approx(20 * RELATIVE)
    assert ledger.cases[0].cosine == pytest.approx(1.0)


@pytest.mark.parametrize(("amount", "passed"), [(1.9e-3, True), (2.1e-3, False)])
def test_the_default_tolerance_is_relative(amount: float, passed: bool) -> None:
    assert prove(same, off_by(amount), RANDOM).passed is passed  # the limit is 1e-4 of 20


@pytest.mark.parametrize(("tolerance", "passed"), [(0.6, True), (0.4, False)])
def test_a_given_tolerance_is_absolute(tolerance: float, passed: bool) -> None:
    ledger = prove(same, off_by(0.5), RANDOM, tolerance)
    assert ledger.passed is passed
    assert ledger.tolerance == tolerance


def test_small_outputs_on_zeros_are_measured_by_the_usual_scale() -> None:
    zeros = Case("zeros", {"x": np.zeros(2, np.float32)})
    assert prove(same, off_by(1e-3), [*RANDOM, zeros]).passed
    assert not prove(same, off_by(1e-3), [zeros]).passed  # nothing typical was seen: the floor alone
    assert prove(same, off_by(FLOOR / 2), [zeros]).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tolerance", [None, np.inf])
def test_what_is_not_finite_never_passes(value: float, tolerance: float | None) -> None:
    def bad(feed: Any) -> dict[str, Any]:
        return {"y": np.array([value, 1.0])}

    for reference, candidate, whose in ((same, bad, "the model"), (bad, same, "itself"), (bad, bad, "itself")):
        ledger = prove(reference, candidate, RANDOM, tolerance)
        assert not ledger.passed
        assert ledger.max_abs is None
        assert whose in ledger.cases[0].reason


def test_shapes_and_missing_outputs_fail() -> None:
    assert "shape (1, 2) instead of (2,)" in prove(same, lambda f: {"y": f["x"][None]}, RANDOM).cases[0].reason
    assert "'y' is missing (there are: z)" in prove(same, lambda f: {"z": f["x"]}, RANDOM).cases[0].reason


def test_integers_must_be_equal() -> None:
    def counts(extra: int) -> Any:
        return lambda _: {"n": np.array([100_000 + extra])}

    assert prove(counts(0), counts(0), RANDOM).passed
    assert not prove(counts(0), counts(1), RANDOM).passed  # 1e-5 of the scale, but another class


def test_the_worst_output_is_the_one_named() -> None:
    def two(extra: float) -> Any:
        return lambda _: {"large": np.array([1000.0 + extra]), "small": np.array([0.01 + extra])}

    row = prove(two(0), two(1e-3), RANDOM).cases[0]
    assert (row.output, row.passed) == ("small", False)


def test_no_case_at_all_is_not_a_proof() -> None:
    ledger = prove(same, same, [])
    assert not ledger.passed
    with pytest.raises(ParityError, match="on no input at all"):
        require(ledger, "m.onnx", "the network")


def test_require_names_the_case_and_the_count() -> None:
    with pytest.raises(ParityError, match=r"(?s)m\.onnx.*differs by 1.*'random' \(1 of 1 cases failed\).*published"):
        require(prove(same, off_by(1.0), RANDOM), "m.onnx", "the network")
    require(prove(same, same, RANDOM), "m.onnx", "the network")


def test_a_reference_that_gives_nan_is_what_the_error_speaks_of() -> None:
    ledger = prove(lambda _: {"y": np.array([np.nan, 1.0])}, same, RANDOM)
    with pytest.raises(ParityError, match="the network itself gives NaN"):
        require(ledger, "m.onnx", "the network")


def test_the_document_is_the_contract_s() -> None:
    document = to_json(prove(same, off_by(1.0), RANDOM))
    assert set(document) == {"passed", "max_abs", "tolerance", "cases"}
    assert {"kind", "max_abs", "passed"} <= set(document["cases"][0])
    assert document["passed"] is False


SIGNATURE = Signature(
    (TensorSpec("image", "float32", ("batch", 3, 4, 4)), TensorSpec("ids", "int64", ("batch", "time"))), ()
)
CONTRACT = {"image": InputSpec("image", "NCHW", (4, 4), 3, 1 / 255, (0.5,) * 3, (0.25,) * 3)}
EXAMPLES = {"image": np.zeros((1, 3, 4, 4), np.float32), "ids": np.full((1, 3), 4)}


def test_every_kind_is_there() -> None:
    sample = {"image": np.ones((1, 3, 4, 4), np.float32), "ids": np.zeros((1, 3), np.int64)}
    found = [case.kind for case in cases(SIGNATURE, CONTRACT, examples=EXAMPLES, samples=[sample])]
    sizes = ["batch=2", "batch=5", "time=1", "time=2", "time=5", "time=6"]
    assert found == ["random"] * len(SEEDS) + ["example", "zeros", "lowest", "highest", "sample", *sizes]


def test_values_stay_in_range() -> None:
    for case in cases(SIGNATURE, CONTRACT, examples=EXAMPLES):
        assert case.feed["ids"].min() >= 0
        assert case.feed["ids"].max() <= 4  # what the example shows: an index may go no further
        assert np.abs(case.feed["image"]).max() <= 2.0  # (1 - 0.5) / 0.25: black and white after normalisation
    highest = next(case for case in cases(SIGNATURE, CONTRACT, examples=EXAMPLES) if case.kind == "highest")
    assert np.all(highest.feed["image"] == 2.0)


def test_sizes_start_where_the_capture_holds() -> None:
    kinds = [case.kind for case in cases(SIGNATURE, CONTRACT, examples=EXAMPLES, minimum={"time": 3})]
    assert [kind for kind in kinds if kind.startswith("time")] == ["time=5", "time=6"]


def test_sizes_end_where_the_network_does() -> None:
    kinds = [case.kind for case in cases(SIGNATURE, CONTRACT, examples=EXAMPLES, maximum={"time": 4})]
    assert [kind for kind in kinds if kind.startswith("time")] == ["time=1", "time=2", "time=4"]


def test_a_model_without_examples_or_dynamic_sizes() -> None:
    plain = Signature((TensorSpec("x", "float32", (1, 5)),), ())
    found = list(cases(plain, {}))
    assert [case.kind for case in found] == ["random"] * 3 + ["zeros", "lowest", "highest"]
    assert {case.feed["x"].shape for case in found} == {(1, 5)}
    assert np.all(found[4].feed["x"] == -4.0)


def test_calls_in_a_row_put_what_is_usual_behind_each_extreme() -> None:
    sample = {**EXAMPLES}
    made = list(cases(SIGNATURE, CONTRACT, examples=EXAMPLES, samples=[sample]))
    by_kind = {case.kind: case.feed for case in made}
    order = ("highest", "sample", "lowest", "sample", "zeros", "sample")
    found = again(made)
    assert [case.kind for case in found] == ["calls"] * len(order)
    assert all(case.feed is by_kind[kind] for case, kind in zip(found, order, strict=True))
    assert again(RANDOM) == []
