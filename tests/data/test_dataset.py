"""Splits, spellings, and the readers of embedded data and .npz files."""

import numpy as np
import pytest
from PIL import Image

from edgekit.data import Dataset, open_data, stratified
from edgekit.data.dataset import held_out_sets, interleaved, split_indices
from edgekit.errors import DataError, UsageError


def test_digits_split_without_overlap_and_the_same_every_time():
    train, test, whole = (open_data(f"digits@{s}") for s in ("train", "test", "all"))
    assert (len(train), len(test), len(whole)) == (1438, 359, 1797)
    rows = {image.tobytes() for image in train.arrays["image"]}
    shared = sum(image.tobytes() in rows for image in test.arrays["image"])
    assert shared == 0
    assert np.array_equal(open_data("digits@test").labels, test.labels)
    assert whole.arrays["image"].max() == 255
    assert train.kind == "image"
    assert train.classes == tuple("0123456789")


def test_breast_cancer_is_a_table_with_names():
    data = open_data("breast-cancer@all")
    assert data.arrays["table"].shape == (569, 30)
    assert data.columns[0] == "mean radius"
    assert data.classes == ("malignant", "benign")


@pytest.mark.parametrize("spec", ["digit", "digits@valid", "csv:file", ""])
def test_unknown_spellings_are_wrong_usage(spec):
    with pytest.raises(UsageError, match="there are"):
        open_data(spec)


def test_a_file_without_its_kind_is_named_as_the_user_wrote_it(tmp_path):
    (tmp_path / "x.npz").touch()
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match=rf"data {tmp_path}/x.npz holds.*; for example npz:{tmp_path}/x.npz$"):
        open_data(f"{tmp_path}/x.npz@train")
    with pytest.raises(UsageError, match=rf"for example images:{tmp_path}/d, "):
        open_data(f"{tmp_path}/d")


def test_an_unknown_name_is_said_as_the_user_wrote_it():
    """The commands add the split that they take."""
    with pytest.raises(UsageError, match=r"no data set is called 'digitz'; did you mean 'digits'"):
        open_data("digitz@train")


def test_every_class_is_in_both_parts():
    labels = np.array([0] * 100 + [1] * 2 + [2] * 10)
    train, test = split_indices(len(labels), labels)
    assert set(labels[train]) == set(labels[test]) == {0, 1, 2}
    assert sorted([*train, *test]) == list(range(len(labels)))
    other = split_indices(len(labels), labels, seed=1)
    assert not np.array_equal(other[1], test)


def test_what_is_held_out_is_the_validation_split_where_folders_have_no_test(tmp_path):
    for split in ("train", "valid"):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "0.png")
    assert [one.label for one in held_out_sets(f"images:{tmp_path}")] == [f"images:{tmp_path}@val"]
    assert open_data(f"images:{tmp_path}").split == "val"
    with pytest.raises(DataError, match="has no split 'test'; it has: val, train"):
        open_data(f"images:{tmp_path}@test")
    (tmp_path / "valid").rename(tmp_path / "test")
    assert [one.split for one in held_out_sets(f"images:{tmp_path}")] == ["test"]
    assert [one.label for one in held_out_sets("digits")] == ["digits@test"]


def test_too_few_samples_to_divide_are_said_to_be(tmp_path):
    path = tmp_path / "one.npz"
    np.savez(path, inputs=np.zeros((1, 4), np.float32), labels=np.zeros(1, np.int64))
    with pytest.raises(DataError, match=r"1 sample, too few to divide: nothing is left for @test; take all of it"):
        open_data(f"npz:{path}@test")


def test_classes_take_turns():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    assert labels[interleaved(labels)].tolist() == [0, 1, 2, 0, 1, 0, 0]


def test_stratified_is_balanced_and_never_more_than_there_is():
    data = open_data("digits@train")
    picked = stratified(data, 95)
    assert len(picked) == 95
    assert set(np.bincount(picked.labels)) <= {9, 10}
    assert stratified(data, 10_000) is data
    assert not np.array_equal(stratified(data, 95, seed=1).labels, picked.labels)


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "d.npz", **arrays)
        return f"npz:{tmp_path / 'd.npz'}"

    return write


def test_npz_is_whole_unless_a_split_is_named(npz):
    spec = npz(image=np.arange(40.0).reshape(20, 2), labels=np.arange(20) % 2)
    assert len(open_data(spec)) == 20
    assert len(open_data(f"{spec}@test")) == 4
    assert len(open_data(spec, default_split="train")) == 16
    assert open_data(spec).classes == ("0", "1")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.arange(3)}, "no input array"),
        ({"x": np.zeros((3, 2)), "labels": np.arange(4)}, "same number of samples"),
        ({"x": np.zeros((3, 2)), "labels": np.array([0.5, 1, 2])}, "class index"),
        ({"x": np.zeros((3, 2)), "labels": np.array([-1, 1, 2])}, "0 or more"),
        ({"x": np.float32(1)}, "same number of samples"),
        ({"x": np.zeros((0, 2))}, "no samples"),
        ({"x": np.array([{"a": 1}], dtype=object)}, "pickles"),
    ],
)
def test_bad_npz(npz, arrays, words):
    with pytest.raises(DataError, match=words):
        open_data(npz(**arrays))


@pytest.mark.parametrize("split", ["", "@train", "@test", "@all"])
def test_no_samples_in_any_split(npz, tmp_path, split):
    (tmp_path / "t.tsv").write_text("label\tsentence\n")
    for spec in (npz(x=np.zeros((0, 2)), labels=np.zeros(0, int)), f"text:{tmp_path / 't.tsv'}"):
        with pytest.raises(DataError, match="no samples"):
            open_data(f"{spec}{split}")


def test_npz_that_is_none(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    for name in ("missing.npz", "text.npz", "cut.npz", "one.npy"):
        with pytest.raises(DataError):
            open_data(f"npz:{tmp_path / name}")


def test_a_subset_keeps_arrays_and_labels_together():
    data = Dataset("d", "all", "array", {"x": np.arange(5), "y": [0, 1, 2, 3, 4]}, np.arange(5))
    part = data.subset(np.array([3, 1]))
    assert part.arrays["x"].tolist() == part.labels.tolist() == list(part.arrays["y"]) == [3, 1]
