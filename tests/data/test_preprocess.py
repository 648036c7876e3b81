"""Contracts against values computed by hand, and seeded feeds against a recorded table."""

import logging

import numpy as np
import pytest

from edgekit.data import Dataset, batches, extreme_feed, feeds, sample_feed, seeded_feed, zeros_feed
from edgekit.data.preprocess import apply_contract, whole_samples
from edgekit.errors import DataError
from edgekit.types import InputSpec, Signature, TensorSpec


def signature(*specs):
    return Signature(tuple(TensorSpec(*s) for s in specs), ())


def test_an_image_by_hand():
    raw = np.array([[[[0, 128, 255]]]], np.uint8)  # one pixel
    contract = InputSpec("image", "NCHW", (1, 1), 3, 1 / 255, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    wanted = [(0 - 0.5) / 0.25, (128 / 255 - 0.5) / 0.5, (1 - 0.5) / 1]
    # float32 rounding of values up to 2
    np.testing.assert_allclose(apply_contract(raw, contract).ravel(), wanted, atol=1e-6)
    assert apply_contract(raw, contract).shape == (1, 3, 1, 1)
    nhwc = InputSpec("image", "NHWC", (1, 1), 3, 1 / 255, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    assert apply_contract(raw, nhwc).shape == (1, 1, 1, 3)


def test_a_table_by_hand():
    contract = InputSpec("table", mean=(1.0, 2.0), std=(2.0, 4.0), columns=("a", "b"))
    rows = apply_contract(np.float32([[3, 2], [1, 10]]), contract)
    np.testing.assert_allclose(rows, [[1, 0], [0, 2]], atol=1e-7)  # float32 rounding
    with pytest.raises(DataError, match="the samples have 3 columns, the model was made for 2"):
        apply_contract(np.zeros((1, 3), np.float32), contract)


def test_channels_must_fit():
    contract = InputSpec("image", "NCHW", None, 0, 1.0, (0.0,), (1.0,))
    with pytest.raises(DataError, match="3 channels"):
        apply_contract(np.zeros((1, 2, 2, 3), np.uint8), contract)


def test_pictures_without_a_contract_are_not_guessed() -> None:
    signature = Signature((TensorSpec("x", "float32", (1, 8, 6, 3)),), ())
    pictures = Dataset("own", "test", "image", {"image": np.zeros((1, 8, 6, 3), np.uint8)})
    with pytest.raises(DataError, match="nothing says how a picture becomes the input x: float32"):
        next(feeds(pictures, signature, {}))
    rows = Dataset("own", "test", "table", {"table": np.ones((1, 4), np.float32)})
    fed = next(feeds(rows, Signature((TensorSpec("x", "float32", (1, 4)),), ()), {}))
    assert fed["x"].tolist() == [[1.0] * 4]


def test_batches_cover_all_and_keep_labels():
    data = Dataset("d", "all", "array", {"x": np.arange(10, dtype=np.float32)}, np.arange(10))
    got = list(batches(data, signature(("x", "float32", ("n",))), {}, batch=4))
    assert [len(labels) for _, labels in got] == [4, 4, 2]
    assert np.concatenate([feed["x"] for feed, _ in got]).tolist() == list(range(10))
    assert len(list(feeds(data, signature(("x", "float32", ("n",))), {}, limit=3))) == 3


def test_arrays_are_bound_by_name():
    data = Dataset("d", "all", "array", {"a": np.zeros((2, 1)), "b": np.ones((2, 1))})
    both = signature(("b", "float32", (1, 1)), ("a", "float32", (1, 1)))
    feed = next(feeds(data, both, {}))
    assert (feed["b"].item(), feed["a"].item()) == (1, 0)
    with pytest.raises(DataError, match="no array for the model's input 'c'; it has: a, b"):
        next(feeds(data, signature(("c", "float32", (1, 1))), {}))
    one = Dataset("d", "all", "array", {"inputs": np.ones((2, 1))})
    assert next(feeds(one, signature(("anything", "float32", (1, 1))), {}))["anything"].item() == 1


def test_kinds_do_not_mix():
    data = Dataset("d", "all", "table", {"table": np.zeros((2, 3), np.float32)})
    contract = {"x": InputSpec("image", "NCHW", (2, 2), 3)}
    with pytest.raises(DataError, match="holds table samples"):
        next(feeds(data, signature(("x", "float32", (1, 3, 2, 2))), contract))


def test_sample_feeds_from_files(tmp_path):
    spec = signature(("x", "float32", (1, 2)))
    np.savez(tmp_path / "a.npz", x=np.float64([1, 2]))
    np.save(tmp_path / "a.npy", np.float32([[1, 2]]))
    (tmp_path / "a.csv").write_text("first,second\n1,2\n")
    contract = {"x": InputSpec("table", mean=(0.0, 0.0), std=(1.0, 1.0))}
    for name in ("a.npz", "a.npy", "a.csv"):
        feed = sample_feed(str(tmp_path / name), spec, contract)
        assert feed["x"].dtype == np.float32
        assert feed["x"].tolist() == [[1, 2]]
    (tmp_path / "b.csv").write_text("first,second\nx,y\n")
    for name in ("b.csv", "none.csv", "none.npy", "none.npz"):
        with pytest.raises(DataError):
            sample_feed(str(tmp_path / name), spec, contract)


def test_seeded_values_never_change():
    """The self-tests in shipped files depend on this table."""
    spec = signature(("x", "float32", (4,)), ("n", "int64", (6,)), ("flag", "bool", (6,)))
    feed = seeded_feed(spec, {}, 7)
    np.testing.assert_allclose(feed["x"], TABLE["x"], rtol=1e-6)  # printed digits
    assert feed["n"].tolist() == TABLE["n"]
    assert feed["flag"].tolist() == TABLE["flag"]
    assert not np.array_equal(seeded_feed(spec, {}, 8)["x"], feed["x"])


TABLE = {
    "x": [0.90621269, 0.0003697119, -0.26593488, -0.41917101],
    "n": [7, 1, 1, 1, 4, 5],
    "flag": [False, False, True, True, False, False],
}


def test_seeded_images_are_bytes_through_the_contract():
    contract = {"x": InputSpec("image", "NCHW", (8, 8), 3, 1 / 255, (0.5,) * 3, (0.25,) * 3)}
    nhwc = {"x": InputSpec("image", "NHWC", (8, 8), 3, 1 / 255, (0.5,) * 3, (0.25,) * 3)}
    spec = signature(("x", "float32", ("batch", 3, 8, 8)))
    values = seeded_feed(spec, contract, 0, batch=4)["x"]
    levels = (values * 0.25 + 0.5) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)  # float32 at 255
    assert values.shape == (4, 3, 8, 8)
    assert values.min() < -1.9
    assert values.max() > 1.9
    assert seeded_feed(signature(("x", "float32", (1, 8, 8, 3))), nhwc, 0)["x"].shape == (1, 8, 8, 3)
    assert extreme_feed(spec, contract, 1)["x"].max() == extreme_feed(spec, contract, 1)["x"].min() == 2
    assert extreme_feed(spec, contract, -1)["x"].max() == -2


def test_seeded_floats_are_normalised():
    values = seeded_feed(signature(("x", "float32", (20_000,))), {}, 0)["x"]
    assert abs(values.mean()) < 0.03  # 4 standard errors of 20,000 values
    assert abs(values.std() - 1) < 0.02
    assert np.abs(values).max() <= 2 * 3**0.5


def test_zeros_and_extremes_keep_dtype_and_dimensions():
    spec = signature(("x", "float16", ("n", "t")), ("k", "int32", (2,)), ("b", "bool", (2,)))
    assert zeros_feed(spec, {}, dims={"n": 2, "t": 5})["x"].shape == (2, 5)
    high = extreme_feed(spec, {}, 1, dims={"t": 3})
    assert high["x"].tolist() == [[4, 4, 4]]
    assert high["k"].tolist() == [9, 9]
    assert high["b"].tolist() == [True, True]
    assert {v.dtype.name for v in high.values()} == {"float16", "int32", "bool"}


def test_lengths_of_sequences_stay_within_what_the_contract_says():
    spec = Signature((TensorSpec("n", "int64", (4,)),), ())
    free = {"n": InputSpec(params={"most": 7, "sorted": False, "longest": False})}
    drawn = [seeded_feed(spec, free, seed)["n"] for seed in range(60)]
    assert {int(n) for row in drawn for n in row} == set(range(1, 8))
    assert zeros_feed(spec, free)["n"].tolist() == [1, 1, 1, 1]
    assert extreme_feed(spec, free, 1)["n"].tolist() == [7, 7, 7, 7]
    assert extreme_feed(spec, free, -1)["n"].tolist() == [1, 1, 1, 1]
    bound = {"n": InputSpec(params={"most": "t", "sorted": True, "longest": True})}
    for seed in range(5):
        row = seeded_feed(spec, bound, seed, dims={"t": 9})["n"].tolist()
        assert row[0] == 9 and row == sorted(row, reverse=True)
    assert zeros_feed(spec, bound, dims={"t": 9})["n"].tolist() == [9, 1, 1, 1]
    assert seeded_feed(spec, bound, 0)["n"].tolist() == [1, 1, 1, 1]  # an open size is 1


@pytest.mark.parametrize(
    ("shape", "arrays"),
    [
        ((12, 1, 8), (40, 12, 1, 8)),  # the time first
        (("t", 1, 8), (40, 12, 1, 8)),
        ((2, 1, 16), (40, 2, 1, 16)),  # a state of two layers
        ((), (40,)),  # a number without axes
        ((1, 8), (40, 1, 8)),
        (("n", 8), (40, 1, 8)),
    ],
)
def test_a_sample_may_be_shaped_as_the_input_is(shape, arrays):
    data = Dataset("d", "all", "array", {"x": np.random.default_rng(0).normal(size=arrays).astype(np.float32)})
    spec = signature(("x", "float32", shape))
    assert whole_samples(data, spec, {})
    got = list(feeds(data, spec, {}, batch=16))  # they cannot be joined, whatever the batch
    assert len(got) == 40
    assert all(np.array_equal(feed["x"], data.arrays["x"][k]) for k, feed in enumerate(got))
    assert {feed["x"].shape for feed in got} == {arrays[1:]}


def test_arrays_of_both_kinds_go_together():
    """A sequence without its leading 1, a state with the batch on axis 1: one sample a feed."""
    data = Dataset(
        "d", "all", "array", {"x": np.ones((6, 20, 10), np.float32), "h": np.zeros((6, 2, 1, 16), np.float32)}
    )
    got = list(feeds(data, signature(("x", "float32", (1, 20, 10)), ("h", "float32", (2, 1, 16))), {}, batch=4))
    assert [(feed["x"].shape, feed["h"].shape) for feed in got] == [((1, 20, 10), (2, 1, 16))] * 6


def test_samples_without_the_leading_one_are_joined():
    data = Dataset("d", "all", "array", {"x": np.zeros((6, 8), np.float32)})
    assert not whole_samples(data, signature(("x", "float32", (1, 8))), {})
    assert not whole_samples(data, signature(("x", "float32", ("n", 8))), {})
    assert next(feeds(data, signature(("x", "float32", ("n", 8))), {}, batch=6))["x"].shape == (6, 8)


def test_sentences_for_a_network_that_takes_token_numbers() -> None:
    """The file of a transformers network has no tokenizer: the message says who calls it, not how to name arrays."""
    ids = Signature((TensorSpec("input_ids", "int64", (1, 8)), TensorSpec("attention_mask", "int64", (1, 8))), ())
    texts = Dataset("text:a.tsv", "all", "text", {"text": ["a b"]}, np.zeros(1, np.int64), ("x",))
    with pytest.raises(DataError, match=r"what a tokenizer makes of them.*--data file.py:function"):
        next(feeds(texts, ids, {}))


def test_rows_without_a_mean_are_fed_as_they_are_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = Signature((TensorSpec("x", "float32", (1, 2)),), ())
    table = Dataset("table:said.csv", "all", "table", {"table": np.float32([[3, 400]])}, columns=("a", "b"))
    with caplog.at_level(logging.INFO, "edgekit"):
        assert next(feeds(table, rows, {}))["x"].tolist() == [[3, 400]]
        assert "nothing says a mean and std of the columns" in caplog.text
        caplog.clear()
        known = {"x": InputSpec("table", mean=(3.0, 0.0), std=(1.0, 100.0), columns=("a", "b"))}
        assert next(feeds(table, rows, known))["x"].tolist() == [[0, 4]]
    assert "nothing says" not in caplog.text
