"""Each verb once, for real, as short as it can be: one network and small data that ship with edgekit.

What a verb promises beyond that is tested elsewhere; these run in the fast tier whatever they take.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import VERBS

pytestmark = pytest.mark.thin
DATA = ("--data", "breast-cancer")
Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them work."""
    return tmp_path_factory.mktemp("verbs")


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, json_of: Cli) -> Cli:
    """A command line in ``folder`` that has to end well; its JSON document."""
    monkeypatch.chdir(folder)
    return json_of


@pytest.fixture
def model(cli: Cli, folder: Path) -> str:
    """The shipped mlp as an ONNX file, exported by the first test that needs it."""
    if not (folder / "mlp.onnx").exists():
        (made,) = cli("export", "mlp", "--to", "onnx", "-o", ".")["artifacts"]
        assert made["parity"]["passed"]
    return "mlp.onnx"


@pytest.fixture
def small(cli: Cli, model: str, folder: Path) -> str:
    """The same with int8."""
    if not (folder / "int8.onnx").exists():
        made = cli("quantize", model, "--scheme", "int8", *DATA, "--seconds", "0", "-o", "int8.onnx")
        assert made["account"]["integer_operators"] == made["account"]["operators"] > 0
        assert made["quality"]["after"] > 0.9
    return "int8.onnx"


def test_every_verb_is_here() -> None:
    assert {f"test_{verb}" for verb in VERBS} <= set(globals())


def test_models(cli: Cli) -> None:
    assert {"mlp", "cnn", "lstm"} <= {row["name"] for row in cli("models")["models"]}


def test_train(cli: Cli, folder: Path) -> None:
    assert cli("train", "mlp", *DATA, "--epochs", "1", "-o", "trained.safetensors")["family"] == "mlp"
    assert (folder / "trained.safetensors").stat().st_size > 1000


def test_optimize(cli: Cli, model: str, folder: Path) -> None:
    quick = ["--trials", "1", "--seconds", "0.1", "--runtimes", "onnxruntime", "--limit", "20"]
    made = cli("optimize", model, *DATA, *quick, "-o", "best")
    assert len(made["trials"]) == 1 and Path(made["recommended"]["path"]).parent == folder / "best" / "front"


def test_finetune(cli: Cli) -> None:
    assert cli("finetune", "mlp", *DATA, "--epochs", "1", "-o", "tuned.safetensors")["quality"]["value"] > 0.9


def test_prune(cli: Cli) -> None:
    made = cli("prune", "mlp", "--amount", "0.5", "--epochs", "1", *DATA, "-o", "pruned.safetensors")
    assert made["macs"]["after"] <= 0.5 * made["macs"]["before"]


def test_export(cli: Cli, model: str) -> None:
    assert cli("inspect", model)["card"]["steps"][-1]["name"] == "export"


def test_quantize(small: str, model: str, folder: Path) -> None:
    assert (folder / small).stat().st_size < (folder / model).stat().st_size


def test_eval(cli: Cli, small: str) -> None:
    assert cli("eval", small, *DATA)["value"] > 0.9


def test_verify(cli: Cli, model: str) -> None:
    assert cli("verify", model, "--against", "mlp")["passed"]


def test_bench(cli: Cli, model: str, small: str) -> None:
    timed = cli("bench", model, small, "--seconds", "0.1", "--workers", "1")
    assert all(row["latency_ms"]["p50"] > 0 for row in timed["results"]) and len(timed["comparisons"]) == 1


def test_compare(cli: Cli, model: str, folder: Path) -> None:
    timed = cli("bench", model, "--seconds", "0.1", "--workers", "1")
    (folder / "timed.json").write_text(json.dumps(timed))
    (row,) = cli("compare", "timed.json", "timed.json")["comparisons"]
    assert row["ratio_p50"] == pytest.approx(1)


def test_report(cli: Cli, small: str, folder: Path) -> None:
    assert cli("eval", small, *DATA, "--html", "eval.html")["command"][:2] == ["edgekit", "eval"]
    (folder / "eval.json").write_text(json.dumps(cli("eval", small, *DATA)))
    made = cli("report", "eval.json", "-o", "page.html")
    assert made["bytes"] == (folder / "page.html").stat().st_size
    assert "<!doctype html>" in (folder / "eval.html").read_text()


def test_run(cli: Cli, model: str, folder: Path) -> None:
    (folder / "row.csv").write_text(",".join(["0.5"] * 30) + "\n")
    assert cli("run", model, "row.csv")["results"][0]["outputs"]


def test_inspect(cli: Cli, small: str) -> None:
    assert [step["name"] for step in cli("inspect", small)["card"]["steps"]][-1] == "quantize"


def test_package(cli: Cli, small: str) -> None:
    made = cli("package", small, "--for", "python", "-o", "app")
    assert "selftest.py" in {Path(row["path"]).name for row in made["files"]}


def test_recipe(cli: Cli, folder: Path) -> None:
    (folder / "r.toml").write_text('source = "mlp"\n[[step]]\ndo = "export"\nto = ["onnx"]\n')
    assert [run["ended"] for run in cli("recipe", "run", "r.toml", "-o", "recipe")["runs"]] == ["done"]


def test_device(cli: Cli) -> None:
    assert [row["name"] for row in cli("device", "list")["devices"]][:2] == ["cpu", "python"]


def test_doctor(cli: Cli) -> None:
    rows = {row["runtime"]: row for row in cli("doctor", "--quick")["backends"]}
    assert rows["onnxruntime"]["state"] == "installed"
