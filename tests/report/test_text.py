"""Tables as text: whole when piped, no escape codes, None as a dash, nothing read as markup."""

from __future__ import annotations

import io

import pytest

from edgekit.report.text import lost, ms, points, ratio, share, show, size, small, table, worse


def test_table_is_plain_text_when_piped() -> None:
    stream = io.StringIO()
    show([table(("name", "n"), [("a[b]", 1), ("long" * 25, None)], right=("n",)), "a line [bold]"], stream)
    text = stream.getvalue()
    assert "a[b]" in text and "[bold]" in text
    assert "long" * 25 in text, "a piped table is not folded to a window"
    assert "–" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (ms(0.19712), "0.197"),
        (points(0.00251), "-0.25 points"),
        (points(-0.01), "+1.00 points"),
        (points(0.0), "0.00 points"),
        (worse(0.0312), "3.12% worse"),
        (worse(-0.004), "0.40% better"),
        (worse(-0.00001), "0.00%"),
        (points(0.00004), "0.00 points"),
        (lost("miou", 0.01, 0.9, 0.89), "-1.00 points"),
        (lost("mse", 0.05, 2.0, 2.1), "5.00% worse"),
        (lost("r2", 0.0123, 0.9, 0.8877), "-0.0123"),
        (lost("r2", 0.0, 0.9, 0.9), "0"),
        (ms(0.005123), "0.00512"),
        (ms(0.0197), "0.0197"),
        (ms(1.2345), "1.23"),
        (ms(12.345), "12.3"),
        (ms(1234.56), "1235"),
        (ms(None), "–"),
        (size(1234567), "1,234,567"),
        (share(0.85), "85.00%"),
        (ratio(0.5), "0.50×"),
        (small(1.234e-7), "1.2e-07"),
        (small(None), "–"),
    ],
)
def test_figures(shown: str, wanted: str) -> None:
    assert shown == wanted
