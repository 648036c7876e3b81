"""Nothing that a stranger wrote speaks to the terminal: each place where text leaves, through the real command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.artifact import write_card
from edgekit.types import Card, InputSpec, Quality, Signature, Step, Task, TensorSpec

EVIL = "\x1b]0;pwned\x07\x1b]52;c;cm0gLXJm\x07\x1b[31m\x9b2J\u202eevil\u2066\x7f\r[red]x[/red][link=http://e]y[/link]"
BENCH = ("bench", "--seconds", "0.1", "--workers", "1")
SHOWN = r"\x1b]0;pwned\x07"
Bytes = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture
def command(edgekit_program: str, tmp_path: Path) -> Bytes:
    """``command(*words)``: code, standard output and standard error of ``edgekit``, as bytes, checked for controls."""

    def run(*words: str | Path, **environment: str) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [edgekit_program, *map(os.fsencode, words)], cwd=tmp_path, capture_output=True, check=False,
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), **environment},
        )  # fmt: skip
        for stream in (done.stdout, done.stderr):
            text = stream.decode()
            wrong = {sign for sign in text if ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 or sign in "\u202e\u2066"}
            assert wrong <= {"\n", "\t"}, text
        return done.returncode, done.stdout, done.stderr

    return run


def carded(model_files: ModuleType, folder: Path) -> Path:
    """A classifier whose card is full of it."""
    source = model_files.dense_onnx(folder / "plain.onnx")
    task = Task("classification", (EVIL, f"b{EVIL}", "c"), EVIL, {EVIL: EVIL})
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 3)),))
    card = Card(
        EVIL, EVIL, task, signature, {"x": InputSpec()}, steps=(Step(EVIL, {EVIL: EVIL}, {EVIL: EVIL}),),
        quality=(Quality(EVIL, 0.5, EVIL, 3, EVIL, EVIL),), notes=(EVIL,),
    )  # fmt: skip
    return write_card(source, card, folder / "m.onnx").path


def test_a_card(command: Bytes, model_files: ModuleType, tmp_path: Path) -> None:
    model = carded(model_files, tmp_path)
    code, out, _ = command("inspect", model)
    assert code == 0 and out.count(SHOWN.encode()) >= 6 and rb"\x9b2J\u202eevil\u2066\x7f\x0d[red]x[/red]" in out
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    code, out, _ = command("run", model, tmp_path / "x.npz")
    assert code == 0 and SHOWN.encode() in out and b"[link=http://e]y[/link]" in out


def test_documents_are_read_back_as_it_is(command: Bytes, model_files: ModuleType, tmp_path: Path) -> None:
    model = carded(model_files, tmp_path)
    code, out, _ = command("inspect", model, "--json", "-")
    assert code == 0 and json.loads(out)["card"]["name"] == EVIL
    code, _, _ = command("inspect", model, "--json", tmp_path / "out.json")
    assert code == 0 and json.loads((tmp_path / "out.json").read_text())["card"] == json.loads(out)["card"]
    assert "\x9b" not in (tmp_path / "out.json").read_text() and b"\x1b" not in (tmp_path / "out.json").read_bytes()


def test_names_of_files(command: Bytes, model_files: ModuleType, tmp_path: Path) -> None:
    evil = EVIL.replace("/", "_")
    model = model_files.dense_onnx(tmp_path / "m.onnx").rename(tmp_path / f"{evil}.onnx")
    code, out, _ = command("inspect", model)
    assert code == 0 and SHOWN.encode() in out
    code, _, err = command("inspect", tmp_path / f"{evil}{evil}.onnx")
    assert code == 3 and SHOWN.encode() in err
    code, out, err = command(*BENCH, model, "--csv", "a.csv", "--markdown", "a.md", "--plot", "a.svg")
    assert code == 0 and SHOWN.encode() in out, err
    for name in ("a.csv", "a.md"):
        text = (tmp_path / name).read_text()
        assert SHOWN in text and text.isprintable() is False and "\x1b" not in text and "\u202e" not in text
    assert b"\x1b" not in (tmp_path / "a.svg").read_bytes()


def test_a_name_that_is_not_text_at_all(command: Bytes, model_files: ModuleType, tmp_path: Path) -> None:
    """Bytes that are not UTF-8; and what looks like a formula, which a plot would set."""
    model = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe\x9b.onnx")
    os.rename(model_files.dense_onnx(tmp_path / "m.onnx"), model)
    code, out, _ = command("inspect", model, "--json", "-")
    assert code == 0 and json.loads(out)["model"].endswith("\\udcff\\udcfe\\udc9b.onnx")
    code, _, err = command("inspect", model + model)
    assert code == 3 and rb"\udcff" in err
    os.rename(model, tmp_path / "$x^2$\\frac.onnx")
    code, out, err = command(*BENCH, tmp_path / "$x^2$\\frac.onnx", "--plot", "a.svg")
    assert code == 0 and b"frac" in out, err


def test_names_of_arrays(command: Bytes, model_files: ModuleType, tmp_path: Path) -> None:
    model = model_files.dense_onnx(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", **{f"x{EVIL}".replace("/", "_"): np.ones((1, 4), np.float32)})
    code, _, err = command("run", model, tmp_path / "x.npz")
    assert code == 3 and b"pwned" in err


def test_names_inside_models(command: Bytes, model_files: ModuleType, tmp_path: Path) -> None:
    """Of inputs, outputs and operators; onnxruntime's own words hold them, too."""
    helper = model_files.helper
    nodes = [helper.make_node("Relu", [EVIL], [f"y{EVIL}"], name=EVIL)]
    model = model_files.write_onnx(tmp_path / "m.onnx", nodes, {EVIL: (1, 4)}, {f"y{EVIL}": (1, 4)})
    code, out, _ = command("inspect", model)
    assert code == 0 and SHOWN.encode() in out
    code, _, err = command(*BENCH, model, "--profile", "--debug")
    assert code == 0, err
    nodes = [helper.make_node("Relu" + EVIL, ["x"], ["y"], name=EVIL)]
    unknown = model_files.write_onnx(tmp_path / "u.onnx", nodes, {"x": (1, 4)}, {"y": (1, 4)})
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    quantize = ("quantize", unknown, "--scheme", "fp16", "-o", "q.onnx")
    for words in (("bench", unknown), ("run", unknown, "x.npz"), quantize):
        code, _, err = command(*words)
        assert code in (3, 4) and b"pwned" in err


def test_a_device(command: Bytes, tmp_path: Path) -> None:
    """What it says of itself, and its last words."""
    words = EVIL.replace("\r", "")
    (tmp_path / "python").write_bytes(f"#!/bin/sh\nprintf '%s' '{words}' >&2\nexit 7\n".encode())
    (tmp_path / "python").chmod(0o755)
    code, _, err = command("device", "check", f"python:{tmp_path}/python")
    assert code == 4 and b"exit status 7" in err and SHOWN.encode() in err
    code, _, err = command("device", "check", f"python:{tmp_path}/python", "--debug")
    assert code == 4 and b"Traceback" in err and err.count(SHOWN.encode()) >= 2
    config = tmp_path / "config" / "edgekit" / "devices.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"[{json.dumps(EVIL)}]\naddress = 5\n[pi]\naddress = {json.dumps('python:/' + EVIL)}\n")
    code, out, _ = command("device", "list")
    assert code == 0 and out.count(b"pwned") >= 2


@pytest.mark.parametrize("name", ["EDGEKIT_LIMIT_REPLY_BYTES", "EDGEKIT_SSH", "EDGEKIT_DATA", "EDGEKIT_EMULATOR_ROOT"])
def test_values_of_the_environment(command: Bytes, model_files: ModuleType, tmp_path: Path, name: str) -> None:
    words: dict[str, Any] = {
        "EDGEKIT_LIMIT_REPLY_BYTES": ("doctor", "--quick"),
        "EDGEKIT_SSH": ("device", "check", "ssh://board"),
        "EDGEKIT_DATA": ("eval", model_files.dense_onnx(tmp_path / "m.onnx"), "--data", "cifar10"),
        "EDGEKIT_EMULATOR_ROOT": ("device", "check", "emulator:cortex-a72"),
    }
    code, _, err = command(*words[name], **{name: EVIL})
    assert code in (2, 3, 4) and b"pwned" in err


@pytest.mark.parametrize(
    "words", [(), ("inspect",), ("device", "check"), ("recipe", "check"), ("bench", "m.onnx", "--on")]
)
def test_words_that_were_typed(command: Bytes, words: tuple[str, ...]) -> None:
    code, _, err = command(*words, EVIL)
    assert code in (2, 3) and b"pwned" in err
