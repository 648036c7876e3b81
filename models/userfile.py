"""A user's Python file as a module: under a name of its own, with its folder to import from while it runs.

Training in several processes brings what the user wrote along by these names, so each process imports the same files.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

PREFIX = "edgekit_source_"


def import_file(path: Path) -> ModuleType:
    """Runs the Python file ``path`` as a module named after it, whether or not it was imported before.

    The name is the same each time, since converted files name layers by it. A second run is another module: what it
    makes shares nothing with what the first made, and the classes of the first can no longer be pickled.

    Raises:
        ImportError: it cannot be read as a Python file. What the file itself raises passes through.
    """
    known = PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(known, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be read as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    sys.path.insert(0, str(path.parent))  # so that it can import its neighbours, as it could when run as a program
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def imported_files() -> dict[str, str]:
    """Name -> path of every file that :func:`import_file` has imported in this process, in their order."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith(PREFIX)}
    return {name: str(module.__file__) for name, module in modules.items()}


def import_files(files: Mapping[str, str]) -> None:
    """Imports what another process had imported (:func:`imported_files`), under the same names."""
    for name, path in files.items():
        if name not in sys.modules:
            import_file(Path(path))
