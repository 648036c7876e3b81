"""The packages in examples/, installed beside edgekit, are used by every verb they add a name to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plug-in, installed."""
    return install(root / "examples" / "plugin", tmp_path_factory)


def install(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package of a folder of examples, installed."""
    place, copy = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source")
    for file in example.rglob("*"):
        if file.is_file() and file.suffix in (".py", ".toml"):
            target = copy / file.relative_to(example)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(place)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(copy)], check=True)
    return place


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that commands run in."""
    return tmp_path_factory.mktemp("work")


SERIES = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from edgekit.cli import main
for line in sys.stdin:
    said = io.StringIO()
    with redirect_stdout(sys.stderr), redirect_stderr(said):
        try:
            main(json.loads(line))
        except SystemExit as leaving:
            code = leaving.code
    print(json.dumps([code or 0, said.getvalue()]), flush=True)
"""
"""Command lines one after the other in one process: most of what each takes is the import of torch."""


@contextmanager
def runs_with(path: str, work: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """What runs a command in ``work`` with ``path`` as PYTHONPATH and gives its JSON document."""
    environment = {**os.environ, "PYTHONPATH": path}
    words = [sys.executable, "-c", SERIES]
    with subprocess.Popen(
        words, cwd=work, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as series:
        assert series.stdin is not None and series.stdout is not None
        asked, answered = series.stdin, series.stdout

        def command(*words: str, code: int = 0) -> dict[str, Any]:
            print(json.dumps([*words, "--json", "out.json"]), file=asked, flush=True)
            ended, said = json.loads(answered.readline())
            assert ended == code, said
            return {"stderr": said} if code else json.loads((work / "out.json").read_text())

        yield command


@pytest.fixture(scope="module")
def run(site: Path, work: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """``run("train", …)``: the JSON document of a command that knows the plug-in."""
    with runs_with(str(site), work) as command:
        yield command


def test_every_kind_of_plug_in(run: Callable[..., dict[str, Any]], work: Path) -> None:
    run("train", "softmax", "--data", "waves", "-o", "s.safetensors")
    pruned = run("prune", "s.safetensors", "--method", "random", "--amount", "0.2", "--data", "waves", "--epochs", "1",
                 "-o", "p.safetensors")  # fmt: skip
    assert pruned["method"] == "random"
    exported = run("export", "p.safetensors", "--to", "onnx-17", "--name", "s", "-o", ".")
    assert exported["artifacts"][0]["parity"]["passed"]
    made = run("quantize", "s.onnx", "--scheme", "half", "--data", "waves", "--seconds", "0", "-o", "h.onnx")
    assert (made["scheme"], made["quality"]["metric"]) == ("half", "top-2")
    assert made["fidelity"]["outputs"][0]["snr_db"] > 40
    assert made["artifact"]["bytes"] < made["parent"]["bytes"]
    found = run("eval", "h.onnx", "--data", "waves", "--runtime", "reference", "--on", "nice:5")
    assert (found["metric"], found["device"]) == ("top-2", "nice:5")
    assert found["value"] > 0.9
    timed = run("bench", "s.onnx", "--runtime", "onnxruntime,reference", "--seconds", "0.2")
    assert [row["runtime"] for row in timed["results"]] == ["onnxruntime", "reference"]
    packaged = run("package", "s.onnx", "--for", "npz", "-o", "app")
    assert (packaged["for"], packaged["selftest"]["passed"]) == ("npz", True)
    assert {row["path"] for row in packaged["files"]} >= {"model.onnx", "inputs.npz", "outputs.npz"}
    (work / "one.wave").write_text("0\n" * 16)
    (answer,) = run("run", "s.onnx", "one.wave")["results"]
    scores = answer["outputs"][0]["first"]
    assert scores[2] == max(scores), "sine, square, silence"


def test_a_source_and_a_step_of_recipes(run: Callable[..., dict[str, Any]], work: Path) -> None:
    exported = run("export", "linear:16x3", "--to", "onnx", "-o", ".")
    assert exported["artifacts"][0]["parity"]["passed"]
    assert "linear:16x3" in run("export", "linear:16", "--to", "onnx", "-o", ".", code=3)["stderr"]
    step = '[[step]]\ndo = "{}"\n{}\n'
    for most, code in ((100_000, 0), (10, 1)):
        steps = step.format("export", 'to = "onnx"') + step.format("fits", f"max-bytes = {most}")
        (work / "fits.toml").write_text('source = "linear:16x3"\n' + steps)
        run("recipe", "run", "fits.toml", "-o", "fits", code=code)


def test_an_extra_of_bench(run: Callable[..., dict[str, Any]], site: Path, work: Path) -> None:
    """Its option in the command line, a recipe and Python; its key in the document, its line and column in reports."""
    run("export", "mlp", "--to", "onnx", "-o", ".")
    bench = ("bench", "mlp.onnx", "--seconds", "0.2", "--workers", "1")
    (entry,) = run(*bench, "--page-faults", "20", "--csv", "t.csv", "--markdown", "t.md")["results"]
    assert entry["page_faults"]["runs"] == 20 and entry["page_faults"]["faults"] >= 0
    head, row = ((work / "t.csv").read_text().splitlines()[k].split(",") for k in (0, 1))
    assert row[head.index("page_faults")] == str(entry["page_faults"]["faults"])
    assert re.search(r"- mlp.onnx: \d+ page faults in 20 runs", (work / "t.md").read_text())
    assert "page_faults" not in run(*bench)["results"][0]
    assert "--page-faults is 0; give 1 or more" in run(*bench, "--page-faults", "0", code=2)["stderr"]
    recipe = 'source = "mlp"\n[[step]]\nname = "e"\ndo = "export"\nto = ["onnx"]\n'
    recipe += '[[step]]\ndo = "bench"\nfrom = ["e"]\nseconds = 0.2\nworkers = 1\npage-faults = 5\n'
    (work / "r.toml").write_text(recipe)
    ran = run("recipe", "run", "r.toml", "-o", "out")
    assert re.search(r'"page_faults": \{"runs": 5, "faults": \d+\}', json.dumps(ran))
    program = "import edgekit; r = edgekit.bench('mlp.onnx', seconds=0.2, workers=1, page_faults=7); "
    program += "print(r.document()['results'][0]['page_faults']['runs'])"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "7", done.stderr


def test_what_there_is_lists_it(run: Callable[..., dict[str, Any]]) -> None:
    backends = {row["runtime"]: row["state"] for row in run("doctor", "--quick")["backends"]}
    assert backends["reference"] == "installed"
    kinds = {row["name"]: row["spelling"] for row in run("device", "list")["devices"]}
    assert kinds["nice"] == "nice:N"
    prune = ("prune", "mlp", "--method", "rndom", "--amount", "0.5", "-o", "q.safetensors")
    assert "channels, blocks, magnitude, 2:4, random" in run(*prune, code=2)["stderr"]
    run("export", "mlp", "--to", "onnx", "-o", ".")
    for words, said in (
        (("quantize", "mlp.onnx", "--scheme", "hlf", "-o", "q.onnx"), "fp16, half, auto"),
        (("eval", "mlp.onnx", "--data", "breast-cancer", "--on", "nice:0"), "a priority from 1 to 19"),
    ):
        assert said in run(*words, code=2)["stderr"]


def test_a_plug_in_that_cannot_be_imported_is_named(site: Path, work: Path, edgekit_program: str) -> None:
    module = site / "edgekit_example" / "data.py"
    text = module.read_text()
    module.write_text(text.replace("import numpy", "import no_such_package, numpy"))
    try:
        words = [edgekit_program, "train", "softmax", "--data", "waves", "-o", "x.safetensors"]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True)
    finally:
        module.write_text(text)
    named = r"edgekit_example\.data:open_waves, which an installed package names 'waves' in edgekit\.data, cannot be"
    assert done.returncode == 4
    assert re.search(named, done.stderr)


def test_ncnn(root: Path, work: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """examples/ncnn: the shipped cnn against torch, in float32 and in float16, and a file that ncnn does not take."""
    packages = os.environ.get("EDGEKIT_NCNN") or str(root / ".venv-ncnn")
    if not os.path.isdir(packages):
        pytest.skip("needs .venv-ncnn or $EDGEKIT_NCNN: run scripts/test")
    place = install(root / "examples" / "ncnn", tmp_path_factory)
    with runs_with(f"{place}{os.pathsep}{packages}", work) as run:
        run("export", "cnn", "--to", "onnx", "-o", ".")
        assert run("verify", "cnn.onnx", "--against", "cnn", "--runtime", "ncnn")["passed"]
        half = run("verify", "cnn.onnx", "--against", "cnn", "--runtime", "ncnn:fp16")
        assert half["passed"] and half["tolerance"] > 1e-3, "judged as float16"
        refused = run("run", "cnn.onnx", "--runtime", "ncnn:int8", "x.npz", code=2)["stderr"]
        assert "there are: ncnn, ncnn:fp16" in refused
        run("export", "transformer", "--to", "onnx", "-o", ".")
        assert "ncnn runs float32" in run("bench", "transformer.onnx", "--runtime", "ncnn", code=3)["stderr"]
