from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.bench.memory import process_memory
from edgekit.extras.pagecache import drop, resident_share


def test_pages_leave_the_cache_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    found = drop(path)
    if found["after"] is None or found["after"] == found["before"]:
        pytest.skip("this file system keeps its pages, as one in memory does")
    assert found["before"] == 1  # just written
    assert found["after"] == 0
    path.read_bytes()
    assert resident_share(path) == 1


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert drop(tmp_path / "empty") == {"before": 0.0, "after": 0.0}


def test_memory_of_this_process(tmp_path: Path) -> None:
    found = process_memory()
    assert found["peak_bytes"] >= found["resident_bytes"] > 1 << 20
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    2048 kB\nVmData:\t 10 kB\n")
    assert process_memory(str(tmp_path / "status")) == {"peak_bytes": 2 << 20, "data_bytes": 10 << 10}
    assert process_memory(str(tmp_path / "none")) == {}
