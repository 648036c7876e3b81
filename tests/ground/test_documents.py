"""JSON and TOML of strangers: what is refused before it costs anything, and values of another type than was asked."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from edgekit.documents import parse_json, parse_toml, typed
from edgekit.errors import DataError, LimitError


@pytest.mark.parametrize("data", [
    b"", b"{", b"nonsense", b"NaN", b"[1, Infinity]", b"[-Infinity]", b"1" * 5000, b"\xff\xfe", b"[" * 100_000,
    b'{"a":' * 100_000, b'"\xed\xa0\x80"', b'"\\ud800"', b"\x00",
])  # fmt: skip
def test_what_is_not_json(data):
    with pytest.raises(DataError, match=r"^a\.json cannot be read as JSON: "):
        parse_json(data, DataError, "a.json")


def test_limits(monkeypatch):
    deep = b"[" * 201 + b"]" * 201
    with pytest.raises(LimitError, match=r"201 levels.*EDGEKIT_LIMIT_DOCUMENT_DEPTH"):
        parse_json(deep, DataError, "a.json")
    assert parse_json(b"[" * 200 + b"]" * 200, DataError, "a.json")
    for name, value in (("DOCUMENT_BYTES", "5"), ("DOCUMENT_VALUES", "2")):
        monkeypatch.setenv(f"EDGEKIT_LIMIT_{name}", value)
        with pytest.raises(LimitError, match=f"EDGEKIT_LIMIT_{name}"):
            parse_json(b"[1,2,3]", DataError, "a.json")
        monkeypatch.delenv(f"EDGEKIT_LIMIT_{name}")


@pytest.mark.parametrize(
    "text",
    ["a", "a = ", "a = " + "[" * 5000, "a = " + "1" * 5000, "[a]\n[a]", "a = 2020-13-01", "a = [0x" + "F" * 5000 + "]"],
)
def test_what_is_not_toml(text):
    with pytest.raises(DataError, match=r"^a\.toml cannot be read as TOML: "):
        parse_toml(text, DataError, "a.toml")


@pytest.mark.parametrize(
    "text", ["a." * 20_000 + "b = 1", "[" + "a." * 20_000 + "b]", "x = {" + "a." * 20_000 + "b = 1}"]
)
def test_dotted_keys_are_counted(text):
    with pytest.raises(LimitError, match="20,000 levels"):
        parse_toml(text, DataError, "a.toml")
    assert parse_toml("a.b.c = 1.5\n'd.e' = 'f.g'", DataError, "a.toml") == {"a": {"b": {"c": 1.5}}, "d.e": "f.g"}


@dataclass(frozen=True, slots=True)
class Part:
    size: tuple[int, int]
    names: tuple[str, ...] = ()


class Numbers(TypedDict, total=False):
    rate: int


@dataclass(frozen=True)
class Whole:
    name: str
    share: float
    parts: tuple[Part, ...] = ()
    one: Part | None = None
    dim: int | str = 0
    by_name: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=Numbers)
    free: Any = None


GOOD: dict[str, Any] = {
    "name": "a", "share": 1, "parts": [{"size": [1, 2], "names": ["x"]}], "one": {"size": [3, 4]}, "dim": "n",
    "by_name": {"k": [1, 0.5]}, "numbers": {"rate": 8000, "other": "kept"}, "free": {"a": [None]},
    "unknown": "left out",
}  # fmt: skip


def test_values_come_as_what_is_asked_for():
    assert typed(Whole, GOOD, "it") == Whole(
        "a", 1.0, (Part((1, 2), ("x",)),), Part((3, 4)), "n", {"k": (1.0, 0.5)}, {"rate": 8000, "other": "kept"},
        {"a": [None]},
    )  # fmt: skip
    assert typed(Whole, {"name": "a", "share": 0.5, "one": None}, "it") == Whole("a", 0.5)


@pytest.mark.parametrize(("change", "words"), [
    ({"name": 1}, "it.name is 1, a text was expected"),
    ({"name": ["a"]}, "it.name is a list, a text"),
    ({"share": "1"}, "it.share is '1', a finite number"),
    ({"share": True}, "it.share is True"),
    ({"share": float("inf")}, "it.share is inf"),
    ({"share": 10**400}, "it.share is 1000"),
    ({"parts": {}}, "it.parts is a table, a list"),
    ({"parts": [{"size": [1]}]}, r"it.parts\[0\].size has 1 values, 2"),
    ({"parts": [{"size": [1, 2**64]}]}, r"it.parts\[0\].size\[1\] is 18446"),
    ({"parts": [{"names": []}]}, r"it.parts\[0\] has no 'size'"),
    ({"parts": [None]}, r"it.parts\[0\] is None, a table"),
    ({"one": 5}, "it.one is 5, a table"),
    ({"dim": 1.5}, "it.dim is 1.5, a whole number or a text"),
    ({"by_name": [1]}, "it.by_name is a list, a table"),
    ({"by_name": {"k": "x"}}, "it.by_name.k is 'x', a list"),
    ({"numbers": {"rate": "fast"}}, "it.numbers.rate is 'fast', a whole number"),
])  # fmt: skip
def test_other_types(change, words):
    with pytest.raises(ValueError, match=words):
        typed(Whole, GOOD | change, "it")
    with pytest.raises(ValueError, match="it is a list, a table"):
        typed(Whole, [], "it")


def test_damage_is_a_value_error():
    dice = random.Random(2)
    odd = (None, True, -1, 10**30, 1e308, "", "x" * 9, [], {}, [[]], {"a": {}}, [None])

    def spoil(node):
        if isinstance(node, dict) and node and dice.random() < 0.8:
            key = dice.choice(list(node))
            return {**node, key: spoil(node[key])}
        if isinstance(node, list) and node and dice.random() < 0.8:
            return [spoil(node[0]), *node[1:]]
        return dice.choice(odd)

    refused = 0
    for _ in range(1000):
        try:
            typed(Whole, spoil(GOOD), "it")
        except ValueError:
            refused += 1
    assert refused > 0  # else nothing was damaged
