"""A checkpoint or a model file of a stranger on the command line: the user's own code runs where the user names it."""

from __future__ import annotations

import io
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.models.checkpoint import save_checkpoint
from edgekit.source import resolve

Refused = Callable[..., str]

CODE = """
import pathlib
import torch

pathlib.Path("ran").touch()

def make():
    torch.manual_seed(0)
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    return torch.nn.Sequential(*layers), torch.zeros(1, 1, 8, 8)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``net.py``, a checkpoint and a model file of its network, after which the code has not run."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(CODE)
    Path("student.py").write_text(CODE.replace('pathlib.Path("ran").touch()', ""))
    network = resolve("net.py:make")
    save_checkpoint(network, Path("mine.safetensors"))
    from edgekit.pipeline.export import export

    export("net.py:make", to=["onnx"], out=".", name="mine")
    Path("ran").unlink()
    return tmp_path


COMMANDS = {
    "export": "export mine.safetensors --to pt2 -o out",
    "prune": "prune mine.safetensors --amount 0.3 -o out.safetensors",
    "finetune": "finetune mine.safetensors --data digits --epochs 1 -o out.safetensors",
    "verify": "verify mine.onnx --against mine.safetensors",
    "distil": "finetune student.py:make --distil-from mine.safetensors --data digits --epochs 1 -o out.safetensors",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_checkpoint_runs_no_code_and_the_message_gives_the_whole_command(
    name: str, own: Path, refused: Refused, edgekit_cli: Callable[..., Any], edgekit_here: Callable[..., Any]
) -> None:
    """One of the whole commands is run as a user runs it, in a process of its own."""
    verb, *rest = COMMANDS[name].split()
    message = refused(verb, *rest)
    assert "mine.safetensors was made from 'net.py:make'" in message
    assert not Path("ran").exists()
    option = "--teacher-factory" if name == "distil" else "--factory"
    words = shlex.split(message.partition("The whole command: ")[2])
    assert words == ["edgekit", verb, option, "net.py:make", *rest]
    ended = (edgekit_cli if name == "export" else edgekit_here)(*words[1:])
    opened = name == "distil" and "input specs must be the same" in ended.err  # untrained, it cannot teach
    assert ended.code == 0 or opened, ended.err
    assert Path("ran").exists()


@pytest.mark.parametrize(
    "command",
    [
        "export mlp --factory net.py:make --to onnx -o out",
        "verify mine.onnx --against mine.onnx --factory net.py:make",
        "finetune mlp --teacher-factory net.py:make --data digits -o out.safetensors",
        "quantize mine.onnx --factory net.py:make --scheme fp16 -o out.onnx",
        "quantize mine.onnx --factory net.py:make --scheme auto --data digits --max-drop 0.1 -o out.onnx",
    ],
)
def test_a_factory_that_is_of_no_use_is_refused(command: str, own: Path, refused: Refused) -> None:
    assert "factory" in refused(*command.split(), code=2)
    assert not Path("ran").exists()


# ---------------------------------------------------------------- a .pt2 archive that readers understand differently


class Trap:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("ran").absolute(),)


@pytest.fixture
def evil(own: Path) -> Path:
    """``evil.pt2``: harmless example inputs where Python looks, and a trap where torch does."""
    program = torch.export.export(torch.nn.Linear(64, 10), (torch.zeros(1, 64),))
    torch.export.save(program, "good.pt2")
    with zipfile.ZipFile("good.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    trap = io.BytesIO()
    torch.save(Trap(), trap)
    sample = "good/data/sample_inputs/model.pt"
    pad = len(trap.getvalue()) - len(members[sample])

    def packed(changes: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as out:
            for name, data in {**members, **changes}.items():
                out.writestr(name, data)
        return buffer.getvalue()

    harmless = packed({"good/extra/pad": bytes(5000 + pad)})
    harmful = packed({"good/extra/pad": bytes(5000), sample: trap.getvalue()})
    count, size, place = struct.unpack("<H2I", harmful[-12:-2])
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, place, 0)
    path = own / "evil.pt2"
    path.write_bytes(harmful[:-22] + harmless[:-22] + end)
    assert torch._C.PyTorchFileReader(str(path)).get_record("data/sample_inputs/model.pt") == trap.getvalue()
    return path


@pytest.mark.parametrize(
    "command",
    [
        "bench evil.pt2 --seconds 0.1",
        "run evil.pt2 x.npy",
        "eval evil.pt2 --data digits",
        "verify evil.pt2 --against mine.onnx",
        "verify mine.onnx --against evil.pt2",
        "export evil.pt2 --to onnx -o out",
        "prune evil.pt2 --amount 0.5 -o out.safetensors",
        "finetune evil.pt2 --data digits -o out.safetensors",
        "inspect evil.pt2",
    ],
)
def test_an_archive_with_two_directories_is_refused_by_every_command(
    command: str, evil: Path, refused: Refused
) -> None:
    np.save("x.npy", np.zeros((1, 64), np.float32))
    assert "not an archive that is safe to open" in refused(*command.split())
    assert not Path("ran").exists()
