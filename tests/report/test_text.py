"""Tables as text: whole when piped, no escape codes, None as a dash, nothing read as markup."""

from __future__ import annotations

import io

import pytest

from edgekit.report.text import lost, ms, points, ratio, scope, share, show, size, small, table, worse


def test_table_is_plain_text_when_piped() -> None:
    stream = io.StringIO()
    show([table(("name", "n"), [("a[b]", 1), ("long" * 25, None)], right=("n",)), "a line [bold]"], stream)
    text = stream.getvalue()
    assert "a[b]" in text and "[bold]" in text
    assert "long" * 25 in text, "a piped table is not folded to a window"
    assert "–" in text
    assert "\x1b" not in text


TORCH = "edgekit.converters.layout.channels_last.<locals>.ChannelsLast/my.net.Detector_module/torch.nn.modules.conv."
DEEP = "/".join(f"layers.{n}" for n in range(12)) + "/attention/MatMul"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("/layers.0/attention/MatMul", "/layers.0/attention/MatMul"),
        (f"{TORCH}Conv2d_0;", "ChannelsLast/Detector_module/Conv2d_0"),
        (f"{TORCH}ReLU_2;;{TORCH}Conv2d_0;1", "ChannelsLast/Detector_module/ReLU_2 +1"),
        (DEEP, "…" + DEEP[-59:]),
        ("x" * 80, "…" + "x" * 59),
        (";" * 80, "…" + ";" * 59),
    ],
)
def test_the_name_of_an_operator_is_short_and_keeps_its_end(name: str, wanted: str) -> None:
    assert scope(name) == wanted and len(wanted) <= 60


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


def shown(parts: object, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines in so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    show(parts, stream)
    return stream.getvalue().splitlines()


def test_a_table_that_fits_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(table(("name", "n"), [("a", 1), ("b", None)], right=("n",)), 40, monkeypatch)
    assert lines == ["name  n", "───────", "a     1", "b     –", ""]


def test_prose_wraps_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "the device was not there when it was asked for it"
    assert shown(table(("run", "why"), [("one", why)]), 40, monkeypatch) == [
        "run  why",
        "─" * 40,
        "one  the device was not there when it",
        "     was asked for it",
        "",
    ]


def test_rows_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ("model", "format", "p50 ms", "ratio [95%]")
    rows = [("a.onnx", "onnx", "0.197", "–"), ("b.tflite", "tflite", "0.388", "1.420 [1.389, 1.453]")]
    assert shown(table(columns, rows, right=("p50 ms",)), 44, monkeypatch) == [
        "model        a.onnx              b.tflite",
        "─" * 41,
        "format         onnx                tflite",
        "p50 ms        0.197                 0.388",
        "ratio [95%]       –  1.420 [1.389, 1.453]",
        "",
    ]


def test_bands_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than fit side by side: each band says which rows they are."""
    rows = [(f"candidate-{k}", "12,345,678", "faster") for k in range(3)]
    assert shown(table(("name", "bytes", "verdict"), rows), 24, monkeypatch) == [
        "name         bytes",
        "───────────────────────",
        *(f"candidate-{k}  12,345,678" for k in range(3)),
        "",
        "name         verdict",
        "────────────────────",
        *(f"candidate-{k}  faster" for k in range(3)),
        "",
    ]


def test_a_list_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "runs/of-a-customer/2026-11-30/mobilenet-int8.tflite"
    rows = [(f"{path}{k}", "5,000", None) for k in range(2)]
    record = ["file", "  runs/of-a-customer/", "  2026-11-30/", "  mobilenet-int8.tflite{}", "bytes  5,000", ""]
    wanted = [line.format(k) for k in range(2) for line in record]
    assert shown(table(("file", "bytes", "verdict"), rows), 30, monkeypatch) == wanted


def test_long_values_below_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("file", "a" * 25), ("bytes", "5,000")]
    assert shown(table(("", ""), rows), 28, monkeypatch) == ["file", f"  {'a' * 25}", "bytes  5,000", ""]


def test_a_word_that_is_longer_than_the_terminal_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(f"made {'a' * 50} here", 30, monkeypatch) == ["made", f"  {'a' * 50}", "  here"]


def test_a_sentence_in_a_pipe_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    show("many words " * 50, stream)
    assert len(stream.getvalue().splitlines()) == 1
