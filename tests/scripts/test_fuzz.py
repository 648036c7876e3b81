"""scripts/fuzz: a short run over readers that need no model, and readers that do harm, which it has to see."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

READERS = "npz,npy,wav,image,series,table,text,audio,recipe,devices,frames,tool,state"
PLANTED = """
import os, subprocess, time
from pathlib import Path
from edgekit.errors import DataError
def raises(path): raise KeyError("no such thing")
def sleeps(path): time.sleep(60)
sleeps.seconds = 0.5
def spins(path):
    while True: pass
spins.seconds = 0.5
def takes(path): bytearray(os.urandom(1 << 20) * 1200)
def writes(path): Path("/tmp/fuzz-planted").write_text("x")
def leaves(path):
    Path(os.environ["TMPDIR"], "left").write_text("x")
    raise DataError("refused")
def starts(path): subprocess.run(["true"])
def aborts(path): os.abort()
def leads(path): raise SystemExit(0)
def refuses(path): raise DataError("refused")
def reads(path): path.name
"""
SEEN = {
    "raises": "KeyError at", "sleeps": "over 0.5 s", "spins": "over 0.5 s", "takes": "over 1 GB",
    "leaves": "leaves temporary/left", "writes": "writes outside: /tmp/fuzz-planted",
    "starts": "starts a program: subprocess.Popen", "aborts": "crash: SIGABRT", "leads": "SystemExit at",
}  # fmt: skip
"""Planted reader -> what has to be said of it."""


def _fuzz(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "fuzz.py"), *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=500
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("corpus"))


def test_sixty_inputs_do_no_harm(root: Path, corpus: str) -> None:
    done = _fuzz(root, "--inputs", "60", "--readers", READERS, "--corpus", corpus, "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 inputs, seed 1" in done.stdout and "0 faults" in done.stdout
    rows = dict(re.findall(r"^(\w+) +(\d+) ", done.stdout, re.MULTILINE))
    assert rows.keys() == set(READERS.split(",")) and sum(map(int, rows.values())) == 60


def test_harm_is_seen(root: Path, corpus: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED, encoding="utf-8")
    names = [*SEEN, "refuses", "reads"]
    planted = [word for name in names for word in ("--plant", f"planted:{name}")]
    done = _fuzz(
        root, "--inputs", str(len(names)), "--readers", ",".join(names), *planted, "--corpus", corpus,
        "--keep", str(tmp_path / "kept"), PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    Path("/tmp/fuzz-planted").unlink(missing_ok=True)
    assert done.returncode == 1, done.stdout + done.stderr
    for name, said in SEEN.items():
        assert re.search(rf"^FAULT {name}:0 .*{re.escape(said)}", done.stdout, re.MULTILINE), (name, done.stdout)
        assert f"--only '{name}:0'" in done.stdout and (tmp_path / "kept" / f"{name}-0-0" / "table.csv").is_file()
    assert not re.search(r"^FAULT (refuses|reads)", done.stdout, re.MULTILINE)
    assert f"{len(SEEN)} faults" in done.stdout


@pytest.fixture(scope="module")
def modules(root: Path) -> dict[str, ModuleType]:
    names = ("fuzz_inputs", "fuzz_readers", "fuzz_formats", "fuzz_archives", "fuzz_pool", "fuzz_corpus")
    sys.path.insert(0, str(root / "scripts"))
    try:
        return {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(root / "scripts"))


def test_a_seed_makes_the_same_inputs(modules: dict[str, ModuleType], corpus: str, root: Path) -> None:
    assert _fuzz(root, "--inputs", "1", "--readers", "npz", "--corpus", corpus).returncode == 0
    reader, make = modules["fuzz_readers"].READERS["npz"], modules["fuzz_inputs"].make
    seeds = modules["fuzz_inputs"].seeds_of(Path(corpus), "npz", reader)
    several = [[make("npz", reader, seeds, seed, index) for index in range(40)] for seed in (0, 0, 1)]
    assert several[0] == several[1] != several[2]
    assert len({str(one.files) + one.special for one in several[0]}) > 30


def test_every_reader_has_seeds_and_its_turn(modules: dict[str, ModuleType]) -> None:
    readers = modules["fuzz_readers"].READERS
    assert {reader.seeds or name for name, reader in readers.items()} == modules["fuzz_corpus"].GROUPS.keys()
    turns = [job.reader for job in modules["fuzz_pool"].deck(readers, 300)]
    assert set(turns) == set(readers) and list(dict.fromkeys(turns[: len(readers)])) == list(readers)


def test_an_archive_with_two_directories_has_two_faces(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    """Python's zipfile sees the one before the end record, who goes by the stated offset the other."""
    import zipfile

    archives = modules["fuzz_archives"]
    first, second = [archives.Member(b"a", b"stated")], [archives.Member(b"a", b"nearest")]
    data = archives.two_directories(first, second)
    (tmp_path / "a.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.read("a") == b"nearest"
    start = int.from_bytes(data[-6:-2], "little")
    place = int.from_bytes(data[start + 42 : start + 46], "little")
    assert data[start : start + 4] == b"PK\1\2" and data[place + 31 :].startswith(b"stated")


def test_a_bomb_unpacks_to_what_it_says(modules: dict[str, ModuleType]) -> None:
    import zlib

    archives = modules["fuzz_archives"]
    packed = archives.bomb(b"x", zeros_before=b"head").packed
    stream, total = zlib.decompressobj(-15), 0
    for start in range(0, len(packed), 1 << 16):
        total += len(stream.decompress(packed[start : start + (1 << 16)]))
    assert total == archives.BOMB_BYTES + 4 and stream.eof and len(packed) < 3 << 20
