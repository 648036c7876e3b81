"""Words of a card in generated code: whatever they are, they end no comment and no string."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgekit.errors import DataError
from edgekit.packaging.base import Tensor, head, identifier, template
from edgekit.packaging.c import quoted, rule_constants
from edgekit.types import InputSpec

HOSTILE = 'a"""b*/c\nint x; //"\\'


def test_names_and_versions_in_comments() -> None:
    subject = SimpleNamespace(card=SimpleNamespace(name=HOSTILE), versions={HOSTILE: HOSTILE})
    line = head(cast("Any", subject), "cpp")
    assert not {"\n", '"', "*", "/", "\\", "'"} & {*line}


@pytest.mark.parametrize(
    ("name", "word"), [("a b", "a_b"), ("3x", "model_3x"), ("", "model"), (HOSTILE, "a_b_c_int_x")]
)
def test_identifiers(name: str, word: str) -> None:
    assert identifier(name) == word


def test_strings_of_c() -> None:
    assert quoted('"\\?\n') == '"\\042\\134\\077\\012"'
    assert quoted("") == '""'


def test_a_filter_that_is_none() -> None:
    rule = InputSpec("image", "NHWC", (4, 4), 3, params={"interpolation": "0}; int x"})
    with pytest.raises(DataError, match="known are: nearest"):
        rule_constants(Tensor("x", "x", 0, "float32", (1, 4, 4, 3), rule=rule), rule)


def test_a_placeholder_without_a_value() -> None:
    with pytest.raises(KeyError):
        template("c/../cpp/forecasting.h", MEAN="0")
