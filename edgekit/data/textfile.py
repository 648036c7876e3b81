"""Lines and cells of text files, gzip-packed ones (``.gz``) too: bounded, and read as they are needed."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from edgekit.errors import DataError
from edgekit.inputs import open_regular
from edgekit.limits import check, limit
from edgekit.reading import reading
from edgekit.unpacking import Bounded


def lines(path: Path, wanted: str, newline: str = "") -> Iterator[str]:
    """The lines of a UTF-8 file, each with its end; ``wanted`` and ``newline`` as of ``open_regular`` and ``open``.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
        LimitError: larger than is allowed: the whole, a line, or the number of lines.
    """
    most, longest = limit("TEXT_LINES"), limit("LINE_CHARACTERS")
    with open_regular(path, DataError, wanted, "TEXT_BYTES") as file, reading(path, DataError, "UTF-8 text"):
        stream: IO[bytes] = file
        if path.suffix == ".gz":
            unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=file))
            stream = io.BufferedReader(Bounded(unpacked, os.fstat(file.fileno()).st_size, "TEXT_BYTES", path))
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)
        for number, line in enumerate(iter(lambda: text.readline(longest + 1), ""), 1):  # of a longer one, no more
            if number > most or len(line) > longest:
                check("TEXT_LINES", number, path)
                check("LINE_CHARACTERS", len(line), f"{path}, line {number}")
            yield line


def rows(path: Path, delimiters: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, with the number of the line each ends on.

    Args:
        path: of the file.
        delimiters: the first line says which of them it is.

    Raises:
        DataError, LimitError: see :func:`lines`; or a row that cannot be read.
    """
    with reading(path, DataError, "CSV"):
        given = lines(path, "a CSV file")
        first = next(given, "")
        reader: Any = csv.reader(chain([first], given), delimiter=max(delimiters, key=first.count))
        for row in reader:
            if row:
                yield reader.line_num, row
