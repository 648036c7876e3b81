"""A recipe of the user's own network: looked at without running its code, and run without naming it in every step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgekit
from edgekit.errors import RecipeError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.pipeline.recipe.plan import make_plan, supplied
from edgekit.recipe import read_recipe
from edgekit.source import resolve

CODE = """
import pathlib
import torch

pathlib.Path("ran").touch()

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)), (
        torch.zeros(1, 1, 8, 8)
    )
"""
LINE = """source = "{source}"
data = "digits"
[[step]]
do = "finetune"
epochs = 1
[[step]]
do = "prune"
amount = 0.3
epochs = 1
[[step]]
do = "finetune"
name = "taught"
from = "prune"
distil-from = "finetune"
epochs = 1
[[step]]
do = "export"
from = "taught"
to = "onnx"
[[step]]
do = "verify"
against = "taught"
"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What comes to be where the code in ``net.py`` runs."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CODE)
    return Path("ran")


def written(text: str) -> Path:
    Path("line.toml").write_text(text)
    return Path("line.toml")


def test_check_and_show_run_nothing_and_run_supplies_the_code(ran: Path) -> None:
    line = written(LINE.format(source="net.py:make"))
    assert len(edgekit.recipe.check(line).runs) == 5
    shown = {one.run: one.command for one in edgekit.recipe.show(line).runs}
    assert not ran.exists()
    assert "factory" not in shown["finetune.safetensors"]
    assert "--factory net.py:make" in shown["prune.safetensors"]
    assert "--factory net.py:make --teacher-factory net.py:make" in shown["taught.safetensors"].replace(
        "--teacher-factory net.py:make --factory net.py:make", "--factory net.py:make --teacher-factory net.py:make"
    )
    assert "--factory net.py:make" in shown["export.onnx"] and "--factory net.py:make" in shown["verify.onnx"]
    result = edgekit.recipe.run(line)
    assert [outcome.ended for outcome in result.outcomes] == ["done"] * 5, result.failure()
    ran.unlink()
    assert not any(one.why for one in edgekit.recipe.show(line).runs)
    Path("net.py").write_text(CODE + "\n# a comment\n")
    first, *rest = edgekit.recipe.show(line).runs
    assert "source net.py:make changed" in first.why and all(one.why for one in rest)
    assert not ran.exists()


def test_a_checkpoint_as_source_names_its_code_once(ran: Path) -> None:
    save_checkpoint(resolve("net.py:make"), Path("mine.safetensors"))
    ran.unlink()
    text = LINE.format(source="mine.safetensors")
    with pytest.raises(RecipeError, match=r'line\.toml:3: factory: .*; write factory = "net\.py:make", if you trust'):
        edgekit.recipe.check(written(text))
    line = written(text.replace("epochs = 1", 'epochs = 1\nfactory = "net.py:make"', 1))
    edgekit.recipe.check(line)
    plan = make_plan(*read_recipe(line))
    given = {run.title: supplied(run, "mine.safetensors") for run in plan.runs}
    both = {"factory": "net.py:make", "teacher-factory": "net.py:make"}
    assert given == {
        "finetune.safetensors": {},
        "prune.safetensors": {"factory": "net.py:make"},
        "taught.safetensors": both,
        "export.onnx": {"factory": "net.py:make"},
        "verify.onnx": {"factory": "net.py:make"},
    }
    assert not ran.exists()


@pytest.mark.parametrize(
    ("code", "source", "words"),
    [
        (CODE, "net.py:mke", r"net\.py has no 'mke'; did you mean 'make'\?"),
        (CODE, "no.py:make", r"no\.py does not exist"),
        (CODE, "nowhere.net:make", r"no module is called 'nowhere\.net'"),
        (CODE + "def broken(:\n", "net.py:make", r"net\.py:1\d: SyntaxError"),
    ],
)
def test_what_can_be_said_without_running_it(code: str, source: str, words: str, ran: Path) -> None:
    Path("net.py").write_text(code)
    with pytest.raises(RecipeError, match=rf"source: {words}"):
        edgekit.recipe.check(written(LINE.format(source=source)))
    assert not ran.exists()


def test_a_package_is_not_imported_to_find_its_module(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("own_package")
    folder.mkdir()
    (folder / "__init__.py").write_text('import pathlib\npathlib.Path("ran").touch()\n')
    (folder / "net.py").write_text(CODE)
    (folder / "names.py").write_text("try:\n    from json import loads as make\nexcept ImportError:\n    make = None\n")
    monkeypatch.syspath_prepend(Path.cwd())
    for module in ("net", "names"):
        edgekit.recipe.check(written(LINE.format(source=f"own_package.{module}:make")))
    with pytest.raises(RecipeError, match=r"no module is called 'own_package\.other'"):
        edgekit.recipe.check(written(LINE.format(source="own_package.other:make")))
    assert not ran.exists()


def test_code_that_fails_is_said_before_anything_runs(ran: Path) -> None:
    Path("net.py").write_text("def make():\n    raise ValueError('broken')\n")
    line = written(LINE.format(source="net.py:make"))
    edgekit.recipe.check(line)
    with pytest.raises(RecipeError, match=r"line\.toml:1: source: .*ValueError: broken"):
        edgekit.recipe.run(line)
    assert not Path("runs").exists()


def test_weights_that_a_factory_loads_count(ran: Path) -> None:
    """The same code makes another network where a file it reads has changed."""
    Path("net.py").write_text(
        CODE.replace("torch.manual_seed(0)", 'torch.manual_seed(int(pathlib.Path("seed").read_text()))')
    )
    Path("seed").write_text("1")
    text = 'source = "net.py:make"\n[[step]]\ndo = "prune"\namount = 0.3\n'
    assert [outcome.ended for outcome in edgekit.recipe.run(written(text)).outcomes] == ["done"]
    assert [outcome.ended for outcome in edgekit.recipe.run(written(text)).outcomes] == ["kept"]
    Path("seed").write_text("2")
    (outcome,) = edgekit.recipe.run(written(text)).outcomes
    assert outcome.ended == "done" and "weights net.py:make changed" in outcome.reason
    assert "weights net.py:make" in json.loads(Path("runs/line/.recipe/prune.safetensors.json").read_text())["parts"]
