"""The worker program as one file, for interpreters that know no edgekit: the device floor as a zip that runs."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import marshal
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from edgekit.leftovers import process_folder

FLOOR = ("graph", "results", "runtime", "data", "bench", "devices", "extras")
"""Rooms that a worker without edgekit is given, beside the ground: the modules that lie in the package itself."""
HOST = (
    "adapter.py",
    "recipe.py",
    *(f"graph/{name}.py" for name in ("onnx", "onnx_editor", "onnx_sizes", "tflite", "tflite_editor")),
)
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


_NEVER_CHECKED = (0b01).to_bytes(4, "little") + bytes(8)
"""Flags and hash of compiled code that is taken as it is: its source lies beside it, in the same archive (PEP 552)."""
_WITHOUT_REFERENCES = 2
"""Format of :mod:`marshal` whose bytes do not depend on what else this process holds."""


@functools.cache
def floor_archive(main: str = worker_main(), more: tuple[tuple[str, Path], ...] = ()) -> Path:
    """A zip of the device floor that an interpreter can run; made once a process.

    Every module is in it as source and compiled, which halves the time until a worker on a Python of this version
    answers; a Python of another version passes over what is compiled.

    Args:
        main: text of its ``__main__.py``.
        more: further members, name and file.
    """
    told = "\n".join([main, *(name for name, _ in more)])
    archive = process_folder() / f"worker-{hashlib.sha256(told.encode()).hexdigest()[:8]}.pyz"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(zipfile.ZipInfo("__main__.py", _STAMP), main)
        for name, content in {**_members(), **{name: file.read_bytes() for name, file in more}}.items():
            member = zipfile.ZipInfo(name, _STAMP)
            member.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(member, content)
    return archive


@functools.cache
def _members() -> dict[str, bytes]:
    """Name in the archive -> content, of every module of the device floor and the ground."""
    root = Path(__file__).resolve().parent.parent
    files = {*root.glob("*.py"), *(file for name in FLOOR for file in (root / name).rglob("*.py"))}
    found = {}
    for file in sorted(files - {root / name for name in HOST}):
        name = f"edgekit/{file.relative_to(root).as_posix()}"
        code = SourceFileLoader(name, str(file)).get_code(name)
        assert code is not None  # a file of source always has code
        found[name] = file.read_bytes()
        found[f"{name}c"] = (
            importlib.util.MAGIC_NUMBER + _NEVER_CHECKED + marshal.dumps(_in_file(code, name), _WITHOUT_REFERENCES)
        )
    return found


def _in_file(code: CodeType, name: str) -> CodeType:
    """The same code, which calls the file it is from ``name``: no path of this machine travels."""
    held = tuple(_in_file(one, name) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=name, co_consts=held)
