"""The text of a symbolic size is evaluated as Python by sympy: only bounded arithmetic gets there."""

from __future__ import annotations

import pytest

from edgekit.runtime.pt2_sizes import refusal


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s3', positive=True, integer=True)",
        "Add(Mul(Integer(2), Symbol('s3', positive=True, integer=True)), Integer(-1))",
        "FloorDiv(Symbol('s3', integer=True), Integer(2))",
        "Pow(Symbol('s3', positive=True, integer=True), Integer(2))",
        "Mul(Rational(1, 2), Pow(s3, Rational(-1, 2)))",
        "Float('1.5', precision=53)",
        "Piecewise((Integer(1), Eq(Symbol('s3'), Integer(2))), (s3, True))",
        "2*s3 + 1",
        "-s3 // 4 < 7",
        "s1*s2*s3*s4*s5",
    ],
)
def test_what_torch_writes_is_a_size(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "__import__('os').system('true')",
        "Symbol('__import__(1)')",
        "Symbol('s3', cls=s4)",
        "lambdify('x', 'x')",
        "Symbol.__init__",
        "Symbol('s3').free_symbols",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "open('/etc/passwd')",
        "Add(*[s1])",
        "s1 if s2 else s3",
        "'s1'",
        "b'1'",
        "1j",
        "(" * 2000 + "s1" + ")" * 2000,
        "-" * 5000 + "1",
        "+".join(["s1"] * 4000),
    ],
)
def test_what_is_not_arithmetic_is_none(text: str) -> None:
    assert refusal(text) == "is not arithmetic"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9**9**9**9", "exponent that is not a number"),
        ("Pow(Integer(9), Pow(Integer(9), Integer(9)))", "exponent that is not a number"),
        ("s1**s2", "exponent that is not a number"),
        ("9**99999999", "exponent of 99,999,999"),
        ("LShift(Integer(1), Integer(99999999))", "exponent of 99,999,999"),
        ("Pow(Pow(Pow(s1, 60), 60), 60)", "larger than 4,096 bits"),
        ("*".join(["s1"] * 200), "larger than 4,096 bits"),
        ("Pow(Add(s1, s2, s3, s4), Integer(20))", "2,000 terms"),
        ("*".join(["(s1 + s2 + s3)"] * 9), "2,000 terms"),
        (str(1 << 70), "larger than 4,096 bits"),
        ("1e999", "larger than 4,096 bits"),
        ("Float('1.5', precision=1000000000)", "too many digits"),
        ("Add(" + ", ".join(["s1"] * 6000) + ")", "20,000"),
    ],
)
def test_a_size_stays_small(text: str, words: str) -> None:
    """Refused at once: Python would compute some of these for hours."""
    reason = refusal(text)
    assert reason is not None and words in reason
