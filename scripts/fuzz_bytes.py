"""Mutations of bytes, JSON, TOML and tables of text, for scripts/fuzz: the same random numbers give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes], bytes]
MOST_BYTES = 4 << 20
"""Largest input: what a large file may cost is another question than what a small one may."""
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers at which a length, an index or a count stops to fit."""


# ---------------------------------------------------------------- bytes


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """One change that knows nothing of the format."""
    change: Mutator = rng.choice(_CHANGES)
    return change(rng, data)[:MOST_BYTES]


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _random_bytes(rng: Random, data: bytes) -> bytes:
    start, stop = stretch(rng, data)
    return data[:start] + rng.randbytes(stop - start) + data[stop:]


def _edge(rng: Random, data: bytes) -> bytes:
    """A number at the edge of its type, anywhere."""
    size = rng.choice((1, 2, 4, 4, 8))
    number = (rng.choice(EDGES) + rng.randrange(-1, 2)) % (1 << (8 * size))
    place = rng.randrange(max(len(data) - size, 0) + 1)
    place -= place % size if rng.random() < 0.7 else 0
    return data[:place] + number.to_bytes(size, rng.choice(("little", "little", "big"))) + data[place + size :]


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(rng: Random, data: bytes) -> bytes:
    start, stop = stretch(rng, data)
    return data[:start] + data[stop:]


def _repeat(rng: Random, data: bytes) -> bytes:
    start, stop = stretch(rng, data)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 2, 1000)) + data[stop:]


def _swap(rng: Random, data: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _fill(rng: Random, data: bytes) -> bytes:
    start, stop = stretch(rng, data)
    return data[:start] + rng.choice((b"\0", b"\xff", b"\x80", b" ", b"(", b"[")) * (stop - start) + data[stop:]


def _insert(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(_PIECES) + data[place:]


def _surround(rng: Random, data: bytes) -> bytes:
    more = rng.choice((rng.randbytes(rng.randrange(1, 64)), *_PIECES))
    return more + data if rng.random() < 0.4 else data + more


def _whole(rng: Random, data: bytes) -> bytes:
    """Another file altogether: empty, noise, or the beginning of something else."""
    return rng.choice((b"", b"\0", b"\n", rng.randbytes(rng.randrange(1, 4096)), *_PIECES))


def stretch(rng: Random, data: bytes) -> tuple[int, int]:
    """Beginning and end of a piece of ``data``, short ones more often."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(2 ** (rng.random() * rng.choice((3, 6, 12)))))


_PIECES = (
    b"PK\x05\x06" + b"\0" * 18, b"PK\x03\x04", b"\x1f\x8b\x08\0", b"TFL3", b"\x80\x04.", b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\xffWAVE", b"\x93NUMPY\x01\0", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\x1b]0;t\x07", b"\x1b[31m\x1b]52;c;dA==\x07", b"\r", b"\xc2\x85", b"\xe2\x80\xae", b"\xed\xa0\x80",
    b"\0" * 4096, b"9" * 5000, b"[" * 10_000,
)  # fmt: skip
_CHANGES: tuple[Mutator, ...] = (
    _flip, _flip, _flip, _random_bytes, _edge, _edge, _truncate, _truncate, _remove, _repeat, _swap, _fill, _insert,
    _surround, _whole,
)  # fmt: skip


# ---------------------------------------------------------------- JSON


class Raw(str):
    """Text that stands in a JSON document as it is: what ``json.dumps`` would not write."""

    __slots__ = ()


class Pairs(list[Any]):
    """An object as its (key, value) pairs, so that a key can stand twice."""


HOSTILE_TEXTS = (
    "", " ", "x" * 200_000, "\x1b[31m\x1b]0;title\x07", "a\x00b", "line\nline", "\u202e\u2066", "../../outside", "/",
    "outside.py:build", "os:abort", "9**9**9**9", "__import__('os').system('touch outside')", "(a+)+$", "(a|a)*" * 30,
    "NaN", "%s%n{0.__class__}", "$(touch outside)", "-", "edgekit.card/1", "nan", "1e999", "0" * 5000,
)  # fmt: skip
_NUMBERS = (
    "0", "-0", "1", "-1", "1.5", "2147483647", "2147483648", "-2147483649", "4294967296", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e9", "1e18", "1e300", "1e308", "1e309",
    "-1e309", "1e-320", "NaN", "Infinity", "-Infinity", "9" * 5000, "-" + "9" * 5000, "1" * 400, "30000",
    "1000000000",
)  # fmt: skip
_SHAPES = (
    "null", "true", "false", "[]", "{}", "[[]]", "[{}]", '[""]', "[null]", '{"":null}', "[0]", "[-1]", "[1,2,3]",
    '["a","a"]', "[" * 150 + "]" * 150, "[" * 100_000 + "]" * 100_000, '{"a":' * 150 + "1" + "}" * 150,
    '{"a":' * 50_000 + "1" + "}" * 50_000, "[" + "0," * 99_999 + "0]", "[30000,30000]", "[1000000,1000000,1000000]",
    "[9223372036854775807,2]", '"\\ud800"', '"\\u0000"',
)  # fmt: skip


def hostile_json(rng: Random) -> Raw:
    """One value in JSON's text: of another type, at an edge, deep, long, or what some parser takes for code."""
    kind = rng.random()
    if kind < 0.4:
        return Raw(rng.choice(_NUMBERS))
    if kind < 0.7:
        return Raw(rng.choice(_SHAPES))
    return Raw(json.dumps(rng.choice(HOSTILE_TEXTS)))


def mutate_json(rng: Random, data: bytes) -> bytes:
    """One to four changes of values, keys and lengths; one in eight is a change of the text."""
    if rng.random() < 0.125:
        return mutate_bytes(rng, data)
    try:
        tree = json.loads(data, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return mutate_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = change_tree(rng, tree)
    return dumped(tree).encode("utf-8", "surrogatepass")[:MOST_BYTES]


def change_tree(rng: Random, tree: Any) -> Any:
    """One change somewhere in a tree of lists and pairs, which is changed in place where it can be."""
    places = list(_places(tree))
    if not places or rng.random() < 0.02:
        return hostile_json(rng)
    holder, index = rng.choice(places)
    pairs = isinstance(holder, Pairs)
    value = holder[index][1] if pairs else holder[index]

    def put(new: Any) -> None:
        holder[index] = (holder[index][0], new) if pairs else new

    action = rng.randrange(9)
    if action <= 2:
        put(hostile_json(rng))
    elif action == 3:
        del holder[index]
    elif action == 4:  # twice, under the same key
        holder.insert(index, (holder[index][0], hostile_json(rng)) if pairs else value)
    elif action == 5 and pairs:
        keys = ("", "x" * 70_000, "\x1b[2J", "../x", "a\nb", *(key for key, _ in holder))
        holder[index] = (rng.choice(keys), value)
    elif action == 6:
        other, place = rng.choice(places)
        put(other[place][1] if isinstance(other, Pairs) else other[place])
    elif action == 7 and isinstance(value, list):
        put(type(value)(list(value) * rng.choice((0, 2, 1000))))
    else:
        put(_nearby(rng, value))
    return tree


def _nearby(rng: Random, value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        near = (value + 1, value - 1, -value, value * 1000, value * 2**31)
        return rng.choice((*near, float(value), str(value), [value]))
    if isinstance(value, str) and value:
        cut = rng.randrange(len(value))
        coloured = value[:cut] + "\x1b[1m" + value[cut:]
        return rng.choice((value[:cut], value + value, value.upper(), coloured, value * 1000))
    return Raw("null")


def _places(tree: Any) -> Iterator[tuple[Any, int]]:
    """(container, index) of every value, the first twenty thousand of them."""
    waiting, count = [tree], 0
    while waiting:
        holder = waiting.pop()
        if not isinstance(holder, list):
            continue
        for index, item in enumerate(holder):
            value = item[1] if isinstance(holder, Pairs) else item
            yield holder, index
            count += 1
            if count >= 20_000:
                return
            if isinstance(value, list):
                waiting.append(value)


def dumped(tree: Any) -> str:
    """The JSON text of a tree with raw values in it; null below 500 levels, and beyond the limit of an input."""
    parts: list[str] = []
    size = 0

    def write(text: str) -> None:
        nonlocal size
        size += len(text)
        parts.append(text)

    def walk(value: Any, depth: int) -> None:
        if isinstance(value, Raw):
            write(value)
        elif depth > 500 or size > MOST_BYTES:
            write("null")
        elif isinstance(value, Pairs):
            write("{")
            for number, (key, item) in enumerate(value):
                write(("," if number else "") + json.dumps(key) + ":")
                walk(item, depth + 1)
            write("}")
        elif isinstance(value, list):
            write("[")
            for number, item in enumerate(value):
                write("," if number else "")
                walk(item, depth + 1)
            write("]")
        else:
            write(json.dumps(value))

    walk(tree, 0)
    return "".join(parts)


# ---------------------------------------------------------------- TOML, lines of JSON, tables, sentences


_TOML_VALUES = (
    *_NUMBERS[:20], "nan", "-inf", "9" * 5000, '""', '"\\u001b[31m"', "'''\n'''", "[]", "{}", "[[]]", "[1, 'a']",
    "{a = {}}", "1979-05-27T07:32:00Z", "12:00:00", "0x" + "f" * 4000, "[" * 100_000 + "]" * 100_000,
    "[" * 90 + "]" * 90, "true", "{a = " * 90 + "1" + "}" * 90, '"outside.py:build"', '"os:abort"', '"../../outside"',
    '"' + "x" * 200_000 + '"',
)  # fmt: skip
_TOML_LINES = (
    "[step]", "[[step]]", "[[step]]\n" * 5000, "[" + "a." * 5000 + "a]", "a" + ".a" * 5000 + " = 1", '"" = 1', "= 1",
    "]", '"""', "\x1b[31m = 1", "step = 1", "do = 1", "name = 'x'", "from = 'x'", '"\\u0000" = 1', "x = 1\n" * 2,
    "# " + "c" * 100_000, "".join(f"k{n} = {n}\n" for n in range(5000)), "[[step]]\ndo = 'export'\n" * 700,
)  # fmt: skip


def mutate_toml(rng: Random, data: bytes) -> bytes:
    """Changes of lines and of what stands behind their equals signs."""
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = rng.randrange(len(lines))
        key, equals, _ = lines[place].partition("=")
        action = rng.randrange(8)
        if action <= 3 and equals:
            lines[place] = f"{key}= {rng.choice(_TOML_VALUES)}"
        elif action == 4:
            lines.insert(place, rng.choice(_TOML_LINES))
        elif action == 5:
            lines.insert(rng.randrange(len(lines)), lines[place])
        elif action == 6 and len(lines) > 1:
            del lines[place]
        else:
            other = rng.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
    return "\n".join(lines).encode("utf-8", "surrogatepass")[:MOST_BYTES]


def mutate_json_lines(rng: Random, data: bytes) -> bytes:
    """One line changed as JSON, lines swapped or repeated, or a change of the text."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    action = rng.randrange(6)
    if action <= 3:
        lines[place] = mutate_json(rng, lines[place])
    elif action == 4:
        lines[place:place] = [lines[place]] * rng.choice((1, 2, 500))
    else:
        return mutate_bytes(rng, data)
    return b"\n".join(lines)[:MOST_BYTES]


_CELLS = (
    b"", b" ", b"nan", b"inf", b"-inf", b"1e400", b"-1e400", b"1e39", b"1e-400", b"0x10", b"1_000", b"9" * 5000,
    b"1,2", b'"', b'""', b'"open', b"\0", b"\x1b[31m", b"\xff\xfe", b"\xed\xa0\x80", b"label", b"class", b"text",
    b"?", b"2020-01-01", b"x" * 140_000, b"2020-13-45 99:99", b"0001-01-01", b"9999-12-31T23:59:59+14:00",
    "٣".encode(), "²".encode(), "１".encode(), b"a\rb", b"--1", b"--",
)  # fmt: skip


def mutate_table(rng: Random, data: bytes) -> bytes:
    """Changes of cells, columns, lines, separators and line ends."""
    if rng.random() < 0.15:
        return mutate_bytes(rng, data)
    lines = data.split(b"\n")
    separator = next((s for s in (b"\t", b";", b",") if s in lines[0]), b",")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(min(len(lines), rng.choice((1, 3, len(lines)))))
        cells = lines[place].split(separator)
        action = rng.randrange(9)
        if action <= 3:
            cells[rng.randrange(len(cells))] = rng.choice(_CELLS)
            lines[place] = separator.join(cells)
        elif action == 4:
            lines[place] = separator.join(cells * rng.choice((0, 2, 1000)))
        elif action == 5:
            lines[place:place] = [rng.choice((b"", lines[place], separator * 5000, b"\r"))] * rng.choice((1, 3, 2000))
        elif action == 6:
            new = rng.choice((b"\t", b";", b",", b"|", b"\r", b"\0"))
            lines = [line.replace(separator, new) for line in lines]
        elif action == 7:
            column = rng.randrange(len(cells))
            cell = rng.choice(_CELLS[:24])
            lines = [_with_cell(line, separator, column, cell) for line in lines]
        else:
            lines = lines[: rng.randrange(len(lines) + 1)] or [b""]
    return b"\n".join(lines)[:MOST_BYTES]


def _with_cell(line: bytes, separator: bytes, column: int, cell: bytes) -> bytes:
    cells = line.split(separator)
    if column < len(cells):
        cells[column] = cell
    return separator.join(cells)
