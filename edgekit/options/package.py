"""Options of ``edgekit package``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgekit.options.base import Options, option


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageOptions(Options):
    """The options of ``package``."""

    model: str | Path = field(
        kw_only=False, metadata=option("A .onnx or .tflite file.", metavar="MODEL", takes="model")
    )
    for_: str = field(metadata=option("python, android, ios, cpp or mcu.", metavar="TARGET"))
    labels: str | Path | None = field(
        default=None, metadata=option("Class names, one a line, where the file's card has none.", metavar="FILE")
    )
    overwrite: bool = field(default=False, metadata=option("Replace a folder that an earlier package filled."))
    out: str | Path = field(
        metadata=option("Folder for the package, new or empty.", metavar="DIR", flags=("-o", "--out"), names="output")
    )
