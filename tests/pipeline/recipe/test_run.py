"""Real recipes on embedded data: what runs, what is not done again, what one failure stops, and what a kill leaves."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.artifact import read_card, sha256_file
from edgekit.cli import main
from edgekit.errors import DeviceError, EdgekitError, GateError, InputError, StorageError, UsageError
from edgekit.pipeline.doctor import TINY_ONNX
from edgekit.pipeline.recipe.result import RecipeResult
from edgekit.pipeline.recipe.state import Folder, changes, key_of

LINE = """source = "mlp"
data = "{data}"
[[step]]
do = "prune"
amount = 0.5
epochs = {epochs}
[[step]]
do = "export"
to = "onnx"
[[step]]
do = "quantize"
scheme = ["{scheme}", "int8-weights"]
[[step]]
do = "verify"
against = "export"
tolerance = 5
[[step]]
do = "eval"
[[step]]
do = "bench"
from = ["export", "eval"]
seconds = 0.2
workers = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 3)).round(3)
    lines = ["a,b,c,label", *(f"{a},{b},{c},{'up' if a + b > 0 else 'down'}" for a, b, c in rows)]
    Path("rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def _write(text: str, **values: object) -> Path:
    path = Path("line.toml")
    path.write_text(text.format(**values) if values else text, encoding="utf-8")
    return path


def _run(text: str, **values: object) -> RecipeResult:
    return edgekit.recipe.run(_write(text, **values), out="out")


def _ends(result: RecipeResult) -> dict[str, str]:
    return {outcome.run.title: outcome.ended for outcome in result.outcomes}


def _reasons(result: RecipeResult) -> dict[str, str]:
    return {outcome.run.title: outcome.reason for outcome in result.outcomes}


def _failure(result: RecipeResult) -> EdgekitError:
    failure = result.failure()
    assert failure is not None
    return failure


def test_a_gate_stops_what_depends_on_it_and_only_that(folder: Path) -> None:
    """int8 makes this small network larger, which quantize refuses; everything else comes out, and is done once."""
    result = _run(LINE, data="breast-cancer", epochs=1, scheme="int8")
    assert _ends(result) == {
        "prune.safetensors": "done",
        "export.onnx": "done",
        "quantize-int8.onnx": "failed",
        "quantize-int8-weights.onnx": "done",
        "verify-int8.onnx": "left out",
        "verify-int8-weights.onnx": "done",
        "eval-int8.onnx": "left out",
        "eval-int8-weights.onnx": "done",
        "bench": "done",
    }
    assert isinstance(_failure(result), GateError) and "quantize-int8.onnx" in str(_failure(result))
    assert "nothing was published" in _reasons(result)["quantize-int8.onnx"]
    assert result.outcomes[-1].without == ("quantize-int8.onnx",)
    document = result.document()
    assert document["exit_code"] == 1
    assert [(row["file"], row["verdict"] is None) for row in document["table"]] == [
        ("export.onnx", True),
        ("quantize-int8-weights.onnx", False),
    ]
    timed = document["table"][1]
    assert (timed["device"], timed["metric"], timed["against"]) == ("cpu", "accuracy", "export.onnx")
    assert timed["p50_ms"] > 0 and 0.5 < timed["quality"] <= 1 and timed["bytes"] < document["table"][0]["bytes"]
    assert "samples_ns" not in json.dumps(document) and "samples_ns" in Path("out/bench.json").read_text()
    assert json.loads(Path("out/eval-int8-weights.onnx.json").read_text())["schema"] == "edgekit.eval/1"

    before = {file: (file.stat().st_mtime_ns, sha256_file(file)) for file in Path("out").iterdir() if file.is_file()}
    again = edgekit.recipe.run("line.toml", out="out")
    kept = {title for title, ended in _ends(again).items() if ended == "kept"}
    assert kept == {title for title, ended in _ends(result).items() if ended == "done"}
    assert before == {f: (f.stat().st_mtime_ns, sha256_file(f)) for f in Path("out").iterdir() if f.is_file()}
    assert again.document()["table"] == document["table"]


SHORT = """source = "{source}"
data = "{data}"
[[step]]
do = "finetune"
epochs = {epochs}
[[step]]
do = "prune"
amount = 0.5
epochs = 0
[[step]]
name = "plain"
do = "prune"
from = "source"
amount = 0.5
epochs = 0
"""


def test_what_changed_is_done_again_and_nothing_else(folder: Path) -> None:
    edgekit.train("mlp", data="table:rows.csv", epochs=1, out="w.safetensors")
    given: dict[str, Any] = {"source": "w.safetensors", "data": "table:rows.csv", "epochs": 1}
    titles = ("finetune.safetensors", "prune.safetensors", "plain.safetensors")

    def ends(**changed: object) -> tuple[str, ...]:
        result = _run(SHORT, **{**given, **changed})
        assert result.failure() is None
        return tuple(_ends(result)[title] for title in titles)

    assert ends() == ("done", "done", "done")
    assert ends() == ("kept", "kept", "kept")

    assert ends(epochs=2) == ("done", "done", "kept")
    shown = edgekit.recipe.show(_write(SHORT, **given), out="out")
    assert [one.why for one in shown.runs] == ["option epochs was 2, is 1", "finetune.safetensors may change", None]

    lines = Path("rows.csv").read_text().splitlines()  # the label of the last row
    last = lines[-1].rpartition(",")
    Path("rows.csv").write_text("\n".join([*lines[:-1], f"{last[0]},{'down' if last[2] == 'up' else 'up'}"]) + "\n")
    result = _run(SHORT, **{**given, "epochs": 2})
    assert set(_ends(result).values()) == {"done"}, "every command here takes the data"
    assert _reasons(result)["plain.safetensors"] == "data table:rows.csv changed"

    edgekit.train("mlp", data="table:rows.csv", epochs=1, seed=1, out="w.safetensors")
    assert "source w.safetensors changed" in edgekit.recipe.show("line.toml", out="out").runs[0].why

    assert ends(epochs=2) == ("done", "done", "done")
    Path("out/prune.safetensors").write_bytes(Path("out/plain.safetensors").read_bytes())
    assert edgekit.recipe.show("line.toml", out="out").runs[1].why == "prune.safetensors was changed since"
    assert ends(epochs=2) == ("kept", "done", "kept")
    Path("out/plain.safetensors").unlink()
    assert ends(epochs=2) == ("kept", "kept", "done")
    assert set(_ends(edgekit.recipe.run("line.toml", out="out", fresh=True)).values()) == {"done"}


def test_same_file_again_stops_the_change(folder: Path) -> None:
    """A run that is done again and gives the same bytes changes nothing for what follows."""
    text = 'source = "mlp"\n[[step]]\ndo = "prune"\namount = {amount}\n'
    text += '[[step]]\nname = "more"\ndo = "prune"\namount = {amount}\n'
    _run(text, amount=0.5)
    before = sha256_file("out/prune.safetensors")
    Path("out/prune.safetensors").unlink()
    result = _run(text, amount=0.5)
    assert sha256_file("out/prune.safetensors") == before
    assert _ends(result) == {"prune.safetensors": "done", "more.safetensors": "kept"}


def test_versions_and_machine_are_part_of_the_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card's record of the packages that made it names none that the key leaves out."""
    _run('source = "mlp"\n[[step]]\ndo = "prune"\namount = 0.5\n[[step]]\ndo = "export"\nto = "onnx"\n')
    records = {path.stem: json.loads(path.read_text()) for path in Path("out/.recipe").glob("*.json")}
    card = read_card("out/export.onnx")
    assert card is not None and len(card.steps) >= 2
    mine: Mapping[str, str] = {**records["prune.safetensors"]["parts"], **records["export.onnx"]["parts"]}
    for step in card.steps:
        assert step.versions.items() <= mine.items() or step.name == "train", step
    monkeypatch.setattr("edgekit.pipeline.recipe.state.__version__", "9.9")
    assert [one.why for one in edgekit.recipe.show("line.toml", out="out").runs] == [
        f"edgekit was {edgekit.__version__}, is 9.9",
        "prune.safetensors may change",
    ]


def test_what_differs_is_told_in_words() -> None:
    before = {"option epochs": 3, "option to": ["onnx"], "data d": "a" * 64, "torch": "1", "option lr": 0.1}
    after = {"option epochs": 4, "option to": ["onnx"], "data d": "b" * 64, "torch": "2", "option seed": 1}
    assert changes(before, after) == (
        "option epochs was 3, is 4; data d changed; torch was 1, is 2; option lr was 0.1, and is no longer given; "
        "option seed is 1, and was not given"
    )
    assert key_of(before) != key_of(after) and key_of(before) == key_of(dict(reversed(before.items())))


def test_exit_code_is_the_worst(folder: Path) -> None:
    """4 before 3 before 1: no python, data of another kind than the network's, a gate, each on a branch of its own."""
    gate = '[[step]]\nname = "gate"\ndo = "verify"\nfrom = "export"\nagainst = "mlp"\ntolerance = 1e-30\n'
    device = '[[step]]\nname = "device"\ndo = "eval"\nfrom = "export"\non = "python:/bin/false"\n'
    wrong = '[[step]]\nname = "wrong"\ndo = "eval"\nfrom = "export"\ndata = "digits"\n'
    head = 'source = "mlp"\ndata = "breast-cancer"\n[[step]]\ndo = "export"\nto = "onnx"\n'
    for steps, kind in ((gate, GateError), (gate + wrong, InputError), (gate + wrong + device, DeviceError)):
        result = _run(head + steps)
        assert type(_failure(result)) is kind
        assert _ends(result)["export.onnx"] in ("done", "kept")
        assert result.document()["exit_code"] == kind.exit_code


def test_a_finished_file_is_a_source_too(folder: Path) -> None:
    Path("tiny.onnx").write_bytes(TINY_ONNX)
    text = 'source = "tiny.onnx"\n[[step]]\ndo = "bench"\nseconds = 0.1\nworkers = 1\n'
    (row,) = _run(text).document()["table"]
    assert (row["file"], row["step"], row["bytes"], row["ratio"]) == ("tiny.onnx", "source", len(TINY_ONNX), None)
    assert row["p50_ms"] > 0
    Path("tiny.onnx").write_bytes(TINY_ONNX + b"\x3a\x00")  # an empty, unknown part more
    assert "source tiny.onnx changed" in edgekit.recipe.show("line.toml", out="out").runs[0].why


@pytest.mark.slow
@pytest.mark.usefixtures("executorch_python")
def test_a_program_becomes_a_quantized_file_of_executorch(folder: Path) -> None:
    result = _run(
        'source = "mlp"\ndata = "breast-cancer"\n[[step]]\ndo = "export"\nto = "pt2"\n'
        '[[step]]\ndo = "quantize"\nscheme = "int8"\nseconds = 0\n[[step]]\ndo = "eval"\n'
    )
    assert _ends(result) == dict.fromkeys(["export.pt2", "quantize.pte", "eval.pte"], "done")
    card = read_card(folder / "out" / "quantize.pte")
    assert card is not None and card.account is not None and card.account["integer_operators"] > 0
    assert [row.file for row in result.table()] == ["export.pt2", "quantize.pte"]


def test_two_at_once(folder: Path) -> None:
    path = _write('source = "mlp"\n[[step]]\ndo = "prune"\namount = 0.5\n')
    with Folder(Path("out")).locked(), pytest.raises(UsageError, match=rf"process {os.getpid()}\) works in out; wait"):
        edgekit.recipe.run(path, out="out")
    assert edgekit.recipe.run(path, out="out").failure() is None


def test_full_disk_ends_the_recipe_and_publishes_nothing(folder: Path) -> None:
    """Files are limited to fewer bytes than the second checkpoint has; then the limit goes and the recipe goes on."""
    head = 'source = "mlp"\n[[step]]\ndo = "prune"\namount = 0.9\nround-to = 1\n'
    path = _write(head + '[[step]]\nname = "whole"\ndo = "prune"\nfrom = "source"\namount = 0.1\nround-to = 1\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7000, hard))
    try:
        with pytest.raises(StorageError, match="no space left"):
            edgekit.recipe.run(path, out="out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    left = {file.name for file in Path("out").iterdir() if file.is_file()}
    assert left == {"prune.safetensors"}
    assert tuple(_ends(edgekit.recipe.run(path, out="out")).values()) == ("kept", "done")


LONG = """source = "cnn"
data = "digits"
[[step]]
do = "train"
epochs = 3
[[step]]
do = "prune"
amount = 0.5
epochs = 0
"""


def _started(folder: Path) -> subprocess.Popen[str]:
    code = "from edgekit.cli import main; main(['recipe', 'run', 'line.toml', '-o', 'out'])"
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=subprocess.PIPE, text=True)


def _until(running: subprocess.Popen[str], words: str, limit_s: float = 120) -> None:
    assert running.stderr is not None
    end = time.monotonic() + limit_s
    for line in running.stderr:
        if words in line:
            return
        assert time.monotonic() < end
    raise AssertionError(f"the program ended before it said {words!r}")


@pytest.mark.slow
def test_stopped_and_killed_in_the_middle_of_a_training_it_goes_on(folder: Path) -> None:
    _write(LONG)
    for number, code, words in ((signal.SIGINT, 130, "epoch 1 of 3"), (signal.SIGKILL, -9, "epoch 2 of 3")):
        running = _started(folder)
        _until(running, words)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
        assert running.returncode == code
        if number == signal.SIGINT:
            ended = "edgekit: interrupted; the finished steps are kept in out; the same command goes on there\n"
            assert said.endswith(ended) and "nothing was published" not in said
        names = {file.name for file in Path("out").iterdir() if file.is_file() and not file.name.startswith(".")}
        assert names == {"train.resume.safetensors"}

    running = _started(folder)
    _, said = running.communicate(timeout=240)
    assert running.returncode == 0, said
    assert "resuming after epoch 2" in said and "epoch 2 of 3" not in said and "epoch 3 of 3" in said
    assert {file.name for file in Path("out").iterdir() if file.is_file()} == {"train.safetensors", "prune.safetensors"}


def _main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    said = capsys.readouterr()
    return int(leaving.value.code or 0), said.out, said.err


def test_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write('source = "mlp"\n[[step]]\ndo = "prune"\namount = 0.5\n[[step]]\ndo = "export"\nto = "onnx"\n')
    code, out, _ = _main(capsys, "recipe", "check", "line.toml")
    assert (code, out.strip()) == (0, "line.toml: right; 2 steps, 2 runs")
    code, out, said = _main(capsys, "recipe", "run", "line.toml", "--json", "-")
    document = json.loads(out)
    assert (code, document["schema"], document["folder"]) == (0, "edgekit.recipe/1", "runs/line")
    assert [row["ended"] for row in document["runs"]] == ["done", "done"]
    assert said.count("pruned 55.5%") == 1, "what a step logs is said once"
    code, out, _ = _main(capsys, "recipe", "show", "line.toml")
    assert (code, out.count("done")) == (0, 2) and "edgekit export prune.safetensors --to onnx" in out
    assert _main(capsys, "recipe", "run", "line.toml", "-q") == (0, "", "")
    _write('source = "mlp"\n[[step]]\ndo = "prnue"\n')
    code, out, said = _main(capsys, "recipe", "run", "line.toml")
    assert (code, out) == (3, "") and "line.toml:3: no step is called 'prnue'; did you mean 'prune'?" in said
