"""What a feed may look like, and what is said when it does not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from edgekit.errors import FeedError
from edgekit.runtime.feeds import FeedPlan
from edgekit.types import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 3, 4, 4))
TOKENS = TensorSpec("tokens", "int64", ("batch", "time"))


def good(batch: int = 2) -> dict[str, np.ndarray]:
    return {"tokens": np.ones((batch, 5), np.int64), "image": np.ones((batch, 3, 4, 4), np.float32)}


@pytest.fixture
def plan() -> FeedPlan:
    return FeedPlan([IMAGE, TOKENS], "model.onnx")


def test_arrays_come_in_the_order_of_the_inputs(plan: FeedPlan) -> None:
    for batch in (2, 2, 3, 1):  # twice the same shape: the quick way; then others
        feed = good(batch)
        assert [a is b for a, b in zip(plan.accept(feed), (feed["image"], feed["tokens"]), strict=True)] == [True, True]


def test_shapes_are_bound_only_when_they_change() -> None:
    bound: list[list[tuple[int, ...]]] = []
    plan = FeedPlan([IMAGE, TOKENS], "m", bound.append)
    for batch in (2, 2, 3, 3, 2):
        plan.accept(good(batch))
    assert bound == [[(b, 3, 4, 4), (b, 5)] for b in (2, 3, 2)]


def test_a_failed_bind_binds_nothing() -> None:
    calls = []

    def bind(shapes: list[tuple[int, ...]]) -> None:
        calls.append(shapes)
        if len(calls) == 2:
            raise RuntimeError("the runtime refused")

    plan = FeedPlan([IMAGE, TOKENS], "m", bind)
    plan.accept(good(2))
    with pytest.raises(RuntimeError):
        plan.accept(good(3))
    plan.accept(good(2))  # what was bound before may be half gone: it is bound again
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"imgae": np.ones((2, 3, 4, 4), np.float32), "image": None}, ["'imgae'", "did you mean 'image'", "missing"]),
        ({"image": None}, ["missing: 'image'", "image: float32[batch, 3, 4, 4]"]),
        ({"extra": np.ones(1)}, ["'extra' is not an input"]),
        ({"image": np.ones((2, 4, 4, 3), np.float32)}, ["[2, 4, 4, 3]", "[batch, 3, 4, 4]", "transpose(0, 3, 1, 2)"]),
        ({"image": np.ones((3, 4, 4), np.float32)}, ["3 axes for 4", "array[None]"]),
        ({"image": np.ones((2, 3, 4, 5), np.float32)}, ["axis 3 is 5 for 4"]),
        ({"image": np.ones((3, 3, 4, 4), np.float32)}, ["batch is 2 here and 3 in 'image'"]),
        ({"image": np.ones((0, 3, 4, 4), np.float32)}, ["batch is 0", "at least 1"]),
        ({"image": np.ones((2, 3, 4, 4), np.int64)}, ["got int64, wanted float32", "astype(np.float32)"]),
        ({"image": np.full((2, 3, 4, 4), 0.1)}, ["got float64, wanted float32", "exactly"]),
        ({"image": np.ones((2, 3, 4, 4), bool)}, ["got bool"]),
        ({"image": [[1.0]]}, ["got list", "np.asarray"]),
        ({"tokens": np.ones((2, 5), np.float32)}, ["got float32, wanted int64"]),
        ({"tokens": np.full((2, 5), 2**63, np.uint64)}, ["got uint64, wanted int64", "exactly"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_both_sides(plan: FeedPlan, change: dict, said: list[str]) -> None:
    for bound in (False, True):  # before any shape was seen, and after
        if bound:
            plan.accept(good())
        feed = {name: value for name, value in {**good(), **change}.items() if value is not None}
        with pytest.raises(FeedError) as caught:
            plan.accept(feed)
        assert "model.onnx" in str(caught.value)
        for words in said:
            assert words in str(caught.value)


@pytest.mark.parametrize("feed", [None, 3, [np.ones(1)], np.ones(2)])
def test_a_feed_that_is_not_a_dict_is_refused(plan: FeedPlan, feed: object) -> None:
    with pytest.raises(FeedError, match="wanted a dict of arrays"):
        plan.accept(feed)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [4, 100])  # below and above the size where the quick sum of squares ends
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_wherever_they_are(size: int, dtype: str, bad: float) -> None:
    plan = FeedPlan([TensorSpec("x", dtype, ("n", size, size))], "m")
    array = np.ones((1, size, size), dtype)
    plan.accept({"x": array})
    array[0, -1, 2] = bad
    with warnings.catch_warnings(), pytest.raises(FeedError, match=rf"the first at \[0, {size - 1}, 2\]"):
        warnings.simplefilter("error")
        plan.accept({"x": array})


def test_large_finite_values_pass() -> None:
    """Their squares overflow, which must not be taken for infinity, nor warn."""
    plan = FeedPlan([TensorSpec("x", "float32", (4,))], "m")
    array = np.full(4, 3e38, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan.accept({"x": array})[0] is array
        assert plan.accept({"x": array})[0] is array


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float64", "float32"),
        ("float16", "float32"),
        ("float32", "float64"),
        ("int64", "int32"),
        ("uint8", "int8"),
        (">f4", "float32"),
    ],
)
def test_another_dtype_of_the_same_kind_passes_when_it_is_exact(given: str, wanted: str) -> None:
    plan = FeedPlan([TensorSpec("x", wanted, (3,))], "m")
    for _ in range(2):
        (array,) = plan.accept({"x": np.array([0, 1, 64], given)})
        assert array.dtype == np.dtype(wanted) and array.dtype.isnative
        assert array.tolist() == [0, 1, 64]


def test_nan_in_a_wider_dtype_is_said_to_be_nan() -> None:
    plan = FeedPlan([TensorSpec("x", "float32", (2,))], "m")
    with pytest.raises(FeedError, match="1 NaN and 0 infinite among 2 values"):
        plan.accept({"x": np.array([np.nan, 1.0])})
