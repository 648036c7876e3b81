"""Tables: the reader of CSV files and every way a file can be wrong; columns are matched by name, not by place."""

import logging
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import open_data, sample_feed
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import batches
from edgekit.data.table import read
from edgekit.errors import DataError
from edgekit.types import InputSpec, Signature, TensorSpec

GOOD = "height,weight,label\n1,20,cat\n2,40,dog\n3,30,cat\n4.5,1e1,dog\n"
CONTRACT = InputSpec("table", mean=(1.0, 10.0), std=(2.0, 10.0), columns=("height", "weight"))
SIGNATURE = Signature((TensorSpec("table", "float32", (1, 2)),), (TensorSpec("logits", "float32", (1, 2)),))


@pytest.fixture
def csv(tmp_path):
    def write(text, name="t.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_a_table(csv):
    data = open_data(f"table:{csv(GOOD)}")
    assert (data.kind, data.columns, data.classes) == ("table", ("height", "weight"), ("cat", "dog"))
    assert data.arrays["table"].dtype == np.float32
    rows = {
        tuple(row): data.classes[label] for row, label in zip(data.arrays["table"].tolist(), data.labels, strict=True)
    }
    assert rows == {(1, 20): "cat", (2, 40): "dog", (3, 30): "cat", (4.5, 10): "dog"}
    assert data.labels.tolist() == [0, 1, 0, 1]  # the classes take turns


@pytest.mark.parametrize(
    "text", ["a,Label,b\n1,x,2\n3,y,4\n", "class, a ,b\nx,1,2\ny,3,4\n", "a,b,kind\n1,2,x\n3,4,y\n"]
)
def test_the_label_is_named_or_last(csv, text):
    data = open_data(f"table:{csv(text)}")
    assert data.columns == ("a", "b")
    assert data.classes == ("x", "y")
    assert data.arrays["table"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b,label\n", "no row below"),
        ("1,2,x\n3,4,y\n", "no header: its first line holds the number 1"),
        ("a;b;label\n1;2;x\n", "one column, 'a;b;label'.*separated by commas"),
        ("a,a,label\n1,2,x\n", "a column 'a' without a name of its own"),
        ("a,b,label\n1,2,x\n3,,y\n", "line 3: the cell of column 'b' is missing"),
        ("a,b,label\n\n1,2,x\n3,NaN,y\n", "line 4: the cell of column 'b' is missing"),
        ("a,b,label\n1,2,\n3,4,y\n", "line 2: the cell of column 'label' is missing"),
        ("a,b,label\n1,red,x\n3,blue,y\n", "line 2: column 'b' holds 'red', which is not a finite number"),
        ("a,b,label\n1,inf,x\n", "not a finite number"),
        ("a,b,label\n1,1e39,x\n", "not a finite number"),  # beyond float32
        ("a,b,label\n1,2\n", "line 2: 2 cells, the header has 3"),
        ("a,target\n" + "".join(f"{k},{k / 3:.2f}\n" for k in range(40)), "40 different labels"),
    ],
)
def test_bad_tables(csv, text, words):
    with pytest.raises(DataError, match=words):
        open_data(f"table:{csv(text)}")


def test_a_constant_column_is_refused_where_it_would_be_trained_on(csv):
    spec = f"table:{csv('a,b,label' + ''.join(f'{chr(10)}{k},7,{k % 2}' for k in range(20)))}"
    with pytest.raises(DataError, match="column 'b' is 7 in every row"):
        open_data(spec, default_split="train")
    assert len(open_data(spec)) == 20  # a few rows to be judged may well agree


def test_files_that_are_none(tmp_path):
    for spec in ("table:", f"table:{tmp_path / 'none.csv'}"):
        with pytest.raises(DataError, match=r"does not exist; table:FILE\.csv"):
            open_data(spec)
    with pytest.raises(DataError, match=r"is a folder.*a CSV file"):
        open_data(f"table:{tmp_path}")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="cannot be read as UTF-8 text"):
        open_data(f"table:{tmp_path / 'binary.csv'}")


def feed_of(data):
    return next(batches(data, SIGNATURE, {"table": CONTRACT}, batch=2))[0]["table"].tolist()


def test_columns_are_matched_by_name(csv, caplog):
    caplog.set_level(logging.INFO, "edgekit")
    wanted = [[0, 1], [1, 3]]  # (1 - 1) / 2, (20 - 10) / 10 ...
    assert feed_of(open_data(f"table:{csv('height,weight,label' + chr(10) + '1,20,x' + chr(10) + '3,40,y')}")) == wanted
    assert feed_of(open_data(f"table:{csv('weight,height,label' + chr(10) + '20,1,x' + chr(10) + '40,3,y')}")) == wanted
    assert not caplog.records
    more = csv("age,weight,height,label\n5,20,1,x\n6,40,3,y")
    assert feed_of(open_data(f"table:{more}")) == wanted
    assert "1 of the 3 columns are not the model's" in caplog.text
    assert feed_of(open_data(f"table:{csv('u,v,label' + chr(10) + '1,20,x' + chr(10) + '3,40,y')}")) == wanted
    assert "matched by position" in caplog.text
    with pytest.raises(DataError, match=r"no column 'weight', which the model takes \(1 of its 2"):
        feed_of(open_data(f"table:{csv('height,width,label' + chr(10) + '1,20,x' + chr(10) + '3,40,y')}"))
    nameless = Dataset("d", "all", "table", {"table": np.float32([[1, 20], [3, 40]])})
    assert feed_of(nameless) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "1,20\n",
        "height,weight\n1,20\n",
        "weight,height\n20,1\n",
        "id,weight,height,label\nx7,20,1,cat\n",  # what the model does not take may be words
    ],
)
def test_one_row_of_a_file(csv, text):
    assert sample_feed(csv(text), SIGNATURE, {"table": CONTRACT})["table"].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("height,weight\n1,?\n", "the column 'weight' holds a value that is not a finite number"),
        ("height,weight\n", "no row of as many below it"),
        ("height,weight\nhello,world\n", "no row of numbers in its first two lines"),
        ("1,2,3\n", "the samples have 3 columns, the model was made for 2"),
        ("", "is empty"),
    ],
)
def test_one_bad_row(csv, text, words):
    with pytest.raises(DataError, match=words):
        sample_feed(csv(text), SIGNATURE, {"table": CONTRACT})


def test_a_row_from_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv does not exist; give the path"):
        read(str(tmp_path / "none.csv"))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["timestamp", "time"])
def test_a_column_of_unix_times_is_a_column_of_numbers(tmp_path: Path, name: str, place: int) -> None:
    """Nothing but ``series:`` makes a series of a file."""
    head, file = ["a", "b"], tmp_path / "rows.csv"
    head.insert(place, name)
    lines = []
    for k in range(20):
        row = [str(k / 2), str(-k)]
        row.insert(place, str(1_700_000_000 + 3600 * k))
        lines.append(",".join([*row, str(k % 2)]))
    file.write_text("\n".join([",".join([*head, "label"]), *lines]))
    data = open_data(f"table:{file}@train")
    assert (data.kind, data.columns, data.classes) == ("table", tuple(head), ("0", "1"))
    assert np.asarray(data.arrays["table"])[:, place].min() >= 1_699_999_000


def test_values_to_predict(csv):
    path = csv("a,price,b\n1,2.5,3\n4,5.5,6\n7,8,9\n")
    data = open_data(f"table:{path},target=price")
    assert (data.columns, data.labels, data.classes) == (("a", "b"), None, ())
    assert data.targets.tolist() == [[2.5], [5.5], [8]] and data.arrays["table"].tolist() == [[1, 3], [4, 6], [7, 9]]
    both = open_data(f"table:{path},target=b|price@all")
    assert (both.columns, both.targets.tolist()) == (("a",), [[3, 2.5], [6, 5.5], [9, 8]])
    with pytest.raises(DataError, match="no column 'cost' to predict; it has: a, price, b"):
        open_data(f"table:{path},target=cost")
    with pytest.raises(DataError, match="none is left to predict them from"):
        open_data(f"table:{path},target=a|b|price")


def test_several_labels(csv):
    path = csv("a,red,round\n1,0,1\n4,1,1\n7,0,0\n")
    data = open_data(f"table:{path},target=red|round")
    assert data.classes == ("red", "round") and data.targets is None
    assert np.stack(data.answers).tolist() == [[0, 1], [1, 1], [0, 0]]


def test_a_column_of_values_without_a_word_on_it(csv):
    text = "a,price\n" + "".join(f"{k},{k}.5\n" for k in range(60))
    with pytest.raises(DataError, match=r"not a column of classes.*,target=price"):
        open_data(f"table:{csv(text)}")
