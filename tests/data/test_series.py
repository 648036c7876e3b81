"""Tables in time: what is read, what is refused, and which rows train, choose and test."""

import gzip
import logging

import numpy as np
import pytest

from edgekit.data import batches, etth1, open_data, sample_feed, series
from edgekit.data.preprocess import apply_contract
from edgekit.data.series import Windows, measure
from edgekit.data.timetable import read_timetable
from edgekit.errors import DataError, UsageError
from edgekit.types import InputSpec, Signature, TensorSpec


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)


def hour(k, step=1):
    return str(np.datetime64("2020-01-01T00:00:00") + np.timedelta64(3600 * step * k, "s")).replace("T", " ")


def table(path, count=200, columns=("load", "price"), times=True):
    """Row k holds (k, 1000 + k, ...)."""
    lines = [",".join((["date"] if times else []) + list(columns))]
    for k in range(count):
        lines.append(",".join(([hour(k)] if times else []) + [str(k + 1000 * c) for c in range(len(columns))]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_is_read(tmp_path):
    found = read_timetable(table(tmp_path / "a.csv", 30))
    assert (found.columns, found.rows.shape, found.rows.dtype) == (("load", "price"), (30, 2), np.float32)
    assert found.rows[7].tolist() == [7, 1007]
    assert found.rows_a_day == 24


def test_the_same_numbers_in_other_forms(tmp_path):
    plain = table(tmp_path / "a.csv", 30)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "c.csv").write_text("\ufeff" + plain.read_text().replace(",", ";"), encoding="utf-8")
    (tmp_path / "d.csv").write_text("\n".join(plain.read_text().splitlines()[1:]))  # no header
    for name in ("b.csv.gz", "c.csv", "d.csv"):
        found = read_timetable(tmp_path / name)
        np.testing.assert_array_equal(found.rows, read_timetable(plain).rows)
        assert found.columns == (() if name == "d.csv" else ("load", "price"))
    untimed = read_timetable(table(tmp_path / "e.csv", 30, times=False))
    assert untimed.rows.shape == (30, 2) and untimed.rows_a_day is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n", "no row below"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, the first line has 2"),
        ("a,b\n1,2\n,4\n5,\n", r"2 cells are missing, the first in line 3, column 'a'; fill them in"),
        ("a,b\n1,2\n3,NaN\n", "1 cell is missing, the first in line 3, column 'b'"),
        ("a,b\n1,2\n3,four\n", "line 3: column 'b' holds 'four'"),
        ("a,b\n1,2\n3,inf\n", "holds 'inf', which is not a finite number"),
        ("a,b\n1,2\n3,1e39\n", "holds '1e39'"),
        ("a,a\n1,2\n", "without a name of their own"),
        ("date\n2020-01-01\n", "no column of numbers"),
        ("date,a\n2020-01-02,1\n2020-01-01,2\n", "line 3: 2020-01-01 comes after 2020-01-02; sort the rows"),
        ("\x00\x01", "cannot be read as CSV|no row|no column"),
    ],
)
def test_files_that_are_refused(tmp_path, text, words):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_timetable(tmp_path / "bad.csv")


def test_files_that_are_not_text(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00a")
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    for name, words in (
        ("bad.csv", "cannot be read"),
        ("bad.csv.gz", "cannot be read"),
        ("none.csv", "does not exist"),
    ):
        with pytest.raises(DataError, match=words):
            read_timetable(tmp_path / name)


def test_gaps_and_unknown_times_are_said(tmp_path, caplog):
    lines = table(tmp_path / "a.csv", 30).read_text().splitlines()
    (tmp_path / "gap.csv").write_text("\n".join(lines[:10] + lines[12:]))
    (tmp_path / "odd.csv").write_text("when,a\nMonday,1\nTuesday,2\n")
    with caplog.at_level(logging.INFO, "edgekit"):
        assert read_timetable(tmp_path / "gap.csv").rows_a_day == 24
        assert read_timetable(tmp_path / "odd.csv").rows_a_day is None
    assert "1 of 27 steps are not 1:00:00" in caplog.text and "'Monday', which is not ISO 8601" in caplog.text


def test_windows_and_what_follows_them(tmp_path):
    data = open_data(f"series:{table(tmp_path / 'a.csv')},history=10,horizon=3")
    assert (data.split, len(data), data.columns, data.labels) == ("all", 200 - 10 - 3 + 1, ("load", "price"), None)
    assert data.arrays["series"][5].tolist() == [[k, 1000 + k] for k in range(5, 15)]
    assert data.targets[5].tolist() == [1015, 1016, 1017]  # the last column
    assert (data.params["target"], data.params["season"]) == ("price", 24)  # a day of hours
    other = open_data(f"series:{tmp_path / 'a.csv'},target=load,season=7,horizon=1")
    assert other.targets[0].tolist() == [96] and other.params["season"] == 7
    assert open_data(f"series:{table(tmp_path / 'b.csv', times=False)},horizon=5").params["season"] == 5
    assert data.params["inputs"] == ("load", "price")
    own = open_data(f"series:{tmp_path / 'a.csv'},inputs=target")
    assert own.params["inputs"] == ("price",) and own.arrays["series"][0].shape == (96, 2)
    assert measure(own).columns == ("price",) and measure(own).mean == own.params["mean"][1:]


def test_the_split_is_by_time(tmp_path):
    name = f"series:{table(tmp_path / 'a.csv')},history=10,horizon=3"
    train, test = open_data(f"{name}@train"), open_data(f"{name}@test")
    held = train.params["validation"]
    rows = train.targets - 1000
    assert (rows[: len(rows) - held].min(), rows[: len(rows) - held].max()) == (10, 143)  # 72% of 200 rows
    assert (rows[len(rows) - held :].min(), rows[len(rows) - held :].max()) == (144, 159)
    assert ((test.targets - 1000).min(), (test.targets - 1000).max()) == (160, 199)  # all of the rest is forecast …
    assert test.arrays["series"][0][0, 0] == 150  # … from a history that reaches back
    seen = np.arange(144)
    np.testing.assert_allclose(train.params["mean"], [seen.mean(), 1000 + seen.mean()], rtol=1e-5)  # six digits
    assert test.params["mean"] == train.params["mean"] and test.params["validation"] == 0
    assert open_data(name, default_split="train").split == "train"


def test_long_series_are_thinned(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(series, "MOST_WINDOWS", 20)
    name = f"series:{table(tmp_path / 'a.csv')},history=10,horizon=3"
    with caplog.at_level(logging.INFO, "edgekit"):
        train = open_data(f"{name}@train")
    assert len(train) - train.params["validation"] == 19 and "every 7-th is used" in caplog.text
    assert len(open_data(f"{name}@test")) == 38  # what is measured is not thinned


def test_series_that_are_refused(tmp_path, caplog):
    path = table(tmp_path / "a.csv")
    for spelled, error, words in (
        ("series:", DataError, "takes the path of a CSV"),
        (f"series:{tmp_path / 'none.csv'}", DataError, "does not exist"),
        (f"series:{path},target=heat", DataError, "no column 'heat' to forecast; it has: load, price"),
        (f"series:{path},history=0", UsageError, "history=0 is not a number of rows"),
        (f"series:{path},horizon=x", UsageError, "horizon=x is not a number of rows"),
        (f"series:{path},inputs=some", UsageError, "neither all"),
        (f"series:{path},history=190,horizon=20", DataError, r"all has \d+ rows, one window takes 190 \+ 20"),
        (f"series:{path},horizon=50@test", DataError, r"test has 40 rows, one window takes 96 \+ 50"),
    ):
        with pytest.raises(error, match=words):
            open_data(spelled)
    flat = tmp_path / "flat.csv"
    flat.write_text("a,b\n" + "\n".join(f"{k},5" for k in range(200)))
    with pytest.raises(DataError, match="'b' is 5 in every row that is trained on"):
        open_data(f"series:{flat}")
    with caplog.at_level(logging.INFO, "edgekit"):
        data = open_data(f"series:{flat},target=a")
    assert data.params["std"][1] == 1.0 and "b never changes in the training rows" in caplog.text


CONTRACT = InputSpec("series", mean=(10.0, 0.0), std=(2.0, 4.0), columns=("load", "price"), params={"history": 3})
SIGNATURE = Signature((TensorSpec("series", "float32", (1, 3, 2)),), (TensorSpec("y", "float32", (1, 1)),))


def test_the_contract_normalises_the_last_rows():
    raw = [np.array([[99, 99], [10, 4], [12, 8], [8, -4]], np.float32)]
    assert apply_contract(raw, CONTRACT).tolist() == [[[0, 1], [1, 2], [-1, -1]]]
    for sample, words in (
        (np.zeros((2, 2)), "has 2 rows, the model takes 3"),
        (np.zeros(3), r"time x columns, got shape \(3,\)"),
        (np.zeros((3, 5)), "5 columns, the model was made for 2"),
        (np.full((3, 2), np.nan), "not a finite number"),
    ):
        with pytest.raises(DataError, match=words):
            apply_contract([sample], CONTRACT)


def test_columns_are_matched_by_name(tmp_path, caplog):
    data = open_data(f"series:{table(tmp_path / 'a.csv', columns=('x', 'price', 'load'))},history=3,horizon=1")
    feed, labels = next(batches(data, SIGNATURE, {"series": CONTRACT}, batch=2))
    assert labels is None and feed["series"].shape == (2, 3, 2)
    np.testing.assert_allclose(feed["series"][0, 0], [(2000 - 10) / 2, 1000 / 4], rtol=1e-6)  # float32
    assert isinstance(series.arrange(data.arrays["series"], data.columns, CONTRACT), Windows)
    with pytest.raises(DataError, match="no column 'price', which the model takes"):
        series.arrange(data.arrays["series"], ("x", "y", "load"), CONTRACT)
    with caplog.at_level(logging.INFO, "edgekit"):
        feed = sample_feed(str(tmp_path / "a.csv"), SIGNATURE, {"series": CONTRACT})
    assert "1 of the 3 columns are not the model's" in caplog.text and "has 200 rows, the model takes 3" in caplog.text
    np.testing.assert_allclose(feed["series"][0, -1], [(2199 - 10) / 2, 1199 / 4], rtol=1e-6)


def test_the_contract_is_what_the_reader_measured(tmp_path):
    data = open_data(f"series:{table(tmp_path / 'a.csv')},history=10,horizon=3@train")
    contract = measure(data)
    assert (contract.columns, contract.params) == (("load", "price"), {"history": 10})
    assert (contract.mean, contract.std) == (data.params["mean"], data.params["std"])
    data.params.clear()
    with pytest.raises(DataError, match="does not say what is forecast"):
        measure(data)


def ett(path, rows=etth1.ROWS, columns=etth1.COLUMNS):
    return table(path, rows, columns)


def test_etth1_has_the_usual_split(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    ett(tmp_path / "ETTh1.csv")
    counts = {split: len(open_data(f"etth1@{split}")) for split in ("train", "val", "test")}
    assert counts == {"train": 8640 - 96 - 24 + 1 + 2880 - 24 + 1, "val": 2857, "test": 2857}  # as Informer's loader
    test, train = open_data("etth1"), open_data("etth1@train")
    assert test.arrays["series"][0].shape == (96, 7) and test.arrays["series"][0][0, 0] == 11520 - 96
    assert test.targets[0, 0] == 6000 + 11520 and test.targets[-1, -1] == 6000 + 14399
    assert measure(train).columns == ("OT",)
    assert train.params["validation"] == 2857 and train.targets[8520, -1] == 6000 + 8639
    with pytest.raises(UsageError, match="train, val, test, all"):
        open_data("etth1@dev")


def test_etth1_that_is_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    ett(tmp_path / "ETTh1.csv", rows=500)
    with pytest.raises(DataError, match=r"500 rows of HUFL.*17,420 of"):
        open_data("etth1")


@pytest.mark.needs_data
def test_the_real_etth1(real_data, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(real_data))
    data = open_data("etth1")
    assert (len(data), data.columns, data.params["season"]) == (2857, etth1.COLUMNS, 24)
    assert (data.params["mean"][-1], data.params["std"][-1]) == (17.1283, 9.17649)  # of its first 8,640 rows
