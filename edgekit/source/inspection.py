"""A user's code, looked at without running it: which file it is, and which names it has."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from edgekit.artifact import sha256_file
from edgekit.errors import InputError, SourceError
from edgekit.inputs import read_regular

_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def check_factory(text: str) -> str:
    """SHA-256 of the file of ``file.py:factory`` or ``package.module:factory``, which is read, not imported.

    Raises:
        SourceError: no such file or module, not Python, or nothing of that name is defined in it.
    """
    place, _, wanted = text.rpartition(":")
    file = Path(place) if place.endswith(".py") else _file_of(place)
    if file is None or not file.exists():
        what = f"{place} does not exist" if place.endswith(".py") else f"no module is called {place!r}"
        raise SourceError(f"{what}; give the path of a Python file, as file.py:factory, or package.module:factory")
    try:
        tree = ast.parse(read_regular(file, SourceError, "a Python file", "DOCUMENT_BYTES"), str(file))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"{file}:{line}" if line else str(file)
        raise SourceError(f"{where}: {type(error).__name__}: {getattr(error, 'msg', error)}") from error
    names = dict.fromkeys(_bound(tree.body))
    if wanted not in names and "*" not in names:
        near = get_close_matches(wanted, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        there = ", ".join(name for name in names if not name.startswith("_"))
        raise SourceError(f"{place} has no {wanted!r}; {hint}it has: {there or 'no function or class'}")
    return sha256_file(file)


def callables(path: Path) -> list[str]:
    """Public functions and classes at the top of a Python file; none where it cannot be read."""
    try:
        tree = ast.parse(read_regular(path, SourceError, "a Python file", "DOCUMENT_BYTES"))
    except (InputError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, _NAMED) and not node.name.startswith("_")]


def _file_of(module: str) -> Path | None:
    """The file of ``package.module``. Unlike importlib.util.find_spec this does not import the packages around it."""
    parts, path = module.split("."), None
    for k in range(len(parts)):
        name = ".".join(parts[: k + 1])
        known = sys.modules.get(name)
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = known.__spec__ if known is not None else next((found for found in specs if found is not None), None)
        if spec is None:
            return None
        path = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        if path is None and k + 1 < len(parts):
            return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that the statements bind; ``*`` where they may bind any."""
    for node in body:
        if isinstance(node, _NAMED):
            yield "*" if node.name == "__getattr__" else node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id
                elif isinstance(part, ast.Name) and part.id in ("globals", "vars", "exec", "setattr"):
                    yield "*"
                elif isinstance(part, _NAMED):
                    yield part.name
                elif isinstance(part, ast.Import | ast.ImportFrom):
                    yield from (alias.asname or alias.name.partition(".")[0] for alias in part.names)
