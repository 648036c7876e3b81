"""Control characters are spelled out, everything else stays as it is."""

from __future__ import annotations

import json

import pytest

from edgekit.escapes import in_json, in_one_line, set_off, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x08\x7f\0", r"a\x0db\x08\x7f\x00"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\udcff\ud800", r"\udcff\ud800"),
        ("größe\tδ\n日本 😀 \\x1b a‍b", "größe\tδ\n日本 😀 \\x1b a‍b"),
    ],
)
def test_what_speaks_to_a_terminal_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode()  # halves of characters could not be written


def test_json_reads_back_as_it_was() -> None:
    text = {"a\x9b\u202e": "\x1b]0;\x07\n\x7f größe"}
    written = in_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(written) == text and visible(written) == written
    assert json.loads(in_json(json.dumps("\udcff", ensure_ascii=False))) == r"\udcff"  # what no reader takes is text


def test_a_newline_forges_no_line() -> None:
    assert in_one_line("mlp\nedgekit: proved\x1b[2J") == r"mlp\nedgekit: proved\x1b[2J"
    assert set_off("edgekit: no\nedgekit: fine\x07") == "edgekit: no\n  edgekit: fine\\x07"
