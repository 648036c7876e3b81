"""``.pt2`` archives as bytes: which members they may have, the card inside them, the program as JSON, without torch.

Source: ``torch/export/pt2_archive`` of torch 2.8 to 2.13. A member that torch would unpickle or run as machine code is
not among those that may be there; example inputs, which are a pickle, are left where they are.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

from edgekit.documents import parse_json
from edgekit.errors import ModelError
from edgekit.inputs import open_regular
from edgekit.limits import check
from edgekit.zipreader import Archive

KEY: Final = "edgekit"
PROGRAM: Final = "models/model.json"
WEIGHTS: Final = "data/weights/model_weights_config.json"
CONSTANTS: Final = "data/constants/model_constants_config.json"
SAMPLES: Final = "data/sample_inputs/model.pt"
WAY_OUT: Final = "write it again with torch.export.save from a program of tensors only"
_CARD = f"extra/{KEY}"
_MEMBERS = re.compile(
    rf"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|extra/[^/]+"
    rf"|{PROGRAM}|{WEIGHTS}|{CONSTANTS}|{SAMPLES}|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_OLD = re.compile(r"version|serialized_\w+\.\w+")
_WHAT = "a .pt2 file"


class Package:
    """An open ``.pt2`` archive, whose members are all known. ``names``: without the folder they lie in.

    Raises:
        ModelError: not such an archive, or it has a member that is not of an exported program.
        LimitError: as :class:`~edgekit.zipreader.Archive`.
    """

    def __init__(self, file: BinaryIO, subject: object) -> None:
        self._archive = Archive(file, subject, ModelError)
        self.subject = subject
        folders = {name.partition("/")[0] for name in self._archive.members}
        if len(folders) > 1 and any(_OLD.fullmatch(name) for name in folders):
            raise ModelError(f"{subject}: in the format of torch 2.7 and older, which is read by unpickling; {WAY_OUT}")
        if len(folders) != 1:
            raise ModelError(f"{subject}: its members lie in {len(folders)} folders, one is wanted; {WAY_OUT}")
        (folder,) = folders
        self._folder = f"{folder}/"
        self.names = tuple(name.removeprefix(self._folder) for name in self._archive.members)
        for name in self.names:
            if not _MEMBERS.fullmatch(name):
                raise ModelError(f"{subject}: holds {name!r}, which an exported program does not need; {WAY_OUT}")
        if PROGRAM not in self.names:
            raise ModelError(f"{subject}: a zip archive without an exported program ({PROGRAM}); {WAY_OUT}")

    def size(self, name: str) -> int:
        return self._archive.members[self._folder + name].size

    def read(self, name: str, limit: str = "DOCUMENT_BYTES") -> bytes:
        """The content of a member that is not larger than ``limit``.

        Raises:
            ModelError: it is not there, or damaged.
            LimitError: it is larger.
        """
        if name in self.names:
            check(limit, self.size(name), f"{self.subject}: {name}")
        return self._archive.read(self._folder + name)

    def chunks(self, name: str) -> Iterator[bytes]:
        return self._archive.chunks(self._folder + name)


@contextmanager
def opened(path: str | Path) -> Iterator[Package]:
    """The archive at ``path``, read once: the file stays the same one until it is closed.

    Raises:
        ModelError, LimitError: as :class:`Package`; not a regular file.
    """
    with open_regular(path, ModelError, _WHAT, "MODEL_BYTES") as file:
        yield Package(file, path)


def metadata(data: bytes) -> dict[str, bytes]:
    """The card inside an archive, under the key of edgekit; empty where it has none.

    Raises:
        ModelError, LimitError: as :class:`Package`.
    """
    package = Package(io.BytesIO(data), "the archive")
    return {KEY: package.read(_CARD, "CARD_BYTES")} if _CARD in package.names else {}


def write_metadata(source: Path, target: Path, payload: bytes) -> None:
    """Writes the archive ``source`` with ``payload`` as its card, in place of the one it has, to ``target``.

    Raises:
        ModelError, LimitError: as :class:`Package`.
    """
    with opened(source) as package, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        copy(package, [name for name in package.names if name != _CARD], new, package._folder)
        new.writestr(zipfile.ZipInfo(f"{package._folder}{_CARD}"), payload)


def copy(package: Package, names: list[str], target: zipfile.ZipFile, folder: str) -> None:
    """Writes the members ``names`` of ``package`` into ``folder`` of another archive, a chunk at a time."""
    for name in names:
        large = package.size(name) >= zipfile.ZIP64_LIMIT
        out: IO[bytes]
        with target.open(zipfile.ZipInfo(folder + name), "w", force_zip64=large) as out:
            for chunk in package.chunks(name):
                out.write(chunk)


def program(path: str | Path) -> dict[str, Any]:
    """The exported program in ``path`` as JSON; nothing is unpickled.

    Raises:
        ModelError, LimitError: as :class:`Package`; the program is not a JSON object.
    """
    with opened(path) as package:
        found = parse_json(package.read(PROGRAM), ModelError, f"{path}: {PROGRAM}")
    if not isinstance(found, dict):
        raise ModelError(f"{path}: {PROGRAM} is a {type(found).__name__}, an object was expected; {WAY_OUT}")
    return found
