"""Every option that names an output writes through pipes, FIFOs, descriptors and devices, and refuses folders early."""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Cli = Callable[..., Any]


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], Callable[[], bytes]]:
    """Makes a FIFO of a name and its reader; gives the function that waits for what came."""

    def made(name: str) -> Callable[[], bytes]:
        os.mkfifo(tmp_path / name)
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append((tmp_path / name).read_bytes()), daemon=True)
        thread.start()

        def ended() -> bytes:
            thread.join(60)
            assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
            return got[0]

        return ended

    return made


@pytest.fixture
def piped(edgekit_program: str, tmp_path: Path) -> Callable[[str], tuple[bytes, int]]:
    """Runs a bash line in which ``edgekit`` is the program; what it printed, and its exit code."""

    def run(line: str) -> tuple[bytes, int]:
        line = f"edgekit() {{ '{edgekit_program}' \"$@\"; }}; {line}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, stdout=subprocess.PIPE, check=False, timeout=300)
        return done.stdout, done.returncode

    return run


@pytest.mark.parametrize(
    "line",
    [
        "edgekit inspect tiny.onnx -q --json >(cat > seen)",
        "edgekit inspect tiny.onnx -q --json /dev/fd/3 3> seen",
        "edgekit inspect tiny.onnx --json /dev/fd/3 3>&1 > table | cat > seen",
        "edgekit inspect tiny.onnx --json /dev/fd/1 | cat > seen",
        "edgekit inspect tiny.onnx --json /dev/stdout > seen",
        "ln -s /dev/stdout link; edgekit inspect tiny.onnx --json link > seen; test -L link",
    ],
)
def test_json_goes_to_what_is_behind_a_descriptor(
    line: str, piped: Callable[[str], tuple[bytes, int]], tiny_onnx: Path, tmp_path: Path
) -> None:
    _, code = piped(f"{line} && sleep 0.2")
    assert code == 0
    assert json.loads((tmp_path / "seen").read_text())["operators"] == {"Relu": 1}


def test_json_to_a_fifo_a_device_and_a_link(tmp_path: Path, tiny_onnx: Path, edgekit_cli: Cli, fifo: Any) -> None:
    came = fifo("fifo")
    (tmp_path / "link").symlink_to("real.json")
    (tmp_path / "real.json").write_text("old")
    places = ["fifo", "link"]
    if os.geteuid() == 0:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        places.append("null")
    for place in places:
        ended = edgekit_cli("inspect", tiny_onnx, "--json", place)
        assert (ended.code, "Relu" in ended.out) == (0, True), ended.err
    assert json.loads(came())["operators"] == {"Relu": 1}
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["operators"] == {"Relu": 1}
    assert "null" not in places or stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*places, "real.json", "tiny.onnx"])


def test_a_full_device_is_a_full_disk(tmp_path: Path, tiny_onnx: Path, edgekit_cli: Cli) -> None:
    if os.geteuid() != 0:
        pytest.skip("device nodes are made by root")
    os.mknod(tmp_path / "full", 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    ended = edgekit_cli("inspect", tiny_onnx, "--json", "full")
    assert (ended.code, "no space left while writing full" in ended.err) == (3, True), ended.err


def test_a_full_disk_keeps_nothing(tmp_path: Path, tiny_onnx: Path, edgekit_cli: Cli) -> None:
    """No byte can be written anywhere: no empty journal beside the result, no empty folder."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    bench = ("bench", tiny_onnx, "--seconds", "0.1", "--workers", "1", "--json", "x.json")
    for arguments in (bench, ("export", "mlp", "--to", "tflite", "-o", "new/folder")):
        ended = edgekit_cli(*arguments, "-q", preexec_fn=full)
        assert (ended.code, "free some space" in ended.err.lower()) == (3, True), ended.err
        assert "Traceback" not in ended.err
        assert [p.name for p in tmp_path.iterdir()] == ["tiny.onnx"]


@pytest.mark.slow
def test_a_network_goes_through_fifos_from_training_to_its_int8_file(
    tmp_path: Path, edgekit_cli: Cli, fifo: Any
) -> None:
    """train, prune, export, quantize (with its ranges), bench (with its tables and picture), run."""
    made = {
        name: fifo(name) for name in ("a.safetensors", "b.safetensors", "q.onnx", "ranges", "t.csv", "p.png", "o.npz")
    }
    (tmp_path / "build").mkdir()
    made |= {"mlp.onnx": fifo("build/mlp.onnx")}

    def done(*arguments: str) -> None:
        ended = edgekit_cli(*arguments, "-q")
        assert ended.code == 0, ended.err

    def came(name: str, place: str) -> str:
        (tmp_path / place).write_bytes(made[name]())
        return place

    done("train", "mlp", "--data", "breast-cancer", "--epochs", "1", "-o", "a.safetensors")
    trained = came("a.safetensors", "trained.safetensors")
    done("prune", trained, "--amount", "0.3", "--data", "breast-cancer", "--epochs", "0", "--max-drop", "0.9",
         "-o", "b.safetensors")  # fmt: skip
    came("b.safetensors", "pruned.safetensors")
    done("export", trained, "--to", "onnx", "--name", "mlp", "-o", "build")
    model = came("mlp.onnx", "model.onnx")
    done("quantize", model, "--scheme", "int8", "--data", "breast-cancer", "--samples", "9", "--seconds", "0",
         "--save-calibration", "ranges", "-o", "q.onnx")  # fmt: skip
    small = came("q.onnx", "small.onnx")
    assert json.loads(made["ranges"]())["samples"] == 9
    done("bench", small, "--seconds", "0.2", "--workers", "1", "--csv", "t.csv", "--plot", "p.png")
    assert b"small.onnx" in made["t.csv"]()
    assert made["p.png"]().startswith(b"\x89PNG")
    np.savez(tmp_path / "x.npz", table=np.zeros((1, 30), np.float32))
    done("run", small, "x.npz", "-o", "o.npz")
    assert [array.shape for array in np.load(io.BytesIO(made["o.npz"]())).values()] == [(1, 2)]
    left = {p.name for p in tmp_path.iterdir()} - {*made, "build", "x.npz"}
    assert left == {"trained.safetensors", "pruned.safetensors", "model.onnx", "small.onnx"}


def test_a_pipe_without_a_name_takes_the_format_there_is(piped: Any, tiny_onnx: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    out, code = piped("edgekit run tiny.onnx x.npz -o >(cat > y) -q && sleep 0.2 && cat y")
    assert code == 0
    assert np.load(io.BytesIO(out))["y"].tolist() == [[1.0] * 4]


def test_folders_and_sockets_are_refused_before_the_work(refused: Callable[..., str], tmp_path: Path) -> None:
    """Exit 2, not 3: the model was not looked for yet."""
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "d.safetensors").mkdir()
    train = ("train", "mlp", "--data", "npz:missing.npz")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.safetensors"))
        for arguments in (
            ("inspect", "missing.onnx", "--json", "s.safetensors"),
            ("bench", "missing.onnx", "--csv", "d.csv"),
            ("bench", "missing.onnx", "--markdown", "s.safetensors"),
            (*train, "-o", "d.safetensors"),
            (*train, "-o", "s.safetensors"),
            (*train, "-o", "d.csv/x.csv/../../s.safetensors"),
            ("prune", "missing.safetensors", "--amount", "0.5", "-o", "d.safetensors"),
        ):
            message = refused(*arguments, code=2)
            assert "is a folder" in message or "is a socket" in message


def test_a_file_in_the_way_is_refused_before_an_export(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "build" / "mlp.onnx").mkdir(parents=True)
    assert "is a folder" in refused("export", "mlp", "--to", "onnx", "--name", "mlp", "-o", "build", code=2)


def test_an_export_that_is_refused_leaves_no_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    refused("export", "missing.safetensors", "--to", "onnx", "-o", "build/deep")
    refused("export", "mlp", "--to", "onnx", "--tolerance", "0", "--data", "npz:missing.npz", "-o", "build/deep")
    assert not (tmp_path / "build").exists()
