"""What ``package`` published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgekit.results.base import Result, optional
from edgekit.results.proof import CaseResult


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """One file of the package; ``path``: within its folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, repr=False)
class PackageResult(Result):
    """What ``edgekit package`` published.

    Attributes:
        model, sha256: the file that was packaged.
        target: of ``--for``; ``name``: of the network.
        out: the folder.
        selftest: the card's self-test, run here before anything was published.
        preprocessing: input -> kind of the raw sample that the code of the package takes.
        versions: of what made and proved the file.
        arena_bytes: of ``mcu``: memory for the tensors.
        operators: of ``mcu``: the methods of MicroMutableOpResolver to call.
        notes: what was not honoured, and what to know.
    """

    ROWS: ClassVar[str] = "files"

    model: Path
    sha256: str
    target: str = field(metadata={"key": "for"})
    name: str
    out: Path
    files: tuple[PackagedFile, ...]
    selftest: CaseResult
    preprocessing: Mapping[str, str]
    versions: Mapping[str, str]
    arena_bytes: int | None = optional()
    operators: tuple[str, ...] = optional(())
    notes: tuple[str, ...] = ()
