"""Sizes inside a ``.pt2`` program: arithmetic of a bounded grammar and of bounded magnitude.

torch hands the text of a symbolic size to sympy, which evaluates it as Python; and a program may compute with whole
numbers of any length while it runs. Both are bounded here before torch sees them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

CHARACTERS, BITS, TERMS = 20_000, 4096, 2_000
"""Largest text of a size, largest number it can stand for, and most terms it can be multiplied out to."""
SYMBOL: Final = re.compile(r"[a-z]{1,8}\d{1,6}")
"""``s77``, ``u0``, ``zuf3``: the names torch gives to sizes."""
_LETTER, _EXPONENT = 64, 64
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{0,40})?(e[+-]?\d{1,3})?")
_PLUS = ("Add", "Max", "Min", "And", "Or", "Where", "Piecewise")
_TIMES = ("Mul",)
_POWER = ("Pow", "FloatPow", "PowByNatural", "LShift")
_SAME = (
    "Abs", "Mod", "PythonMod", "floor", "ceiling", "FloorDiv", "ModularIndexing", "CleanDiv", "CeilDiv", "IntTrueDiv",
    "FloatTrueDiv", "RShift", "CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat", "RoundToInt", "RoundDecimal",
    "ToFloat", "Identity", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan",
    "StrictGreaterThan", "GreaterThan", "Not",
)  # fmt: skip
_FUNCTIONS = frozenset((*_PLUS, *_TIMES, *_POWER, *_SAME))
"""What torch writes into the text of a size: sympy's arithmetic, and that of torch.utils._sympy.functions."""
_FACTS = frozenset(("positive", "nonnegative", "nonzero", "integer", "real", "finite", "commutative", "evaluate"))
_NAMED = frozenset(("int_oo", "oo", "true", "false", "True", "False"))


@lru_cache(maxsize=4096)
def refusal(text: str) -> str | None:
    """Why ``text`` is not a size that is safe to evaluate; None where it is."""
    if len(text) > CHARACTERS:
        return f"has {len(text):,} characters, the limit is {CHARACTERS:,}"
    try:
        _measured(ast.parse(text.strip(), mode="eval").body)
    except _NotASize as error:
        return str(error)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "is not arithmetic"
    return None


class _NotASize(Exception):
    """Why a text is not a size."""


def _bounded(bits: int, terms: int) -> tuple[int, int]:
    if bits > BITS or terms > TERMS:
        raise _NotASize(f"can become larger than {BITS:,} bits, or than {TERMS:,} terms")
    return bits, terms


def _measured(node: ast.expr) -> tuple[int, int]:
    """Bits of the largest number ``node`` can stand for, and terms it can be multiplied out to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return _bounded(int(node.value).bit_length() + 1 if abs(node.value) < float(1 << 64) else BITS + 1, 1)
    if isinstance(node, ast.Name) and (node.id in _NAMED or SYMBOL.fullmatch(node.id)):
        return _LETTER, 1
    if isinstance(node, ast.UnaryOp):
        return _measured(node.operand)
    if isinstance(node, ast.Compare):
        return _joined([node.left, *node.comparators])
    if isinstance(node, ast.Tuple):  # a case of Piecewise
        return _joined(node.elts)
    if isinstance(node, ast.BinOp):
        return _operation(_OPERATORS.get(type(node.op), ""), [node.left, node.right])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node.func.id, node)
    raise _NotASize("is not arithmetic")


_OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "Add", ast.Sub: "Add", ast.Mult: "Mul", ast.Div: "IntTrueDiv", ast.FloorDiv: "FloorDiv", ast.Mod: "Mod",
    ast.Pow: "Pow", ast.LShift: "LShift", ast.RShift: "RShift",
}  # fmt: skip


def _call(name: str, node: ast.Call) -> tuple[int, int]:
    facts = {keyword.arg: keyword.value for keyword in node.keywords}
    precise = facts.pop("precision", None) if name == "Float" else None
    if not _FACTS.issuperset(map(str, facts)) or not all(_is(value, bool) for value in facts.values()):
        raise _NotASize("is not arithmetic")
    if precise is not None and not (_is(precise, int) and 1 <= _value(precise) <= _LETTER):
        raise _NotASize("has a number of too many digits")
    if name == "Symbol":
        if len(node.args) == 1 and _is(node.args[0], str) and SYMBOL.fullmatch(_value(node.args[0])):
            return _LETTER, 1
        raise _NotASize("is not arithmetic")
    if name in ("Integer", "Rational", "Float"):
        if all(_is_number(value) for value in node.args):
            return _joined([value for value in node.args if not _is(value, str)])
        raise _NotASize("is not arithmetic")
    return _operation(name, node.args)


def _operation(name: str, parts: Sequence[ast.expr]) -> tuple[int, int]:
    """The measure of an operation: sums add their terms, products multiply them, powers need a small exponent."""
    if name not in _FUNCTIONS or not parts:
        raise _NotASize("is not arithmetic")
    if name in _POWER:
        if len(parts) != 2:
            raise _NotASize("is not arithmetic")
        bits, terms = _measured(parts[0])
        exponent = _exponent(parts[1])
        if name == "LShift":
            return _bounded(bits + exponent, terms)
        return _bounded(bits * exponent, min(terms, TERMS + 1) ** exponent)
    if name in _TIMES:
        bits, terms = 0, 1
        for part in parts:
            own = _measured(part)
            bits, terms = _bounded(bits + own[0], terms * own[1])
        return bits, terms
    return _joined(parts)


def _joined(parts: Sequence[ast.expr]) -> tuple[int, int]:
    measures = [_measured(part) for part in parts] or [(1, 1)]
    return _bounded(max(bits for bits, _ in measures) + len(measures), sum(terms for _, terms in measures))


def _exponent(node: ast.expr) -> int:
    """The size of an exponent, which must be a small whole number or fraction written out."""
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    numbers = inner.args if isinstance(inner, ast.Call) else [inner]
    named = not isinstance(inner, ast.Call) or (isinstance(inner.func, ast.Name) and not inner.keywords)
    plain = [number.operand if isinstance(number, ast.UnaryOp) else number for number in numbers]
    if not named or not plain or not all(_is(number, int) for number in plain):
        raise _NotASize("has an exponent that is not a number")
    if isinstance(inner, ast.Call) and getattr(inner.func, "id", "") not in ("Integer", "Rational"):
        raise _NotASize("has an exponent that is not a number")
    largest = max(abs(int(_value(number))) for number in plain)
    if largest > _EXPONENT:
        raise _NotASize(f"has an exponent of {largest:,}, the limit is {_EXPONENT}")
    return int(max(1, largest))


def _is(node: ast.expr, kind: type) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is kind


def _value(node: ast.expr) -> Any:
    assert isinstance(node, ast.Constant)
    return node.value


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    if _is(node, str):
        return _NUMBER.fullmatch(_value(node)) is not None
    return _is(node, int) or _is(node, float)
