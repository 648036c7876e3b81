"""Readers of sentences: columns in either order, headers, every bad line named; the published splits of sst2."""

import numpy as np
import pytest

from edgekit.data import open_data
from edgekit.data.dataset import held_out_splits
from edgekit.errors import DataError, UsageError


@pytest.fixture
def tsv(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "t.tsv").write_bytes(text.encode(encoding))
        return f"text:{tmp_path / 't.tsv'}"

    return write


def read_all(spec):
    data = open_data(f"{spec}@all")
    pairs = zip(data.arrays["text"], data.labels, strict=True)
    return {str(text): data.classes[label] for text, label in pairs}


WANTED = {"a fine film": "good", "no , no": "bad", 'so "so"': "bad"}


@pytest.mark.parametrize(
    "text",
    [
        'a fine film\tgood\nno , no\tbad\nso "so"\tbad\n',
        'good\ta fine film\nbad\tno , no\nbad\tso "so"',  # the column with fewer values is the label
        'sentence\tlabel\na fine film\tgood\nno , no\tbad\nso "so"\tbad\n',
        'Class\tReview\ngood\ta fine film\nbad\tno , no\nbad\tso "so"\n\n',
        'id\tlabel\tsource\ttext\n1\tgood\tx\ta fine film\n2\tbad\tx\tno , no\n3\tbad\ty\tso "so"\n',
        'words\tlabel\r\na fine film\tgood\r\nno , no\tbad\r\nso "so"\tbad\r\n',  # one name is enough to be a header
        '\ufeffa fine film\tgood\nno , no\tbad\nso "so"\tbad\n',
    ],
)
def test_columns_in_any_order(tsv, text):
    assert read_all(tsv(text)) == WANTED


def test_a_first_line_that_only_looks_like_a_header(tsv):
    assert read_all(tsv("review\t1\nnot good\t0\nfine\t1\n")) == {"review": "1", "not good": "0", "fine": "1"}


def test_classes_in_the_order_of_their_numbers_and_taking_turns(tsv):
    data = open_data(tsv("".join(f"w{k} v\t{label}\n" for label in (10, 2, 1) for k in range(8))))
    assert data.classes == ("1", "2", "10")
    assert data.labels[:6].tolist() == [0, 1, 2, 0, 1, 2]  # the first N samples are of all classes
    train, test = open_data(f"{data.name}@train"), open_data(f"{data.name}@test")
    assert (len(train), len(test), train.kind) == (18, 6, "text")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a fine film\tgood\nbad\n", "line 2: 1 column, 2 were expected"),
        ("a\tgood\nb\tbad\tworse\n", "line 2: 3 columns"),
        ("a\tgood\n \tbad\nc\tbad\n", "line 2: the sentence is empty"),
        ("text\tlabel\na\tgood\nb\t\n", "line 3: the label is empty"),
        ("a\tb\tc\nd\te\tf\n", "no header that names two of them"),
        ("text\tlabel\n" + "".join(f"w{k}\t{k / 7}\n" for k in range(30)), "30 different labels on 30 lines"),
    ],
)
def test_bad_files(tsv, text, words):
    with pytest.raises(DataError, match=words):
        open_data(tsv(text))


def test_files_that_are_none(tsv, tmp_path):
    with pytest.raises(DataError, match="UTF-8"):
        open_data(tsv("na\u00efve film\t1\nb\t0\n", "latin-1"))
    with pytest.raises(DataError, match="does not exist"):
        open_data(f"text:{tmp_path / 'none.tsv'}")
    with pytest.raises(DataError, match="does not exist"):
        open_data("text:")


def fake_sst2(folder, counts):
    (folder / "sst2").mkdir(exist_ok=True)
    for part, count in counts.items():
        lines = [f"{part} sentence {k}\t{k % 2}" for k in range(count)]
        (folder / "sst2" / f"{part}.tsv").write_text("\n".join(lines) + "\n")


def test_sst2_has_the_published_splits(tmp_path, monkeypatch):
    fake_sst2(tmp_path, {"train": 6920, "dev": 872, "test": 1821})
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    sizes = {split: len(open_data(f"sst2@{split}")) for split in ("train", "dev", "test", "all")}
    assert sizes == {"train": 6920, "dev": 872, "test": 1821, "all": 9613}
    assert open_data("sst2").label == "sst2@test"
    assert open_data("sst2", default_split="train").label == "sst2@train"
    assert open_data("sst2@dev").classes == ("negative", "positive")
    assert str(open_data("sst2@dev").arrays["text"][0]) == "dev sentence 0"
    assert held_out_splits("sst2") == ("dev", "test")
    assert held_out_splits("digits") == held_out_splits("images:DIR") == ("test",)
    with pytest.raises(UsageError, match="there are: train, dev, test, all"):
        open_data("sst2@valid")
    with pytest.raises(UsageError, match="there are: train, test, all"):
        open_data("digits@dev")


def test_sst2_that_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    fake_sst2(tmp_path, {"dev": 871})
    with pytest.raises(DataError, match=r"872 lines .* expected, it has 871"):
        open_data("sst2@dev")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  sst2/dev.tsv\n")
    with pytest.raises(DataError, match="SHA256SUMS says"):
        open_data("sst2@dev")


def test_sst2_is_downloaded_once_and_checked(tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    fake_sst2(tmp_path / "mirror", {"dev": 872})
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEKIT_MIRROR", (tmp_path / "mirror").as_uri())
    with pytest.raises(DataError, match=r"sha256 .* was expected; nothing was kept"):
        open_data("sst2@dev")
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


@pytest.mark.needs_data
def test_the_real_sst2(real_data):
    data = open_data("sst2@dev")
    assert len(data) == 872
    assert np.bincount(data.labels).tolist() == [428, 444]
    assert str(data.arrays["text"][0]) == "one long string of cliches"
