"""The shape of a recipe file, and on which line everything stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import RecipeError
from edgekit.recipe import Problem, Recipe, parse_recipe, read_recipe

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
        (1, "'a\\n[[step]]' is no name for a folder"),
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
    for place, words in ((tmp_path / "none.toml", "cannot be read"), (tmp_path, "cannot be read"), (binary, "no text")):
        with pytest.raises(RecipeError, match=words):
            read_recipe(place)
