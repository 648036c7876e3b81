"""Where the logs of runs lie that nobody named a place for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.pipeline.checkpoint_log import state_folder


def test_the_state_folder_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_folder() == tmp_path / "state" / "edgekit"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local" / "state" / "edgekit"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the XDG specification: relative paths are to be ignored
    assert state_folder() == tmp_path / ".local" / "state" / "edgekit"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert state_folder().name == f"edgekit-{os.getuid()}"
