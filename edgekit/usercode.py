"""Code of the user's own: a network, data or a metric that is named as ``file.py:name`` or ``package.module:name``.

A file becomes a module under a name of its own, with its folder to import from while it runs. Training in several
processes brings what the user wrote along by these names, so each process imports the same files. Whatever the code
raises becomes an error of edgekit's with the file and line that raised it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.errors import EdgekitError, InputError, SourceError
from edgekit.inputs import require_regular

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


def is_code(text: str) -> bool:
    """Whether ``text`` is spelled ``file.py:name``."""
    place, colon, name = text.rpartition(":")
    return bool(colon) and place.endswith(".py") and name.isidentifier()


def named(spelled: str, error: type[InputError] = SourceError) -> Any:
    """What ``file.py:name`` or ``package.module:name`` is.

    Raises:
        InputError: of the class ``error``: there is no such file, module or name, or importing it raises.
    """
    place, _, attribute = spelled.rpartition(":")
    module = import_place(place, error)
    found = getattr(module, attribute, None)
    if found is None:
        there = [key for key, value in vars(module).items() if callable(value) and value.__module__ == module.__name__]
        near = get_close_matches(attribute, there, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise error(f"{place} has no {attribute!r}; {hint}it has: {', '.join(there) or 'no function or class'}")
    return found


def import_place(place: str, error: type[InputError] = SourceError) -> ModuleType:
    """The module of ``file.py`` or ``package.module``.

    Raises:
        InputError: of the class ``error``: it does not exist, or importing it raises; with file and line.
    """
    if place.endswith(".py"):
        path = require_regular(place, error, "a Python file, as file.py:name").resolve()
        with explained(f"importing {place}", error):
            return import_file(path)
    with explained(f"importing {place}", error):
        try:
            if importlib.util.find_spec(place) is None:
                raise ModuleNotFoundError(f"No module named {place!r}", name=place)
            return importlib.import_module(place)
        except ModuleNotFoundError as cause:
            if cause.name and (place == cause.name or place.startswith(f"{cause.name}.")):
                raise error(
                    f"no module is called {place!r} (looked in sys.path); for a file write "
                    f"{place.replace('.', '/')}.py:factory"
                ) from cause
            raise


@contextmanager
def explained(doing: str, error: type[InputError] = SourceError) -> Iterator[None]:
    """Whatever the user's code raises inside becomes an ``error`` with the file and line that raised it."""
    try:
        yield
    except (KeyboardInterrupt, EdgekitError):
        raise
    except BaseException as cause:
        raise error(_explanation(cause, doing)) from cause


def _explanation(error: BaseException, doing: str) -> str:
    if isinstance(error, SyntaxError):
        return f"{doing}: {error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    own = [f for f in frames if "site-packages" not in f.filename and "/lib/python" not in f.filename]
    last = own[-1] if own else frames[-1] if frames else None
    where = "" if last is None else f" at {last.filename}:{last.lineno} in {last.name}"  # "": the call itself is wrong
    said = str(error) or "no message"
    return f"{doing} failed{where}: {type(error).__name__}: {said}; correct it there and try again"


def a_value(value: object) -> str:
    """What ``value`` is, for messages: ``an int``, ``a str``, ``None``."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeio' or name == 'ndarray' else 'a'} {name}"


def _is_ours(filename: str) -> bool:
    return filename.startswith((f"{Path(__file__).parent}{os.sep}", "<frozen"))
