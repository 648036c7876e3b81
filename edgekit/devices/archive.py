"""The worker program as one file, for interpreters that know no edgekit: the device floor as a zip that runs."""

from __future__ import annotations

import functools
import hashlib
import zipfile
from pathlib import Path

from edgekit.leftovers import process_folder

FLOOR = ("graph", "results", "runtime", "data", "bench", "devices")
"""Rooms that a worker without edgekit is given, beside the ground: the modules that lie in the package itself."""
HOST = ("adapter.py", *(f"graph/{name}.py" for name in ("onnx", "onnx_editor", "tflite", "tflite_editor")))
"""Modules of the ground that belong to the host floor."""
OLDEST_PYTHON = (3, 11)


def worker_main(oldest: tuple[int, int] = OLDEST_PYTHON) -> str:
    """``__main__.py`` of the worker: refuses a Python before ``oldest`` in words that one can still read."""
    return (
        "import sys\n"
        f"if sys.version_info < {oldest}:\n"
        f'    sys.exit("edgekit\'s worker needs Python {oldest[0]}.{oldest[1]}, this is " + sys.version.split()[0])\n'
        "from edgekit.devices.worker import main\n"
        "sys.exit(main())\n"
    )


_STAMP = (1980, 1, 1, 0, 0, 0)
"""Time of every member: the same sources give the same bytes, so that a device is sent them once."""


@functools.cache
def floor_archive(main: str = worker_main()) -> Path:
    """A zip of the device floor that an interpreter can run; made once a process.

    Args:
        main: text of its ``__main__.py``.
    """
    root = Path(__file__).resolve().parent.parent
    archive = process_folder() / f"worker-{hashlib.sha256(main.encode()).hexdigest()[:8]}.pyz"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(zipfile.ZipInfo("__main__.py", _STAMP), main)
        files = {*root.glob("*.py"), *(file for name in FLOOR for file in (root / name).rglob("*.py"))}
        for file in sorted(files - {root / name for name in HOST}):
            member = zipfile.ZipInfo(f"edgekit/{file.relative_to(root).as_posix()}", _STAMP)
            member.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(member, file.read_bytes())
    return archive
