"""magika: which of 214 kinds a file is, from its first and last 1,024 bytes."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from real_subject import Arrays, Measured, Prepared, Subject

CALIBRATION, TEST = 500, 500
PER_KIND = 40
"""Files with one suffix, at most: most of what lies on a disk is Python."""


def prepare(package: Path, work: Path) -> Prepared:
    """Files of this Python's standard library and packages, and of the project; no two alike."""
    (model,) = (package / "magika" / "models").glob("*/model.onnx")
    config = json.loads(model.with_name("config.min.json").read_text())
    rows = np.array([_features(path, config) for path in _files(CALIBRATION + TEST, config["min_file_size_for_dl"])])
    return Prepared({"onnx": model}, {"bytes": rows[:CALIBRATION]}, {"bytes": rows[CALIBRATION:]})


def _files(count: int, smallest: int) -> Iterator[Path]:
    folders = [*map(sysconfig.get_path, ("stdlib", "platlib")), str(Path(__file__).parent.parent)]
    found = [path for folder in folders for path in Path(folder).rglob("*") if "__pycache__" not in path.parts]
    found.sort(key=lambda path: sha256(path.name.encode()).digest())
    kinds: dict[str, int] = {}
    seen: set[bytes] = set()
    for path in found:
        if kinds.get(path.suffix, 0) >= PER_KIND or not path.is_file() or path.stat().st_size < 4 * smallest:
            continue
        with path.open("rb") as file:
            digest = sha256(file.read(4096)).digest()
        if digest in seen:
            continue
        seen.add(digest)
        kinds[path.suffix] = kinds.get(path.suffix, 0) + 1
        yield path
        if len(seen) == count:
            return


def _features(path: Path, config: dict[str, int]) -> Arrays:
    """The network's input, int32 (2048,): whitespace off both ends, 256 where there are no bytes."""
    block, beginning, end = config["block_size"], config["beg_size"], config["end_size"]
    with path.open("rb") as file:
        first = file.read(block).lstrip()[:beginning]
        file.seek(max(0, path.stat().st_size - block))
        last = file.read(block).rstrip()[-end:]
    row = np.full(beginning + end, config["padding_token"], np.int32)
    row[: len(first)] = list(first)
    row[len(row) - len(last) :] = list(last)
    return row


def measure(reference: Arrays, outputs: Arrays, facts: Arrays) -> Measured:
    """Share of files that get the same kind as from float."""
    expected, kinds = (
        each["target_label"].reshape(-1, each["target_label"].shape[-1]) for each in (reference, outputs)
    )
    same = float((expected.argmax(1) == kinds.argmax(1)).mean())
    return Measured(same, f"{same:.1%} of {len(kinds)} answers")


SUBJECTS = (
    Subject(
        "magika",
        "magika==1.0.3",
        "files of the Python installation and of this project",
        "answers equal to float's",
        0.99,
        prepare,
        measure,
    ),
)
