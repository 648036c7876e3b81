"""The shape of a recipe file, and on which line everything stands."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest

from edgekit.errors import LimitError, RecipeError
from edgekit.recipe import Problem, Recipe, _statements, parse_recipe, read_recipe

PATH = Path("mine.toml")


def _parsed(text: str) -> tuple[Recipe, list[Problem]]:
    return parse_recipe(text, PATH)


def test_steps_follow_each_other_unless_they_say_from() -> None:
    text = """# comment
source = "cnn"
data = "digits"

[[step]]
do = "prune"
amount = 0.5

[[step]]   # another
name = "files"
do = "export"
to = [
  "onnx",  # ] not the end
  "tflite",
]

[[step]]
do = "bench"
from = ["files", "source"]
"""
    recipe, problems = _parsed(text)
    assert problems == []
    assert (recipe.name, recipe.source.value, recipe.source.line) == ("mine", "cnn", 2)
    assert recipe.data is not None and recipe.data.line == 3
    prune, files, bench = recipe.steps
    assert (prune.name, prune.parents, prune.line) == ("prune", ("source",), 5)
    assert (files.name, files.parents, files.line) == ("files", ("prune",), 9)
    assert (files.options["to"].value, files.options["to"].line) == (["onnx", "tflite"], 12)
    assert (bench.parents, bench.line, bench.lines["from"]) == (("files", "source"), 17, 19)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_after_every_kind_of_statement(newline: str) -> None:
    """Strings and lists over several lines, quoted and dotted keys, tables of a step, inline tables."""
    lines = [
        'name = """a',
        '[[step]]"""',
        "source = '''",
        "x'''",
        'step = [{ do = "export" }]',
        "colour.deep = 1",
        '"odd key" = [1,',
        "2]",
    ]
    _, problems = _parsed(newline.join(lines))
    assert [(p.line, p.text.split(";")[0]) for p in problems] == [
        (6, "a recipe has no 'colour'"),
        (7, "a recipe has no 'odd key'"),
        (1, "'a\\n[[step]]' is not a folder name"),
    ]
    recipe, problems = _parsed(newline.join(['source = "x"', "", "[[step]]", 'do = "a"', "[step.b]", "c = 1"]))
    assert problems == []
    assert (recipe.steps[0].options["b"].line, recipe.steps[0].options["b"].value) == (5, {"c": 1})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, 'no source; write for example source = "cnn"'),
        ('source = "cnn"', 1, "no steps; write them as"),
        ('source = "cnn"\nstep = 3', 2, "no steps"),
        ("source = 3\n[[step]]\ndo = 'x'", 1, "source is 3 (an integer); a text in quotes"),
        ('source = ""\n[[step]]\ndo = "x"', 1, "source is '' (text)"),
        ('source = "cnn"\ndata = true\n[[step]]\ndo = "x"', 2, "data is true (a truth value)"),
        ('source = "cnn"\n\n[[step]]\namount = 1', 3, "this step has no do"),
        ('source = "cnn"\n[[step]]\ndo = 3', 3, "do is 3 (an integer)"),
        ('source = "cnn"\n[[step]]\ndo = "x"\nname = "a/b"', 4, "name is 'a/b' (text)"),
        ('source = "cnn"\n[[step]]\ndo = "x"\nname = "source"', 4, "the recipe's own source"),
        ('source = "cnn"\n[[step]]\ndo = "x"\n[[step]]\ndo = "x"', 5, "two steps are called 'x' (the other: line 2)"),
        ('source = "cnn"\n[[step]]\ndo = "x"\nfrom = 3', 4, "from is 3 (an integer)"),
        ('source = "cnn"\n[[step]]\ndo = "x"\nfrom = []', 4, "from is [] (a list)"),
        ('sauce = "cnn"\n[[step]]\ndo = "x"', 1, "a recipe has no 'sauce'; did you mean 'source'?"),
    ],
)
def test_what_is_wrong_has_its_line(text: str, line: int, words: str) -> None:
    _, problems = _parsed(text)
    assert [p for p in problems if p.line == line and words in p.text], problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('source = "cnn"\n[[step]\n', "mine.toml:2: not valid TOML: Expected ']]'"),
        ('source = "cnn"\nsource = "mlp"\n', "mine.toml:2: not valid TOML: Cannot overwrite"),
        ('source = "cnn"\nx = [1,\n2,\n', "mine.toml:3: not valid TOML"),
    ],
)
def test_no_toml(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        _parsed(text)
    assert words in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "model.onnx"
    binary.write_bytes(b"\x08\x0a\xff\xfe")
    for place, words in ((tmp_path / "none.toml", "does not exist"), (tmp_path, "is a folder"), (binary, "not text")):
        with pytest.raises(RecipeError, match=words):
            read_recipe(place)


STATEMENTS = (
    "a = 1",
    "# a comment [ \" '",
    "",
    "  ",
    'b = "x # no comment ] \\" ["',
    "c = 'x \" ] #'",
    "d = [1, 2]",
    "e = [\n  'x', # ] not the end\n  \"]\",\n  [1,\n 2],\n]",
    'f = """\nmore " than ""one\\"""\n[[step]]\n"""""',
    "g = ''''\n'a''\n'''''",
    "h = { i = 1, j = [ 'k' ] } # }",
    "[x]",
    "[[step]] # [",
    "  [[ step ]]",
    "[step.'a.b'.\"c\"]",
    "l.\"m.n\".'o' = 2020-01-01T00:00:00Z",
    'p = ""',
    "q = ''",
    'r = """"""',
    "s = ''''''",
    't = [ # one\n# two ]\n\n"""\n]""" ]',
)


def _fewest_valid_lines(text: str) -> list[tuple[int, str]]:
    """The statements as tomllib itself tells them apart: the fewest whole lines that are valid on their own."""
    found, begin, gathered = [], 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not gathered and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begin, gathered = (begin, f"{gathered}\n{line}") if gathered else (number, line)
        try:
            tomllib.loads(gathered)
        except tomllib.TOMLDecodeError:
            continue
        found.append((begin, gathered))
        gathered = ""
    return found


def test_statements_are_those_of_tomllib() -> None:
    dice = random.Random(0)
    for _ in range(200):
        text = "\n".join(dice.choices(STATEMENTS, k=dice.randrange(1, 12))) + "\n" * dice.randrange(3)
        assert list(_statements(text)) == _fewest_valid_lines(text)


def test_a_long_recipe_is_read_statement_by_statement() -> None:
    text = 'source = "cnn"\n[[step]]\ndo = "export"\nto = [\n' + '"onnx",\n' * 1900 + ']\n[[step]]\ndo = "bench"\n'
    recipe, problems = _parsed(text)
    assert problems == [] and recipe.steps[1].line == 1906


@pytest.mark.parametrize(("text", "name"), [
    ('source = "cnn"\n' * 2001, "RECIPE_LINES"), ("a." * 300 + "b = 1", "DOCUMENT_DEPTH"),
])  # fmt: skip
def test_limits(text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitError, match=f"EDGEKIT_LIMIT_{name}"):
        _parsed(text)
    (tmp_path / "a.toml").write_text(text)
    monkeypatch.setenv("EDGEKIT_LIMIT_RECIPE_BYTES", "100")
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_RECIPE_BYTES"):
        read_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize("text", ["x = " + "[" * 3000 + "]" * 3000, "x = " + "9" * 5000, "x = " + "{a=" * 3000])
def test_values_that_no_parser_takes(text: str) -> None:
    with pytest.raises(RecipeError):
        _parsed(text)


def test_damage_is_a_recipe_error() -> None:
    dice = random.Random(1)
    whole = 'source = "cnn"\ndata = "digits"\n[[step]]\ndo = "prune"\namount = 0.5\n[[step]]\nto = ["onnx"]\n'
    refused = 0
    for _ in range(300):
        data = list(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(len(data))] = dice.choice("[]{}=\"'#.\n\\0x\x00")
        try:
            _parsed("".join(data))
        except RecipeError:
            refused += 1
    assert refused > 0  # else nothing was damaged
