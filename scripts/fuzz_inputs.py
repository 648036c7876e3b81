"""One input of scripts/fuzz: made of a seed, a number and the corpus, the same every time; and written to a folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz_bytes import MOST_BYTES
from fuzz_readers import Reader

SPECIAL = ("fifo", "socket", "folder", "loop", "endless", "dangling", "missing", "empty")
"""What can stand in the place of a file; ``endless`` is a link to /dev/zero."""


@dataclass(frozen=True)
class Input:
    """Files by name, of which ``main`` is given to the reader; ``special``: what stands in its place (see SPECIAL)."""

    main: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    special: str = ""
    origin: str = ""

    def written(self, folder: Path) -> Path:
        """Writes it into an empty folder; the path that is read."""
        for name, content in self.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if name != self.main or not self.special:
                place.write_bytes(content)
        main = folder / self.main
        if self.special:
            _make(self.special, main)
        return main


def _make(special: str, place: Path) -> None:
    if special == "fifo":
        os.mkfifo(place)
    elif special == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(place))
    elif special == "folder":
        place.mkdir()
    elif special == "empty":
        place.touch()
    elif special != "missing":
        place.symlink_to({"loop": place.name, "endless": "/dev/zero", "dangling": "nowhere"}[special])


def seeds_of(corpus: Path, name: str, reader: Reader) -> list[Path]:
    """The folders of a reader's seeds, in order; none where a package that makes them was not there."""
    folder = corpus / (reader.seeds or name)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def make(name: str, reader: Reader, seeds: list[Path], seed: int, index: int) -> Input:
    """Input ``index`` of a reader: first its seeds as they are, then changed ones."""
    rng = Random(f"{seed}/{name}/{index}")
    chosen = seeds[index] if index < len(seeds) else rng.choice(seeds)
    files = {p.relative_to(chosen).as_posix(): p.read_bytes() for p in sorted(chosen.rglob("*")) if p.is_file()}
    first = next(name for name in files if name.startswith(reader.main.removeprefix(".")))
    folder = reader.main == "." or ("/" in first and "/" not in reader.main)
    main = "" if reader.main == "." else first.partition("/")[0] if folder else first
    if index < len(seeds):
        return Input(main, files, origin=chosen.name)
    if not folder and not reader.bytes_only and rng.random() < 0.02:
        return Input(main, files, rng.choice(SPECIAL), chosen.name)
    target = rng.choice(list(files)) if folder or rng.random() < 0.1 else first
    mutate = reader.mutator(target)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        files[target] = mutate(rng, files[target])[: 2 * MOST_BYTES]
    return Input(main, files, origin=chosen.name)
