"""Opening a ``.pt2`` archive without unpickling or running anything that it brings.

The archive is read once, by :mod:`edgekit.pt2_reader`. What torch gets is another one, which edgekit writes from the
members it has vetted: the program field by field (:mod:`edgekit.runtime.pt2_program`), weights and constants as bare
numbers. Example inputs are a pickle and stay behind.
"""

from __future__ import annotations

import logging
import math
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from edgekit.errors import EdgekitError, ModelError
from edgekit.limits import check
from edgekit.pt2_reader import CONSTANTS, PROGRAM, SAMPLES, WAY_OUT, WEIGHTS, Package, copy, opened
from edgekit.runtime.pt2_program import vetted_payloads, vetted_program

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_FOLDER: Final = "model/"
_ORDER, _VERSION = "byteorder", "archive_version"
_FIXED: Final = {"archive_format": b"pt2", _ORDER: b"little", ".data/version": b"6\n"}
_WIDEST = 16
"""Bytes of the largest element of a tensor."""


def load_program(path: str | Path) -> ExportedProgram:
    """The exported program in ``path``, without example inputs.

    Raises:
        ModelError: missing, damaged, from another version, or with parts that could run code.
        LimitError: beyond one of the limits on model files.
    """
    import torch

    logger = logging.getLogger("torch.export")
    level = logger.level
    with tempfile.TemporaryFile(suffix=".pt2") as file:
        with opened(path) as package:
            _rewrite(package, file)
        logger.setLevel(logging.CRITICAL)  # what it logs, it also raises
        try:
            return torch.export.load(file)
        except EdgekitError:
            raise
        except Exception as error:  # whatever the loader of a damaged archive stumbles over
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"{path}: torch {torch.__version__} does not accept it: {reason}; {WAY_OUT}") from error
        finally:
            logger.setLevel(level)


def _rewrite(package: Package, file: IO[bytes]) -> None:
    """Writes the archive that torch is to open, from vetted members of ``package`` alone."""
    if _ORDER in package.names and package.read(_ORDER) != _FIXED[_ORDER]:
        raise ModelError(f"{package.subject}: its numbers are not little-endian; write it again on such a machine")
    version = package.read(_VERSION)
    if len(version) > 4 or not version.isdigit():
        raise ModelError(f"{package.subject}: its {_VERSION} is not a number; {WAY_OUT}")
    documents = {**_FIXED, _VERSION: version, SAMPLES: b""}
    documents[PROGRAM] = vetted_program(package.read(PROGRAM), f"{package.subject}: {PROGRAM}")
    payloads: dict[str, None] = {}
    for name in (WEIGHTS, CONSTANTS):
        documents[name], entries = vetted_payloads(package.read(name), f"{package.subject}: {name}")
        folder = name.rpartition("/")[0]
        payloads |= dict.fromkeys(f"{folder}/{entry['path_name']}" for entry in entries.values())
        _check_tensors(entries, package, folder)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in documents.items():
            archive.writestr(zipfile.ZipInfo(_FOLDER + name), content)
        copy(package, list(payloads), archive, _FOLDER)
    file.seek(0)


def _check_tensors(entries: Mapping[str, Any], package: Package, folder: str) -> None:
    """A tensor may be larger than its bytes (a view that repeats them, or zeros), but not without a limit."""
    for name, entry in entries.items():
        subject, member = f"{package.subject}: {name}", f"{folder}/{entry['path_name']}"
        if member not in package.names:
            raise ModelError(f"{subject} has its values in {member!r}, which is not there; {WAY_OUT}")
        sizes = [size.get("as_int", -1) for size in entry["tensor_meta"]["sizes"]]
        if min(sizes, default=0) < 0:
            raise ModelError(f"{subject} has sizes that are not numbers from 0; {WAY_OUT}")
        if _WIDEST * math.prod(sizes) > package.size(member):
            check("ARRAY_BYTES", math.prod(sizes), subject)
