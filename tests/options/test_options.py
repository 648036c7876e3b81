"""Options: what a dataclass of them makes of its fields, and what it refuses."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import edgekit
from edgekit.cli.generate import help_of, verb_command
from edgekit.errors import UsageError
from edgekit.options.base import Options, option, option_fields, with_options
from edgekit.options.quantize import QuantizeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Brew(Options):
    """How coffee is made."""

    beans: str | Path = field(kw_only=False, metadata=option("Which.", metavar="BEANS", takes="model"))
    grams: float = field(default=15.0, metadata=option("How much.", metavar="G", above=0, at_most=60))
    cups: int | None = field(default=None, metadata=option("How many.", at_least=1, aliases=("mugs",)))
    milk: str = field(default="none", metadata=option("What else.", choices=("none", "oat", "cow")))
    shots: int | Sequence[int] = field(default=(1,), metadata=option("Each size.", at_least=1, commas=True))
    note: Sequence[str] = field(default=(), metadata=option("Said.", names="output"))
    wait: str | float | None = field(default=None, metadata=option("How long: 30s, or seconds."))
    decaf: bool = field(default=False, metadata=option("Without.", off="--strong"))


@with_options(Brew)
def brew(options: Brew) -> Brew:
    """Makes coffee."""
    return options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grams": 0}, "--grams is 0; give more than 0 and at most 60"),
        ({"grams": float("nan")}, "--grams is nan; give more than 0 and at most 60"),
        ({"grams": "much"}, r"--grams is 'much' \(text\); a number is wanted"),
        ({"grams": True}, r"--grams is true \(a truth value\); a number is wanted"),
        ({"cups": 0}, "--cups is 0; give 1 or more"),
        ({"cups": 1.5}, r"--cups is 1.5 \(a number\); an integer is wanted"),
        ({"milk": "cat"}, "--milk is 'cat'; there are: none, oat, cow"),
        ({"shots": (1, 0)}, "--shots is 0; give 1 or more"),
        ({"shots": "1,x"}, r"--shots is 'x' \(text\); an integer is wanted"),
        ({"decaf": "yes"}, r"--decaf is 'yes' \(text\); true or false is wanted"),
        ({"note": (3,)}, r"--note is 3 \(an integer\); text is wanted"),
        ({"cup": 2}, "brew has no option cup; did you mean cups"),
        ({"sugar": 2}, "brew has no option sugar; there are: beans, cups"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        brew("arabica", **options)


def test_a_required_option_is_named() -> None:
    with pytest.raises(UsageError, match="quantize needs scheme: int8, int8-dynamic"):
        edgekit.quantize("m.onnx", out="q.onnx")  # type: ignore[call-arg]


def test_values_come_in_one_shape() -> None:
    assert brew("arabica", shots="1, 2").shots == (1, 2)
    assert brew("arabica", shots=3).shots == (3,)
    assert brew("arabica", note="hot").note == ("hot",)
    assert brew(Path("a"), mugs=2).cups == 2  # type: ignore[call-arg]  # an older name
    assert (brew("arabica", wait=30).wait, brew("arabica", wait="30s").wait) == (30, "30s")
    assert brew("arabica", cups=None).named == {"beans"}
    assert brew("arabica", cups=2).given() == {"beans": "arabica", "cups": 2}


def test_the_signature_and_the_help_tell_all() -> None:
    names = [one.name for one in option_fields(QuantizeOptions)]
    assert sorted(inspect.signature(edgekit.quantize).parameters) == sorted(names)
    text = inspect.getdoc(edgekit.quantize) or ""
    assert all(f"    {name}: " in text for name in names)


def test_the_command_line_is_the_same() -> None:
    got: dict[str, Any] = {}

    @verb_command(Brew)
    def command(**options: Any) -> None:
        """Makes coffee."""
        got.update(options)

    run = CliRunner().invoke
    assert (
        run(command, ["arabica", "--mugs=2", "--shots", "1,2", "--shots", "3", "--strong", "--wait", "9m"]).exit_code
        == 0
    )
    assert brew(**got) == brew("arabica", cups=2, shots=(1, 2, 3), decaf=False, wait="9m")
    assert got["decaf"] is False
    refused = run(command, ["arabica", "--grams", "61"])
    assert refused.exit_code == 2
    assert "--grams is 61; give more than 0 and at most 60" in refused.output
    shown = run(command, ["--help"]).output
    assert "--mugs" not in shown
    assert "[default: 15; more than 0 and at most 60]" in " ".join(shown.split())


def test_every_option_says_what_it_is() -> None:
    script = _reference()
    for name, command in script.commands():
        for one in option_fields(command.kind):
            assert one.option.help.endswith((".", ")", "]", "}")), (name, one.name)
            assert help_of(one).startswith(one.option.help)


def test_the_reference_pages_are_current(root: Path) -> None:
    for name, text in _reference().pages().items():
        assert (root / "docs" / name).read_text(encoding="utf-8") == text, "run scripts/reference"


def _reference() -> ModuleType:
    place = Path(__file__).resolve().parents[2] / "scripts" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
