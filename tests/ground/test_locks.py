"""What several processes share, each started for real and all at once: nothing is lost, nobody fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.locks import hold, locked

COUNT = """
from pathlib import Path
from edgekit.locks import locked
for _ in range(40):
    with locked(Path("lock")):
        Path("count").write_text(str(int(Path("count").read_text()) + 1))
"""
REPLACE = """
from pathlib import Path
import os
from edgekit.locks import hold
for _ in range(40):
    handle = hold(Path("folder/lock"), wait=True)
    Path("count").write_text(str(int(Path("count").read_text()) + 1))
    Path("folder/lock").unlink()  # while it is held: nobody may take the old file for the lock
    os.close(handle)
"""
DEVICE = "import sys; from edgekit.devices.inventory import save; save(sys.argv[1], 'python:/x')"
FORGET = "import sys; from edgekit.devices.inventory import forget; forget(sys.argv[1])"
STORE = """
import hashlib, os, sys
from pathlib import Path
from edgekit.devices.store import Store
for number in range(30):
    store = Store(Path("store"), 450)  # four of the files: most are removed again by the others
    data = bytes([number % 7]) * 100
    digest = hashlib.sha256(data).hexdigest()
    place = store.find(digest, ".onnx", 100) or store.put(digest, ".onnx", 100, 0, memoryview(data), True)
    assert place.read_bytes() == data  # in use: nobody removes it
    assert store.together([(digest, ".onnx", "m.onnx")]).read_bytes() == data
    store.document()
    for held in store._used:
        held.close()
"""
LEASE = """
import sys
from pathlib import Path
from edgekit.devices.lease import Lease
lease = Lease(Path("lease"))
taken = lease.take(sys.argv[1], 60) is None
print(taken, flush=True)
sys.stdin.readline()
print(lease.mine(), flush=True)
sys.stdin.readline()
"""


def _at_once(program: str, count: int, folder: Path) -> list[subprocess.Popen[str]]:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, f"name{number}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def _all_well(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err


@pytest.mark.parametrize("program", [COUNT, REPLACE])
def test_one_at_a_time(program: str, tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    _all_well(_at_once(program, 4, tmp_path))
    assert (tmp_path / "count").read_text() == "160"


def test_six_devices_are_saved_at_once_and_forgotten(tmp_path: Path) -> None:
    _all_well(_at_once(DEVICE, 6, tmp_path))
    text = (tmp_path / "edgekit" / "devices.toml").read_text()
    assert sorted(line for line in text.splitlines() if line.startswith("[")) == [f"[name{n}]" for n in range(6)]
    _all_well(_at_once(FORGET, 6, tmp_path))
    assert "name" not in (tmp_path / "edgekit" / "devices.toml").read_text().partition("\n")[2]


def test_four_workers_use_one_store_that_is_too_small_for_them(tmp_path: Path) -> None:
    _all_well(_at_once(STORE, 4, tmp_path))


def test_one_of_four_takes_over_a_lease_whose_time_is_over(tmp_path: Path) -> None:
    from edgekit.devices.lease import Lease

    late = Lease(tmp_path / "lease")
    assert late.take("late", -1) is None
    processes = _at_once(LEASE, 4, tmp_path)
    taken = [process.stdout.readline() for process in processes if process.stdout]
    assert sorted(taken) == ["False\n"] * 3 + ["True\n"]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.stdout.readline() for process in processes if process.stdout] == taken, "nobody took it from them"
    for process in processes:
        process.communicate("\n")
    assert not late.mine()


def test_what_is_not_a_file_is_not_a_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    for name in ("fifo", "link"):
        with pytest.raises(UsageError, match=name), locked(tmp_path / name):
            pass
    first = hold(tmp_path / "lock")
    assert first is not None and hold(tmp_path / "lock") is None
    os.close(first)
