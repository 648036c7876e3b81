"""Errors become one message and an exit code in one place; standard output carries the result alone."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import errors
from edgekit.cli import VERBS, main


def _after_interrupt(error: Exception) -> Exception:
    """``error`` as it is raised by what clears up after an interrupt."""
    try:
        try:
            raise KeyboardInterrupt
        finally:
            raise error
    except type(error) as raised:
        return raised


CASES: list[tuple[BaseException, int, str]] = [
    (errors.UsageError("got a"), 2, "edgekit: got a"),
    (errors.ModelError("got b"), 3, "edgekit: got b"),
    (errors.StorageError("disk"), 3, "edgekit: disk"),
    (errors.ParityError("differs"), 1, "edgekit: differs"),
    (errors.WorkerCrashError("signal 11"), 4, "edgekit: signal 11"),
    (errors.InconclusiveError("noise"), 5, "edgekit: noise"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (_after_interrupt(OSError(errno.EBADF, "Bad file descriptor")), 130, "interrupted"),
    (_after_interrupt(errors.StorageError("disk")), 130, "interrupted"),
    (OSError(errno.ENOSPC, "No space left on device", "x.onnx"), 3, "cannot write 'x.onnx': No space left on device"),
    (OSError(errno.EACCES, "Permission denied", "out"), 2, "cannot use 'out': Permission denied"),
    (OSError(errno.EROFS, "Read-only file system", "out"), 2, "cannot use 'out': Read-only file system"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "y"), 3, "cannot read 'y'"),
    (OSError(errno.EMFILE, "Too many open files", "z"), 4, "cannot open 'z': Too many open files; allow more"),
    (ImportError("libx.so: cannot open shared object file: Too many open files"), 4, "ulimit -n 1024"),
    (MemoryError(), 4, "out of memory"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), 4, "pip install 'edgekit[torch]'"),
    (ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper"), 4, "pip install 'edgekit[host]'"),
    (ModuleNotFoundError("No module named 'nonsense'", name="nonsense"), 4, "internal error: ModuleNotFoundError"),
    (
        RuntimeError("first\nsecond"),
        4,
        "internal error: RuntimeError: first second (run with --debug",
    ),
    (EOFError(), 4, "internal error: EOFError (run"),
    (RecursionError("deep"), 4, "internal error: RecursionError"),
]


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def _raising(error: BaseException) -> Callable[..., Any]:
    def verb(*args: object, **kwargs: object) -> None:
        raise error

    return verb


@pytest.mark.parametrize(("error", "code", "message"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_error_becomes_message_and_code(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgekit.pipeline.inspect.inspect", _raising(error))
    assert _run("inspect", "x.onnx") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_every_error_class_has_its_contract_code() -> None:
    codes = {name: getattr(errors, name).exit_code for name in dir(errors) if name.endswith("Error")}
    assert codes == {
        "EdgekitError": 4, "UsageError": 2, "InputError": 3, "SourceError": 3, "ModelError": 3, "DataError": 3,
        "FeedError": 3, "RecipeError": 3, "UnsupportedError": 3, "ConversionError": 3, "StorageError": 3,
        "LimitError": 3, "FactoryNeededError": 3,
        "GateError": 1, "ParityError": 1, "QualityError": 1, "DeviceError": 4, "RuntimeMissingError": 4,
        "WorkerCrashError": 4, "WorkerTimeoutError": 4, "WorkerMemoryError": 4, "ProtocolError": 4,
        "TransferError": 4, "UnreachableError": 4, "InconclusiveError": 5,
    }  # fmt: skip


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgekit.pipeline.inspect.inspect", _raising(RuntimeError("why")))
    assert _run("inspect", "x.onnx", "--debug") == 4
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspct"], "no command is called 'inspct'; did you mean 'inspect'?"),
        (["zzz"], "no command is called 'zzz'; there are: models, train"),
        (["inspect"], "Missing argument 'MODEL'"),
        (["inspect", "a", "b"], "unexpected extra argument"),
        (
            ["export", "cnn", "--to", "onnx", "-o", "x", "--std", ".1", ".2", ".3"],
            "the values of one option are joined by commas",
        ),
        (["inspect", "a.onnx", "--nonsense"], "No such option"),
        (["train", "cnn", "--data", "digits", "--epochs", "0", "-o", "x.safetensors"], "--epochs"),
        (["train", "cnn", "--data", "digits", "--device", "tpu", "-o", "x.safetensors"], "'tpu'"),
        (["inspect", "a.onnx", "--json", "no/such/folder/x.json"], "does not exist"),
        (["inspect", "a.onnx", "--json", "."], "is a folder"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "--help'" in err
    assert "Traceback" not in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from edgekit import __version__

    assert _run("--version") == 0
    assert capsys.readouterr().out == f"edgekit {__version__}\n"


# ---------------------------------------------------------------- standard output

NOISY = """
import os, sys
import edgekit.pipeline.inspect as room
from edgekit.results.base import Result

class Noisy(Result):
    def document(self):
        return {"value": float("nan"), "list": (1, 2)}

def noisy(model):
    print("a library's print")
    os.write(1, b"C++ noise\\n")
    os.system("echo noise of a child")
    return Noisy()

room.inspect = noisy
from edgekit.cli import main
main(sys.argv[1:])
"""


def _noisy(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NOISY, "inspect", "x.onnx", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_json_stands_alone_on_standard_output(tmp_path: Path) -> None:
    done = _noisy(tmp_path, "--json", "-")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert list(document)[:3] == ["schema", "edgekit", "environment"]
    assert document["schema"] == "edgekit.inspect/1"
    assert document["value"] is None  # JSON has no NaN
    assert document["list"] == [1, 2]
    for noise in ("a library's print", "C++ noise", "noise of a child"):
        assert noise in done.stderr


def test_json_file_is_whole_and_beside_nothing(
    tmp_path: Path, tiny_onnx: Path, edgekit_cli: Callable[..., Any]
) -> None:
    ended = edgekit_cli("inspect", tiny_onnx, "--json", tmp_path / "out.json")
    assert ended.code == 0
    assert "Relu" in ended.out  # the table still comes
    assert json.loads((tmp_path / "out.json").read_text())["operators"] == {"Relu": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"out.json", tiny_onnx.name})


def test_quiet_prints_nothing(tiny_onnx: Path, edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("inspect", tiny_onnx, "-q")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_closed_pipe_is_quiet(tiny_onnx: Path, edgekit_program: str) -> None:
    command = f"'{edgekit_program}' inspect '{tiny_onnx}' --json - | true; exit 0"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_full_standard_output(tiny_onnx: Path, edgekit_program: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [edgekit_program, "inspect", str(tiny_onnx)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "code"), [("--help", 3), ("models", 3), ("models --nonsense", 2)])
def test_streams_that_take_nothing(words: str, code: int, edgekit_program: str, tmp_path: Path) -> None:
    """Of Python's own exit code 120, with which it says that it could not write what was left, there is no trace."""
    with open(tmp_path / "printed", "w") as out:
        done = subprocess.run(
            [edgekit_program, *words.split()], stdout=out, stderr=out, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )  # fmt: skip
    assert done.returncode == code


SLEEPER = """
import sys, time
import edgekit.pipeline.inspect as room
from edgekit.outputs import publishing
from pathlib import Path

def slow(model):
    with publishing(Path("half.onnx")) as temporary:
        temporary.write_bytes(b"half")
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)

room.inspect = slow
from edgekit.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_publishes_nothing(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, "inspect", "x.onnx"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_makes_an_error_of_the_end(tmp_path: Path) -> None:
    """As one does that is ended while it is imported."""
    program = SLEEPER.replace(
        "        time.sleep(60)\n",
        "        try: time.sleep(60)\n        except BaseException: raise AttributeError('half imported') from None\n",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "inspect", "x.onnx"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, "")


def test_verbs_are_in_the_order_of_the_flow() -> None:
    first = ["models", "train", "finetune", "export", "prune", "quantize", "optimize", "eval"]
    assert list(VERBS)[: len(first)] == first


@pytest.mark.parametrize("most", [5, 6, 8])
def test_few_open_files_are_named(most: int) -> None:
    """Fewer than 5 do not even start Python."""
    program = "from edgekit.cli import main; main()"
    command = f"ulimit -n {most}; exec '{sys.executable}' -c '{program}' compare {__file__} {__file__}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode in (3, 4), done.stderr
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


@pytest.mark.parametrize("text", ["9" * 5000, "²", "-1", "", "1_0"])
def test_numbers_that_no_integer_is_made_of(text: str) -> None:
    from edgekit.bench.shapes import parse_shapes
    from edgekit.reading import whole_number

    assert whole_number(text) is None and whole_number("17") == 17
    with pytest.raises(errors.UsageError, match="is not understood"):
        parse_shapes([f"x=1x{text}"])
