"""Data that a function of the user's own gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data import open_data
from edgekit.data.preprocess import apply_contract, batches
from edgekit.errors import DataError, UsageError
from edgekit.types import InputSpec, Signature, TensorSpec

CODE = """
import numpy as np
import torch
from PIL import Image


class Pictures(torch.utils.data.Dataset):
    classes = ["dark", "light"]
    opened = []

    def __init__(self, split):
        self.count = 6 if split == "train" else 4

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.opened.append(index)
        return Image.new("RGB", (8, 6), (index * 40,) * 3), index % 2


class Counted(Pictures):
    targets = [0, 1, 1, 1]


def pictures(split): return Pictures(split)
def counted(split): return Counted(split)
def tensors(split):
    for k in range(5):
        yield {"x": torch.full((2,), float(k)), "flag": np.int64(k)}, torch.tensor([k, k + 1.0])
def values(split): return [(np.ones(3, np.float32) * k, k / 2) for k in range(4)]
def texts(split): return [("good", 1), ("bad", 0)]
def unlabelled(split): return [(np.zeros(3, np.float32), None)] * 2
def nothing(split): return iter(())
def raises(split): raise KeyError("no such folder")
def broken(split): return [(np.zeros(2), 0), 7]
def mixed(split): return [(np.zeros(2), 0), (np.zeros(2), "one")]
def negative(split): return [(np.zeros(2), 0), (np.zeros(2), -1)]
def number(split): return 3
def alone(): return []
def ragged(split): return [(np.zeros((3, 4), np.float32), 0), (np.zeros((2, 4), np.float32), 1)]
def words(split): return [(object(), 0)]
NOT_CALLABLE = 3
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(CODE)
    return str(tmp_path / "own.py")


def test_a_torch_dataset_of_pictures(code: str) -> None:
    data = open_data(f"{code}:pictures@train")
    assert (data.kind, len(data), data.split, data.classes) == ("image", 6, "train", ("dark", "light"))
    assert data.labels is not None and data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    picture = data.arrays["image"][3]
    assert picture.shape == (6, 8, 3) and picture.dtype == np.uint8 and int(picture[0, 0, 0]) == 120
    assert len(open_data(f"{code}:pictures")) == 4  # its test split


def test_known_targets_are_not_decoded(code: str) -> None:
    data = open_data(f"{code}:counted")
    assert data.labels is not None and data.labels.tolist() == [0, 1, 1, 1]


def test_arrays_by_name_of_the_inputs_with_any_targets(code: str) -> None:
    data = open_data(f"{code}:tensors")
    assert data.kind == "array" and data.answers is not None
    np.testing.assert_array_equal(data.answers[2], [2.0, 3.0])
    part = data.subset(np.array([4, 1]))
    assert part.answers is not None and part.answers[0].tolist() == [4.0, 5.0]
    inputs = (TensorSpec("x", "float32", (1, 2)), TensorSpec("flag", "int64", (1,)))
    fed = [feed for feed, _ in batches(data, Signature(inputs, ()), {}, batch=2)]
    assert [feed["x"].shape for feed in fed] == [(2, 2), (2, 2), (1, 2)]
    assert fed[1]["flag"].tolist() == [2, 3]


def test_numbers_are_values_and_whole_numbers_classes(code: str) -> None:
    data = open_data(f"{code}:values")
    assert data.labels is None and data.targets is not None
    assert data.targets.ravel().tolist() == [0.0, 0.5, 1.0, 1.5]
    assert open_data(f"{code}:texts").kind == "text"
    assert open_data(f"{code}:unlabelled").labels is None


def test_pictures_follow_the_contract_of_the_model(code: str) -> None:
    rule = InputSpec("image", "NCHW", (3, 4), 1, 1 / 255, (0.5,), (0.5,))
    signature = Signature((TensorSpec("x", "float32", (1, 1, 3, 4)),), ())
    feed, labels = next(batches(open_data(f"{code}:pictures"), signature, {"x": rule}, batch=4))
    assert feed["x"].shape == (4, 1, 3, 4)
    np.testing.assert_allclose(feed["x"][2], (80 / 255 - 0.5) / 0.5, atol=1e-6)
    assert labels is not None and labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "gave no samples for the split 'test'"),
        ("raises", r"failed at .*own.py:\d+ in raises: KeyError: 'no such folder'"),
        ("broken", "sample 1 of .* is an int; a sample is"),
        ("mixed", "the target of sample 1 of .* is one, that of sample 0 is a class's number"),
        ("negative", "the target of sample 1 of .* is -1; classes are counted from 0"),
        ("number", "gave an int; it gives a torch Dataset"),
        ("alone", r"calling .*:alone\('test'\) failed: TypeError: alone\(\) takes 0 positional arguments"),
        ("words", "are of the type object; give an array"),
        ("NOT_CALLABLE", "is an int; data come from a function"),
        ("picture", "has no 'picture'; did you mean 'pictures'"),
    ],
)
def test_what_is_not_data(code: str, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_data(f"{code}:{name}")


def test_arrays_of_several_shapes_are_refused(code: str) -> None:
    data = open_data(f"{code}:ragged")
    with pytest.raises(DataError, match=r"several shapes: \[3, 4\] and, 1 further on, \[2, 4\]; .* of one shape"):
        apply_contract(data.arrays["inputs"], InputSpec("array"))


def test_a_name_that_is_nearly_one() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'images'\? .*and your own as file\.py:function"):
        open_data("imges:DIR")
