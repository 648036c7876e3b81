"""Sentences with labels: ``text:FILE.tsv``, and ``sst2``, the Stanford Sentiment Treebank with two classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.data.cache import Download, fetch, find_local
from edgekit.data.dataset import Dataset, Reader, choose_split, class_indices, interleaved
from edgekit.data.text import Sentences
from edgekit.data.textfile import lines
from edgekit.errors import DataError

LABEL_NAMES = ("label", "class", "category", "sentiment", "target")
TEXT_NAMES = ("text", "sentence", "review", "phrase", "message")

SST2_CLASSES = ("negative", "positive")
SST2_COUNTS = {"train": 6920, "dev": 872, "test": 1821}
_SST2_URL = "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2/"
_SST2_SUMS = {
    "train": "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
    "dev": "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
    "test": "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
}


def open_sst2(name: str, split: str) -> Dataset:
    """Sentences of film reviews, negative or positive (Socher et al. 2013), in the published splits.

    6,920 sentences to train on, 872 of ``dev``, 1,821 of ``test``; ``all`` is the three in this order.

    Raises:
        DataError: the files are not there and cannot be downloaded, or are not what they should be.
    """
    wanted = tuple(SST2_COUNTS) if split == "all" else (split,)
    sentences: list[str] = []
    labels: list[int] = []
    for part in wanted:
        file = f"sst2/{part}.tsv"
        path = find_local(file) or fetch(Download(file, f"{_SST2_URL}{part}.tsv", f"sha256:{_SST2_SUMS[part]}"))
        rows = _rows(path)
        if len(rows) != SST2_COUNTS[part] or any(row[1] not in ("0", "1") for row in rows):
            raise DataError(
                f"{path} is not sst2@{part}: {SST2_COUNTS[part]:,} lines of a sentence, a tab, and 0 or 1 were "
                f"expected, it has {len(rows):,}; delete it and run again"
            )
        sentences += [row[0] for row in rows]
        labels += [int(row[1]) for row in rows]
    return Dataset(name, split, "text", {"text": Sentences(sentences)}, np.array(labels, np.int64), SST2_CLASSES)


SST2 = Reader(open_sst2, (*SST2_COUNTS, "all"), held_out=("dev", "test"))


def open_text(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``text:FILE.tsv``: one sentence and its label a line, a tab between them, in either order, no quoting.

    A header that names them (``sentence``, ``label`` ...) decides which is which, and may stand before further columns;
    without one the column with fewer different values is the label (the second, if they have as many). Classes are
    the labels in the order of their numbers or letters.

    Raises:
        DataError: no such file, not UTF-8, a line with another number of columns, an empty sentence or label.
    """
    path = Path(argument)
    if not argument or not path.exists():
        raise DataError(f"{argument or 'text:'} does not exist; text:FILE.tsv takes the path of a tab-separated file")
    rows = _rows(path)
    texts, labels = _columns(path, rows)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), len(rows) - len(texts) + 1):
        if not text.strip() or not label.strip():
            raise DataError(
                f"{path}, line {number}: the {'sentence' if not text.strip() else 'label'} is empty; fill it in, or "
                "remove the line"
            )
    classes, indices = class_indices(path, labels)
    order = interleaved(indices)
    samples = Sentences(texts[k] for k in order)
    whole = Dataset(name, "all", "text", {"text": samples}, indices[order], classes)
    return choose_split(whole, split, default_split)


def _rows(path: Path) -> list[list[str]]:
    """The cells of every line; blank lines at the end are left out."""
    rows = [line.rstrip("\r\n").split("\t") for line in lines(path, "a tab-separated file", "\n")]
    while rows and len(rows[-1]) == 1 and not rows[-1][0].strip(" "):
        rows.pop()
    if not rows:
        raise DataError(f"{path} is empty; a line is a sentence, a tab and its label")
    width = max(len(rows[0]), 2)
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise DataError(
                f"{path}, line {number}: {len(row)} column{'' if len(row) == 1 else 's'}, {width} were expected (a "
                "sentence, a tab and its label)"
            )
    return rows


def _columns(path: Path, rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """The sentences and their labels, without the header."""
    head = [cell.strip().lower() for cell in rows[0]]
    text = next((k for k, cell in enumerate(head) if cell in TEXT_NAMES), None)
    label = next((k for k, cell in enumerate(head) if cell in LABEL_NAMES), None)
    if len(head) == 2 and (text is None) != (label is None):
        other = 1 - (label if text is None else text)  # type: ignore[operator]
        if head[other] not in {row[other].strip().lower() for row in rows[1:]}:  # else the first line is a sample
            text, label = (other, label) if text is None else (text, other)
    if text is not None and label is not None:
        return [row[text] for row in rows[1:]], [row[label] for row in rows[1:]]
    if len(head) != 2:
        raise DataError(
            f"{path} has {len(head)} columns and no header that names two of them {TEXT_NAMES[1]!r} and "
            f"{LABEL_NAMES[0]!r}; add one, or keep these two only"
        )
    different = [len({row[k] for row in rows}) for k in (0, 1)]
    label = 0 if different[0] < different[1] else 1
    return [row[1 - label] for row in rows], [row[label] for row in rows]
