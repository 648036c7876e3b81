"""How large a stranger's input may be: one table, each limit with a name, a default and an environment variable.

A reader asks :func:`check` before it allocates or loops, so that a small file cannot take the machine down. A user who
does have larger inputs sets the variable, for example ``EDGEKIT_LIMIT_ARRAY_BYTES=8e9``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from edgekit.errors import LimitError, UsageError

PREFIX: Final = "EDGEKIT_LIMIT_"


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        default, unit, what: its value, and what it bounds.
        small: of what is unpacked: up to here the size of the packed file does not matter.
    """

    default: int
    unit: str
    what: str
    small: int = 0


LIMITS: Final[dict[str, Limit]] = {
    "MODEL_BYTES": Limit(8 << 30, "bytes", "size of a model file"),
    "CARD_BYTES": Limit(16 << 20, "bytes", "size of the card inside a model file"),
    "TEXT_BYTES": Limit(256 << 20, "bytes", "size of a text file, after decompression", 4 << 20),
    "TEXT_LINES": Limit(2_000_000, "lines", "number of lines of a text file"),
    "LINE_CHARACTERS": Limit(4 << 20, "characters", "length of one line of a text file"),
    "VOCABULARY_CHARACTERS": Limit(4 << 20, "characters", "size of the vocabulary in a model's contract"),
    "DOCUMENT_BYTES": Limit(128 << 20, "bytes", "size of a JSON document"),
    "DOCUMENT_VALUES": Limit(8_000_000, "values", "number of values in a JSON document"),
    "DOCUMENT_DEPTH": Limit(200, "levels", "nesting of a JSON or TOML document"),
    "ARRAY_BYTES": Limit(4 << 30, "bytes", "size of the arrays of an .npz or .npy file", 256 << 20),
    "CLASSES": Limit(100_000, "classes", "number of classes, by the largest label"),
    "ARCHIVE_BYTES": Limit(16 << 30, "bytes", "size of what an archive unpacks to", 64 << 20),
    "ARCHIVE_MEMBERS": Limit(2_000_000, "members", "number of files in an archive"),
    "UNPACKED_RATIO": Limit(200, "times", "size of what a packed file unpacks to, relative to the file"),
    "SAMPLE_BYTES": Limit(128 << 20, "bytes", "size of the file of one sample: an image, a recording"),
    "IMAGE_PIXELS": Limit(36_000_000, "pixels", "size of one image"),
    "IMAGE_SCANS": Limit(200, "scans", "number of scans of a JPEG file, each of which visits every pixel"),
    "AUDIO_SAMPLES": Limit(20_000_000, "samples", "length of one recording, all channels together"),
    "INPUT_BYTES": Limit(256 << 20, "bytes", "size of one input of a model as its card or its shape describes it"),
    "STREAM_FRAMES": Limit(100_000, "frames", "frames of one step of a streaming file, and steps that it lies behind"),
    "VALUE_BYTES": Limit(4 << 30, "bytes", "size of one value that a .pt2 program computes"),
    "PARAMETERS": Limit(10_000_000, "parameters", "size of a network of the zoo that a checkpoint's card describes"),
    "LAYERS": Limit(2_000, "layers", "number of layers that a configuration of Hugging Face asks for"),
    "GRAPH_NODES": Limit(200_000, "nodes", "number of operators in a model file, those of subgraphs included"),
    "RECIPE_BYTES": Limit(128 << 10, "bytes", "size of a recipe file"),
    "RECIPE_LINES": Limit(2_000, "lines", "length of a recipe file"),
    "RECIPE_RUNS": Limit(500, "runs", "number of runs that the steps of a recipe stand for"),
    "ANSWER_SECONDS": Limit(60, "seconds", "time that a worker has for one answer; what is timed takes its own on top"),
    "REPLY_BYTES": Limit(16 << 20, "bytes", "size of the text of a device's reply"),
    "REPLY_ARRAY_BYTES": Limit(1 << 30, "bytes", "size of the arrays of a device's reply"),
    "INVENTORY_BYTES": Limit(1 << 20, "bytes", "size of the file with the names of devices"),
}
"""Readers add theirs here; docs/security.md lists them all (a test compares)."""


def limit(name: str) -> int:
    """The value of the limit ``name``: its default, or what its environment variable says.

    Raises:
        UsageError: the variable does not hold a positive number.
    """
    text = os.environ.get(PREFIX + name)
    if text is None:
        return LIMITS[name].default
    try:
        value = int(float(text))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{PREFIX}{name} is {text[:40]!r}, a positive number was expected") from error
    if value <= 0:
        raise UsageError(f"{PREFIX}{name} is {text[:40]!r}, a positive number was expected")
    return value


def check_unpacked(name: str, unpacked: int, packed: int, subject: object) -> None:
    """As :func:`check`, of ``unpacked`` bytes; LimitError, too, where they are too many for the ``packed`` ones."""
    check(name, unpacked, subject)
    if unpacked > LIMITS[name].small:
        check("UNPACKED_RATIO", unpacked / max(packed, 1), subject)


def check(name: str, amount: int | float, subject: object) -> None:
    """Raises LimitError where ``amount`` is beyond the limit ``name``; ``subject`` is what the message begins with."""
    allowed = limit(name)
    if amount > allowed:
        entry = LIMITS[name]
        raise LimitError(
            f"{subject}: {int(amount):,} {entry.unit}, the limit is {allowed:,} ({entry.what}); if you trust it, set "
            f"{PREFIX}{name} to a larger number"
        )
