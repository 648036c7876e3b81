"""A recipe is refused as a whole before anything runs: every mistake at once, each with its line."""

from __future__ import annotations

import dataclasses
import importlib
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from edgekit import registry
from edgekit.cli import VERBS
from edgekit.errors import LimitError, RecipeError
from edgekit.models.checkpoint import save_checkpoint, weights_sha256
from edgekit.pipeline.recipe import check, show
from edgekit.pipeline.recipe.api import shipped
from edgekit.pipeline.recipe.plan import make_plan
from edgekit.pipeline.recipe.verbs import arguments, verb, wrong
from edgekit.recipe import read_recipe
from edgekit.results.recipe import RecipePlan
from edgekit.source import resolve

HEAD = 'source = "mlp"\ndata = "breast-cancer"\n'
EXPORT = '[[step]]\ndo = "export"\nto = ["onnx", "tflite"]\n'


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a recipe as ``r.toml`` in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        Path("r.toml").write_text(text, encoding="utf-8")
        return Path("r.toml")

    return write


@pytest.fixture
def mistakes(written: Callable[[str], Path]) -> Callable[[str], list[tuple[int, str]]]:
    """(line, what is wrong) of everything the recipe is refused for."""

    def ask(text: str) -> list[tuple[int, str]]:
        with pytest.raises(RecipeError) as caught:
            check(written(text))
        first, *rest = str(caught.value).splitlines()
        found = [re.fullmatch(r"r\.toml:(\d+): (.*)", line) for line in rest]
        assert all(found) and re.search(r"has \d+ mistakes?; nothing was run", first), str(caught.value)
        assert caught.value.exit_code == 3
        return [(int(m.group(1)), m.group(2)) for m in found if m]

    return ask


def _titles(result: RecipePlan) -> list[str]:
    return [one.run for one in result.runs]


@pytest.mark.parametrize(
    ("steps", "line", "words"),
    [
        ('[[step]]\ndo = "exprot"', 4, "no step is called 'exprot'; did you mean 'export'?"),
        ('[[step]]\ndo = "qat"', 4, 'do = "finetune" with qat = true'),
        ('[[step]]\ndo = "prune"\nepoch = 3\namount = 0.5', 5, "prune has no 'epoch'; did you mean 'epochs'?"),
        ('[[step]]\ndo = "prune"\nout = "x"', 5, "prune has no 'out'"),
        ('[[step]]\ndo = "prune"\namount = "half"', 5, "amount is 'half' (text); a number is wanted"),
        ('[[step]]\ndo = "prune"\namount = nan', 5, "amount is nan; give more than 0"),
        ('[[step]]\ndo = "prune"\namount = true', 5, "amount is true (a truth value); a number is wanted"),
        ('[[step]]\ndo = "prune"\namount = 0.5\ndistil = 1', 6, "distil is 1 (an integer); true or false is wanted"),
        ('[[step]]\ndo = "prune"\namount = 0.5\nepochs = 2.0', 6, "epochs is 2.0 (a number); an integer is wanted"),
        ('[[step]]\ndo = "prune"\nepochs = -1', 5, "epochs is -1; give 0 or more"),
        ('[[step]]\ndo = "prune"\n\namount = 1.5', 6, "amount is 1.5; give more than 0 and less than 1"),
        ('[[step]]\ndo = "prune"\namount = []', 5, "amount is an empty list"),
        ('[[step]]\ndo = "prune"\namount = [0.5, 1.5]', 5, "amount is 1.5"),
        ('[[step]]\ndo = "finetune"\ndevice = "tpu"', 5, "on is 'tpu'; there are: cpu, cuda"),
        ('[[step]]\ndo = "export"', 3, "export needs to"),
        ('[[step]]\ndo = "export"\nto = ["onnx", "tflit"]', 5, "to: no format is called 'tflit'"),
        ('[[step]]\ndo = "export"\nto = "onnx"\nfrom = "prun"', 6, "from: no step is called 'prun'"),
        (EXPORT + '[[step]]\ndo = "eval"\ndata = "digit"', 8, "data: no data set is called 'digit'"),
        (EXPORT + '[[step]]\ndo = "eval"\ndata = "table:no.csv"', 8, "data: no.csv does not exist"),
        (EXPORT + '[[step]]\ndo = "eval"\non = ["cpu", "pie"]', 8, "on: no device is called 'pie'"),
        (EXPORT + '[[step]]\ndo = "eval"\nruntime = "ort"', 8, "runtime: no runtime is called 'ort'"),
        (EXPORT + '[[step]]\ndo = "bench"\nbaseline = "no.json"', 8, "baseline: no.json does not exist"),
        (EXPORT + '[[step]]\ndo = "bench"\nthreads = "x"', 8, "threads is 'x' (text); an integer is wanted"),
        (EXPORT + '[[step]]\ndo = "bench"\nseconds = 0', 8, "seconds is 0; give more than 0"),
        (EXPORT + '[[step]]\ndo = "bench"\nreplay = "r.toml"', 8, "--replay brings its own models"),
        (EXPORT + '[[step]]\ndo = "quantize"\nscheme = "int8"\nmax-drop = 5', 9, "max-drop is 5"),
        (EXPORT + '[[step]]\ndo = "quantize"\nscheme = "int8"\nsave-calibration = "c.json"', 9, "2 runs"),
        (EXPORT + '[[step]]\ndo = "verify"\nagainst = "cnnn"', 8, "against: no network is called 'cnnn'"),
        (EXPORT + '[[step]]\ndo = "quantize"\nscheme = "int16x8"', 8, "not supported for .onnx files"),
        (EXPORT + '[[step]]\ndo = "quantize"\nscheme = "int9"', 8, "no scheme is called 'int9'"),
        (
            EXPORT + '[[step]]\ndo = "quantize"\nscheme = "int8"\nmin-snr = 200',
            9,
            "min-snr is 200; give 0 or more and at most 120",
        ),
        (EXPORT + '[[step]]\ndo = "quantize"\nscheme = "int8"\nmixed = true\nkeep-float = "a"', 9, "drop one"),
        (EXPORT + '[[step]]\ndo = "prune"\namount = 0.5', 6, "prune takes a network, not a finished file"),
        ('[[step]]\ndo = "eval"', 3, "eval takes model files: put an export between"),
        ('[[step]]\ndo = "eval"\nfrom = "eval"', 5, "these steps wait for each other: eval waits for eval"),
    ],
)
def test_one_mistake(steps: str, line: int, words: str, mistakes: Callable[[str], list[tuple[int, str]]]) -> None:
    found = mistakes(HEAD + steps)
    assert {place for place, text in found if words in text} == {line}, found


def test_all_mistakes_at_once(mistakes: Callable[[str], list[tuple[int, str]]]) -> None:
    """Whatever is wrong with one step, the others are looked at too."""
    text = """source = "no.py:net"
data = "digit"
[[step]]
name = "a"
do = "prune"
amount = 0.5
from = "b"
[[step]]
name = "b"
do = "finetune"
from = "a"
lr = 0
[[step]]
do = "export"
from = "source"
to = ["onnx"]
opset = "new"
[[step]]
do = "quantize"
scheme = "int8"
on = "pie"
"""
    found = mistakes(text)
    assert [line for line, _ in found] == sorted(line for line, _ in found)
    assert {line for line, _ in found} >= {1, 2, 12, 17}
    assert any("wait for each other" in text and line in (7, 11) for line, text in found)


def test_data_that_is_missing_altogether(mistakes: Callable[[str], list[tuple[int, str]]]) -> None:
    assert mistakes('source = "mlp"\n[[step]]\ndo = "finetune"') == [
        (2, "finetune needs data: write it here or at the top of the recipe")
    ]


QAT = 'source = "mlp"\n[[step]]\ndo = "finetune"\ndata = "breast-cancer"\nqat = true\n'
INT8 = '[[step]]\ndo = "quantize"\nscheme = "int8"\n'


PROGRAM = '[[step]]\ndo = "export"\nto = ["onnx", "pt2"]\n'


def test_a_program_is_quantized_into_one_of_executorch(written: Callable[[str], Path]) -> None:
    steps = HEAD + PROGRAM + INT8 + '[[step]]\ndo = "eval"\n'
    assert _titles(check(written(steps))) == [
        *("export.onnx", "export.pt2", "quantize.onnx", "quantize.pte", "eval.onnx", "eval.pte")
    ]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (HEAD + PROGRAM + INT8.replace("int8", "fp16"), "ExecuTorch's quantizer has int8"),
        (HEAD + PROGRAM + INT8 + "mixed = true", "--mixed cannot be honoured for a .pt2 file"),
        (QAT + PROGRAM + INT8, "calibrates on real samples"),
        (QAT + PROGRAM + INT8 + 'data = "breast-cancer"', "ranges that were learnt in training"),
        (HEAD + PROGRAM.replace("pt2", "pte") + INT8, "quantizes the program before it is lowered"),
    ],
)
def test_what_cannot_be_done_with_a_program_is_refused(
    recipe: str, words: str, mistakes: Callable[[str], list[tuple[int, str]]]
) -> None:
    ((_, text),) = mistakes(recipe)
    assert words in text


def test_ranges_that_an_earlier_step_learns_need_no_data(written: Callable[[str], Path]) -> None:
    assert _titles(check(written(QAT + EXPORT + INT8)))[-2:] == ["quantize.onnx", "quantize.tflite"]


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (QAT.replace("qat = true", "qat = false") + EXPORT + INT8, 9),
        (QAT + '[[step]]\ndo = "prune"\ndata = "breast-cancer"\namount = 0.5\n' + EXPORT + INT8, 13),
        (QAT + EXPORT + INT8 + 'calibration = "mse"', 9),
        (QAT.replace("mlp", "lstm") + EXPORT.replace(', "tflite"', "") + "streaming = true\n" + INT8, 10),
    ],
    ids=["not learnt", "other weights since", "found anew", "of whole sequences"],
)
def test_ranges_that_are_not_there_need_data(
    recipe: str, line: int, mistakes: Callable[[str], list[tuple[int, str]]]
) -> None:
    found = mistakes(recipe)
    assert {place for place, text in found if "scheme int8 calibrates on real samples: give --data" in text} == {line}


def test_no_timing_is_asked_for_by_no_seconds(written: Callable[[str], Path]) -> None:
    assert check(written(HEAD + EXPORT + INT8 + "seconds = 0")).runs


def test_ranges_in_the_source_need_no_data(
    written: Callable[[str], Path], mistakes: Callable[[str], list[tuple[int, str]]], tmp_path: Path
) -> None:
    """A checkpoint of an earlier quantization-aware training."""
    network = resolve("mlp")
    learnt = {"model_sha256": weights_sha256(network.module.state_dict())}
    for name, ranges in (("qat", learnt), ("plain", None)):
        card = dataclasses.replace(network.card, ranges=ranges)
        save_checkpoint(dataclasses.replace(network, card=card), tmp_path / f"{name}.safetensors")
    assert len(_titles(check(written('source = "qat.safetensors"\n' + EXPORT + INT8)))) == 4
    assert mistakes('source = "plain.safetensors"\n' + EXPORT + INT8)


def test_train_takes_a_family(mistakes: Callable[[str], list[tuple[int, str]]], written: Callable[[str], Path]) -> None:
    ((line, text),) = mistakes('source = "resnet"\ndata = "digits"\n[[step]]\ndo = "train"')
    assert line == 1 and text.startswith("source: no family is called 'resnet'; there are: ")
    assert _titles(check(written('source = "cnn"\ndata = "digits"\n[[step]]\ndo = "train"'))) == ["train.safetensors"]


def test_runs_of_a_recipe(written: Callable[[str], Path]) -> None:
    """Lists fan out, names say which is which, checks hand on what they looked at, bench takes all of it at once."""
    text = f"""{HEAD}
[[step]]
do = "prune"
amount = [0.3, 0.5]
epochs = 0
[[step]]
do = "export"
to = ["onnx", "tflite"]
[[step]]
do = "quantize"
scheme = "int8-weights"
[[step]]
do = "verify"
against = "export"
tolerance = 1
[[step]]
do = "eval"
on = ["cpu", "class:phone-2gb"]
[[step]]
do = "bench"
from = ["export", "eval"]
on = ["cpu", "class:phone-2gb"]
"""
    result = check(written(text))
    titles = _titles(result)
    assert titles[:6] == [
        "prune-0.3.safetensors",
        "prune-0.5.safetensors",
        "export-0.3.onnx",
        "export-0.3.tflite",
        "export-0.5.onnx",
        "export-0.5.tflite",
    ]
    lines = {one.run: one.command for one in result.runs}
    assert lines["verify-0.5.tflite"] == (
        "edgekit verify quantize-0.5.tflite --against export-0.5.tflite --tolerance 1 --data breast-cancer"
    )
    assert lines["eval-0.5-class-phone-2gb.onnx"].startswith("edgekit eval quantize-0.5.onnx --on class:phone-2gb")
    assert len(titles) == 2 + 4 + 4 + 4 + 8 + 1
    bench, run = result.runs[-1], make_plan(*read_recipe(written(text))).runs[-1]
    files = [given.writer.title for given in run.inputs if given.writer]
    assert files == [f"{s}-{a}.{f}" for s in ("export", "quantize") for a in (0.3, 0.5) for f in ("onnx", "tflite")]
    behind = {other.title for given in run.inputs for other in given.waits}
    assert "eval-0.3-cpu.onnx" in behind and "export-0.3.onnx" in behind
    assert bench.command.endswith("--on cpu --on class:phone-2gb")


def command_of(name: str) -> click.Command:
    command = importlib.import_module(VERBS[name][0]).command
    assert isinstance(command, click.Command)
    return command


@pytest.mark.parametrize("name", registry.names("steps"))
def test_a_step_has_the_options_of_the_command(name: str) -> None:
    own = {p.name for p in command_of(name).params if isinstance(p, click.Option) and p.expose_value}
    assert own - {one.name for one in verb(name).options.values()} <= {"out", "dry_run"}


@pytest.mark.parametrize("name", registry.names("steps"))
def test_command_lines_say_what_the_recipe_says(name: str) -> None:
    """Every option, given a value of its kind, comes out of the command's own parser as that value."""
    kind, command = verb(name), command_of(name)
    for spelled, option in kind.options.items():
        value: Any = option.option.choices[-1] if option.option.choices else "1"
        if option.kind == "flag":
            value = not option.default if isinstance(option.default, bool) else True
        elif option.kind in ("integer", "number"):
            value = 0.5 if option.option.below == 1 else 1
        assert wrong(option, value) is None, spelled
        needed = {other: "1" for other, o in kind.options.items() if o.required and other != spelled}
        words = arguments({spelled: value, **needed}, kind)
        out = ["-o", "x"] if kind.gives else []
        parsed = command.make_context(name, [*words, *out, "--", "input"]).params
        given = {field: one for field, one in parsed.items() if one is not None and one != ()}
        taken = ("input",) if kind.takes == "models" else "input"
        assert kind.kind.options(**{**given, kind.argument: taken}) == kind.typed(
            {spelled: value, **needed}, taken, "x" if kind.gives else None
        ), spelled


def test_older_names_of_options_still_work(written: Callable[[str], Path]) -> None:
    lines = [one.command for one in check(written(HEAD + '[[step]]\ndo = "finetune"\ndevice = "cpu"')).runs]
    assert "--on cpu" in lines[0]


@pytest.mark.parametrize("name", sorted(shipped()))
@pytest.mark.needs_data
def test_shipped_recipes_are_right(name: str) -> None:
    result = check(name)
    assert result.source == name
    commands = {one.command.split()[1] for one in result.runs}
    assert {"export", "quantize", "bench"} <= commands


def test_the_recipe_of_the_documents_is_right(written: Callable[[str], Path], root: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (root / "docs/recipes.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(check(written(text)).runs) == 11


def test_a_step_as_teacher_and_files_that_differ_in_format(written: Callable[[str], Path]) -> None:
    """auto takes the formats of one network together, of each network apart; a step's name stands for its file."""
    text = """[[step]]
name = "less"
do = "prune"
amount = [0.3, 0.5]
epochs = 0
[[step]]
do = "finetune"
epochs = 1
distil-from = "whole"
[[step]]
do = "export"
to = ["onnx", "tflite"]
[[step]]
do = "quantize"
scheme = "auto"
max-drop = 0.01
[[step]]
do = "eval"
[[step]]
name = "whole"
do = "finetune"
from = "source"
epochs = 1
"""
    lines = {one.run: one.command for one in check(written(HEAD + text)).runs}
    assert "--distil-from whole.safetensors" in lines["finetune-0.3.safetensors"]
    assert list(lines).index("whole.safetensors") < list(lines).index("finetune-0.3.safetensors")
    assert lines["quantize-0.5"].startswith("edgekit quantize export-0.5.onnx export-0.5.tflite --scheme auto")
    assert lines["eval-0.5"] == "edgekit eval quantize-0.5 --data breast-cancer"


def test_every_family_has_a_recipe() -> None:
    assert set(shipped()) == set(registry.names("families"))


def test_a_file_goes_before_a_shipped_name(written: Callable[[str], Path], tmp_path: Path) -> None:
    written(HEAD + EXPORT).rename("cnn")
    assert check("cnn").source == "mlp"
    with pytest.raises(RecipeError, match="did you mean 'gru'"):
        show("gruu")


def test_runs_are_counted_before_they_are_made(written: Callable[[str], Path]) -> None:
    """Each list of values multiplies the runs of every step behind it."""
    step = '[[step]]\ndo = "quantize"\nname = "q{}"\nscheme = ["fp16", "int8-dynamic"]\n'
    opsets = EXPORT.replace("]]\n", f"]]\nopset = {list(range(600))}\n")
    for steps in (EXPORT + "".join(map(step.format, range(40))), opsets):
        with pytest.raises(LimitError, match="EDGEKIT_LIMIT_RECIPE_RUNS"):
            check(written(HEAD + steps))


def test_many_steps_of_the_source_take_no_time(mistakes: Callable[[str], list[tuple[int, str]]]) -> None:
    found = mistakes(HEAD + "".join(f'[[step]]\ndo = "exprt"\nname = "n{k}"\nfrom = "source"\n' for k in range(490)))
    assert len(found) == 490


def test_to_look_at_a_recipe_downloads_nothing(
    written: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens at the mirror: to ask there would be an error."""
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEKIT_MIRROR", "http://127.0.0.1:9")
    recipe = 'source = "lstm"\ndata = "fsdd"\n[[step]]\ndo = "export"\nto = ["onnx"]\n'
    assert len(check(written(recipe)).runs) == 1


def test_to_look_at_a_recipe_asks_no_hub(written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.setblocking(False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.getsockname()[1]}")
        recipe = 'source = "hf:nobody/nothing"\n[[step]]\ndo = "export"\nto = ["onnx"]\n'
        assert len(check(written(recipe)).runs) == 1
        with pytest.raises(BlockingIOError):  # nobody knocked
            hub.accept()
