"""Only regular files are read, which is decided before the first byte; limits are named and can be raised."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgekit import limits
from edgekit.errors import DataError, LimitError, UsageError
from edgekit.inputs import open_regular, read_regular, require_regular


def test_a_regular_file_is_read_also_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "link").symlink_to("a.txt")
    assert read_regular(tmp_path / "a.txt", DataError, "a text") == b"hello"
    assert read_regular(tmp_path / "link", DataError, "a text") == b"hello"
    with open_regular(tmp_path / "a.txt", DataError, "a text") as file:
        assert file.read(2) == b"he"
    assert require_regular(str(tmp_path / "a.txt"), DataError, "a text") == tmp_path / "a.txt"


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        wanted = {"fifo": "a FIFO", ".": "a folder", "socket": "No such device", "missing": "does not exist"}
        for name, said in wanted.items():
            with pytest.raises(DataError, match=said):
                read_regular(tmp_path / name, DataError, "a text")
    with pytest.raises(DataError, match="a device"):
        read_regular("/dev/zero", DataError, "a text")
    with pytest.raises(DataError, match="cannot be read"):
        read_regular("a\0b", DataError, "a text")


def test_a_limit_is_named_with_its_variable_which_raises_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"12345")
    monkeypatch.setenv("EDGEKIT_LIMIT_TEXT_BYTES", "4")
    with pytest.raises(LimitError, match=r"5 bytes, the limit is 4 .*EDGEKIT_LIMIT_TEXT_BYTES"):
        read_regular(tmp_path / "a.txt", DataError, "a text", "TEXT_BYTES")
    monkeypatch.setenv("EDGEKIT_LIMIT_TEXT_BYTES", "5")
    assert read_regular(tmp_path / "a.txt", DataError, "a text", "TEXT_BYTES") == b"12345"
    assert limits.limit("TEXT_BYTES") == 5


@pytest.mark.parametrize("text", ["many", "0", "-3", "inf", "nan", ""])
def test_a_variable_without_a_positive_number_is_wrong_usage(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_LIMIT_TEXT_BYTES", text)
    with pytest.raises(UsageError, match="EDGEKIT_LIMIT_TEXT_BYTES"):
        limits.limit("TEXT_BYTES")
