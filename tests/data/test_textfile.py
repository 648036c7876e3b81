"""Text files of strangers: packed ones that swell, lines without end, numbers of 5,000 digits, and no text at all."""

import gzip
import os
import random

import pytest

from edgekit.data import open_data
from edgekit.data.dataset import class_indices
from edgekit.data.textfile import lines, rows
from edgekit.data.timetable import read_timetable
from edgekit.errors import DataError, LimitError

TABLE = "a,b,label\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n"
SERIES = "date,a,b\n" + "".join(f"2020-01-01 {k:02}:00:00,{k},{k + 1}\n" for k in range(24))
SENTENCES = "sentence\tlabel\ngood film\t1\nbad film\t0\nfine\t1\npoor\t0\n"
FILES = {"table": TABLE, "series": SERIES, "text": SENTENCES}


def opened(kind, path):
    return open_data(f"{kind}:{path},history=4,horizon=2" if kind == "series" else f"{kind}:{path}")


def test_lines_and_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfa;b,c;d\r\n\r\n1;"2\n3"\r\n')
    assert list(rows(path, ",;")) == [(1, ["a", "b,c", "d"]), (4, ["1", "2\n3"])]
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(lines(packed, "a file")) == list(lines(path, "a file")) == ["a;b,c;d\r\n", "\r\n", '1;"2\n', '3"\r\n']


@pytest.mark.parametrize("kind", FILES)
def test_a_packed_file_is_the_file(tmp_path, kind):
    for name, data in (("a.txt", FILES[kind].encode()), ("a.txt.gz", gzip.compress(FILES[kind].encode()))):
        (tmp_path / name).write_bytes(data)
    assert len(opened(kind, tmp_path / "a.txt")) == len(opened(kind, tmp_path / "a.txt.gz")) > 3


@pytest.mark.parametrize("kind", FILES)
def test_a_small_file_does_not_become_a_large_one(tmp_path, kind):
    row = (FILES[kind].splitlines()[1] + "\n").encode()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(FILES[kind].encode() + row * (6_000_000 // len(row))))
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_UNPACKED_RATIO"):
        opened(kind, tmp_path / "a.csv.gz")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(("name", "value"), [("TEXT_BYTES", "20"), ("TEXT_LINES", "2"), ("LINE_CHARACTERS", "4")])
def test_limits(tmp_path, monkeypatch, kind, name, value):
    (tmp_path / "a.csv").write_text(FILES[kind])
    monkeypatch.setenv(f"EDGEKIT_LIMIT_{name}", value)
    with pytest.raises(LimitError, match=f"EDGEKIT_LIMIT_{name}"):
        opened(kind, tmp_path / "a.csv")


@pytest.mark.parametrize("kind", FILES)
def test_only_regular_files_are_opened(tmp_path, kind):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError):  # "does not exist" or "is a FIFO"
        opened(kind, tmp_path / "a.csv")
    with pytest.raises(DataError, match="is a FIFO"):
        list(rows(tmp_path / "a.csv"))


@pytest.mark.parametrize("content", [
    b"not gzip", gzip.compress(TABLE.encode())[:-6], gzip.compress(TABLE.encode())[:20], b"\x1f\x8b",
    gzip.compress(TABLE.encode())[:-8] + bytes(8), gzip.compress(b"\xff\xfe"),
], ids=["not gzip", "cut short", "header and a little", "two bytes", "wrong sum", "not UTF-8"])  # fmt: skip
def test_packed_files_that_are_damaged(tmp_path, content):
    (tmp_path / "a.csv.gz").write_bytes(content)
    for kind in FILES:
        with pytest.raises(DataError, match="cannot be read"):
            opened(kind, tmp_path / "a.csv.gz")


@pytest.mark.parametrize("labels", [["1" * 5000, "2"] * 3, ["--1", "2"] * 3, ["²", "1"] * 3, ["-", "1"] * 3])
def test_labels_that_look_like_numbers(tmp_path, labels):
    names, indices = class_indices(tmp_path, labels)
    assert sorted(names) == sorted(set(labels)) and [names[k] for k in indices] == labels


def test_cells_of_many_digits(tmp_path):
    (tmp_path / "a.csv").write_text(f"a,label\n{'1' * 5000},x\n2,y\n")
    with pytest.raises(DataError, match="not a finite number"):
        open_data(f"table:{tmp_path / 'a.csv'}")
    (tmp_path / "a.csv").write_text(f"{'1' * 5000}\n2\n")
    with pytest.raises(DataError, match="no column of numbers"):
        read_timetable(tmp_path / "a.csv")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_a_data_error(tmp_path, kind, packed):
    dice = random.Random(kind)
    whole = FILES[kind].encode()
    whole = gzip.compress(whole) if packed else whole
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    pieces = (
        b"\0",
        b'"',
        b"\n",
        b"\r",
        b",",
        b"\t",
        b"9" * 400,
        b"nan",
        b"1e999",
        b"\xff",
        "²".encode(),
        b"2020-13-01",
    )
    refused = 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            at = dice.randrange(len(data))
            data[at : at + dice.randrange(3)] = dice.choice(pieces)
        path.write_bytes(data)
        try:
            opened(kind, path)
        except DataError:
            refused += 1
    assert refused > 0  # else nothing was damaged


def test_of_a_line_that_is_too_long_no_more_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a" * 100_000)
    monkeypatch.setenv("EDGEKIT_LIMIT_LINE_CHARACTERS", "1000")
    with pytest.raises(LimitError, match="1,001 characters"):
        list(lines(tmp_path / "a.csv", "a CSV file"))
