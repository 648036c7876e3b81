"""Packages that ship trained weights: fetched and unpacked into a cache folder; nothing of them is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

MAX_BYTES = 1 << 30
"""Unpacked; the largest of them has 132 MB."""


def unpacked(requirement: str, cache: Path) -> Path:
    """The folder that a package was unpacked into; fetched by pip where it is not there.

    Args:
        requirement: name and version, ``magika==1.0.3``.
        cache: folder for what is fetched.

    Raises:
        RuntimeError: pip cannot fetch it, or what it fetched is not an archive of its own.
    """
    folder = cache / re.sub(r"[^\w.-]+", "-", requirement)
    if folder.is_dir():
        return folder
    fetched = cache / "downloads" / folder.name
    shutil.rmtree(fetched, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(fetched), requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip cannot fetch {requirement}: {done.stderr.strip()[-500:]}")
    (archive,) = fetched.iterdir()
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _unpack(archive, partial)
    partial.rename(folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Regular files and folders below ``folder`` only, of a bounded size."""
    folder.mkdir(parents=True)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            sizes = [member.file_size for member in packed.infolist()]
            _check_size(archive, sum(sizes))
            packed.extractall(folder)  # leaves out drive letters, leading slashes and ".."
        return
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        _check_size(archive, sum(member.size for member in members))
        tar.extractall(folder, filter="data")


def _check_size(archive: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise RuntimeError(f"{archive} holds {size:,} bytes, at most {MAX_BYTES:,} are unpacked")
