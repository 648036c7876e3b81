"""Opening a ``.pt2`` archive without unpickling anything that can run code.

``torch.export.load`` falls back to a full unpickling for example inputs that its safe loader refuses, for weights and
constants stored as pickles, for opaque and TorchScript objects, and runs machine code of AOT-compiled members. An
archive with any of these is refused here before torch sees it. Symbolic sizes are read by ``sympy.sympify``, which
evaluates Python: they may hold numbers, symbols and the arithmetic torch writes, and nothing else.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_CODE = ("custom_obj_", "opaque_obj_")
_FUNCTIONS = frozenset({
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Mod", "Max", "Min", "Abs", "floor", "ceiling",
    "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan",
    "GreaterThan", "And", "Or", "Not", "Piecewise", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv",
    "CeilToInt", "FloorToInt", "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "LShift", "RShift", "TruncToFloat",
    "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "FloatPow", "PowByNatural", "Identity",
})  # fmt: skip
"""What torch writes into the text of a size: sympy's arithmetic, and that of torch.utils._sympy.functions."""
_ARITHMETIC = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop, ast.Load)
_NAME = re.compile(r"[A-Za-z]\w*")
_WAY_OUT = "write it again with torch.export.save from a program of tensors only"


def load_program(path: str | Path) -> ExportedProgram:
    """The exported program in ``path``.

    Raises:
        ModelError: missing, damaged, from another version, or with parts that only unpickling (running code) can read.
    """
    import logging

    import torch

    refuse_code(path)
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it logs, it also raises
    try:
        return torch.export.load(path)
    except Exception as error:  # whatever the loader of a damaged archive stumbles over
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{path}: torch {torch.__version__} does not accept it: {told}; {_WAY_OUT}") from error
    finally:
        logger.setLevel(level)


def refuse_code(path: str | Path) -> None:
    """Raises ModelError for an archive that holds anything torch would unpickle freely or run."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if len(set(members)) != len(members):
                raise ModelError(f"{path}: two members of the archive have the same name; {_WAY_OUT}")
            for member in members:
                _refuse_member(path, member)
                if member.endswith("_config.json"):
                    _refuse_pickled_tensors(path, member, archive.read(member))
            for member in members:
                if "/sample_inputs/" in member and member.endswith(".pt"):
                    torch.load(io.BytesIO(archive.read(member)), weights_only=True)
                if "/models/" in member:
                    _refuse_expressions(path, json.loads(archive.read(member)))
            if not any("/models/" in member for member in members):
                raise ModelError(f"{path}: a zip archive, but no exported program (no models/ inside); {_WAY_OUT}")
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist; give the path of a .pt2 file") from error
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a whole .pt2 archive ({error}); {_WAY_OUT}") from error
    except ModelError:
        raise
    except Exception as error:  # the safe loader's refusals have several classes
        raise ModelError(
            f"{path}: its example inputs are no plain tensors, which edgekit does not open; {_WAY_OUT}"
        ) from error


def _refuse_member(path: str | Path, member: str) -> None:
    parts = member.split("/")
    legacy = len(parts) > 2 and parts[-2] in ("weights", "constants") and member.endswith(".pt")
    if legacy or "aotinductor" in parts or member.endswith((".so", ".pyd", ".dll")) or parts[-1].startswith(_CODE):
        raise ModelError(f"{path}: holds {member!r}, which can run code when it is opened; {_WAY_OUT}")
    if parts[-1].startswith("serialized_"):
        raise ModelError(f"{path}: in the format of torch 2.7 and older, which is read by unpickling; {_WAY_OUT}")


def _refuse_pickled_tensors(path: str | Path, member: str, text: bytes) -> None:
    for name, entry in json.loads(text).get("config", {}).items():
        place = str(entry.get("path_name", ""))
        if entry.get("use_pickle") or place.startswith(_CODE):
            raise ModelError(f"{path}: {name!r} in {member!r} is a pickle, which can run code when opened; {_WAY_OUT}")


def _refuse_expressions(path: str | Path, value: Any) -> None:
    """Walks a program's JSON and refuses a symbolic size that is more than arithmetic."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            text = item.get("expr_str")
            if isinstance(text, str) and not _is_arithmetic(text):
                raise ModelError(f"{path}: the size {text[:60]!r} is no arithmetic, it could run code; {_WAY_OUT}")
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _is_arithmetic(text: str) -> bool:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_part_of_arithmetic(node) for node in ast.walk(tree))


def _is_part_of_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Constant):  # text is the name of a symbol, never code to be evaluated
        named = isinstance(node.value, str) and _NAME.fullmatch(node.value) is not None
        return named or isinstance(node.value, int | float)
    if isinstance(node, ast.Name | ast.keyword):
        name = node.id if isinstance(node, ast.Name) else node.arg
        return name is not None and _NAME.fullmatch(name) is not None and "__" not in name
    return isinstance(node, _ARITHMETIC)
