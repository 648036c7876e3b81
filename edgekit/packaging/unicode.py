"""Letters, numerals and capitals of Unicode as runs, for languages whose library does not know them."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

VERSION = unicodedata.unidata_version


@cache
def letters() -> tuple[tuple[int, int], ...]:
    """First and last of each run of letters, as :meth:`str.isalpha` has them."""
    return tuple(_runs(str.isalpha))


@cache
def numerals() -> tuple[tuple[int, int], ...]:
    """Runs of what :meth:`str.isalnum` has beside letters."""
    return tuple(_runs(lambda c: c.isalnum() and not c.isalpha()))


@cache
def capitals() -> tuple[tuple[int, int, int, int], ...]:
    """(first, last, step, shift) of letters with one small letter: that is ``shift`` further on."""
    found: list[tuple[int, int, int, int]] = []
    for code in range(sys.maxunicode + 1):
        small = chr(code).lower()
        if len(small) != 1 or ord(small) == code:
            continue
        shift = ord(small) - code
        if found and found[-1][3] == shift:
            first, last, step, _ = found[-1]
            gap = code - last
            if gap in (1, 2) and (first == last or gap == step):
                found[-1] = (first, code, gap, shift)
                continue
        found.append((code, code, 1, shift))
    return tuple(found)


def _runs(wanted: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    first = None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and wanted(chr(code))
        if inside and first is None:
            first = code
        elif not inside and first is not None:
            yield first, code - 1
            first = None
