"""Building the ARM system: what is refused before anything is downloaded, and what an interrupted build leaves.

The build itself is run by ``scripts/test``, which needs a network; the tests on the emulator run what it made.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from edgekit.errors import DeviceError, RuntimeMissingError, StorageError
from edgekit.pipeline import emulator_root
from edgekit.pipeline.emulator_root import build_root, main


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_EMULATOR_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def test_without_debians_tools(target: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissingError, match="lacking apt-get, dpkg-deb; build it on Debian or Ubuntu"):
        build_root()
    assert main() == 0  # scripts/test goes on, and the tests on the emulator say why they are skipped


def test_without_room(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    monkeypatch.setattr(emulator_root, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(StorageError, match="set EDGEKIT_CACHE to another disk"):
        build_root()
    assert not target.exists()


def test_a_download_that_fails_leaves_no_root_and_is_gone_on_with(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No mirror answers: what is kept for the next try is not the root, which gets its name last."""
    if shutil.which("apt-get") is None or not Path("/usr/share/keyrings/debian-archive-keyring.gpg").is_file():
        pytest.skip("needs Debian's apt and keys")
    caplog.set_level(logging.INFO, "edgekit")
    monkeypatch.setattr(emulator_root, "_mirror", lambda: "file:/no/such/mirror")
    with pytest.raises(DeviceError, match=r"lists of packages could not be read.*what is there is kept"):
        build_root()
    assert not target.exists() and "1/5" in caplog.text


def test_a_root_that_is_there_is_taken(target: Path) -> None:
    target.mkdir()
    (target / "manifest.json").write_text("{}")
    assert build_root() == target
