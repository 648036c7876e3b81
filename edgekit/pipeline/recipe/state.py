"""What a folder remembers of a recipe: one record a finished run with the hashes it stands on, and a lock.

Records lie in ``DIR/.recipe/``, one JSON file a run, written when its file is there. A run is done as long as all it
depends on hashes to what its record says, and its file is the one that was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import library_versions, onnx_parts, sha256_file
from edgekit.bench.environment import environment
from edgekit.documents import parse_json, typed
from edgekit.errors import InputError, UsageError
from edgekit.locks import hold
from edgekit.outputs import publishing, remove_output, writable_folder
from edgekit.pipeline.recipe.contents import Contents, is_code, is_model
from edgekit.pipeline.recipe.plan import Input, Run, RunPlan
from edgekit.pipeline.recipe.verbs import listed
from edgekit.types import Format
from edgekit.version import __version__

STATE = ".recipe"
_RECORD = "record.json"
WEIGHTS = "weights "
"""What the name of a part begins with that only running the user's own code tells."""
Parts = Mapping[str, Any]
"""Everything a run depends on, by name (``option epochs``, ``data``, ``torch``); its hash is the run's key."""
_TRAINING = ("torch", "lightning-fabric", "numpy", "torch-pruning")
_ONNX = ("onnx", "onnxscript", "onnxslim", "onnxruntime", "numpy")
_TFLITE = ("litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer", "litert-quantizer", "numpy")
_PACKAGES: Mapping[str, tuple[str, ...]] = {".safetensors": _TRAINING, ".onnx": _ONNX, ".tflite": _TFLITE}
"""Suffix of the file a run writes or looks at -> packages that have a say in what comes out; ``torch`` writes too."""


@dataclass(frozen=True, slots=True)
class Record:
    """One finished run.

    Attributes:
        key: hash of ``parts``.
        file, sha256: what it wrote, by name in the folder; empty for a run that writes nothing.
        document: its command's JSON document, without the envelope.
        seconds: it took.
    """

    key: str
    parts: Parts
    file: str
    sha256: str
    document: Mapping[str, Any]
    seconds: float


def key_of(parts: Parts) -> str:
    """The SHA-256 of what a run depends on, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def parts_of(
    run: Run, inputs: Sequence[Input], plan: RunPlan, contents: Contents, hashes: Mapping[Run, str]
) -> dict[str, Any]:
    """Everything that decides what ``run`` gives from ``inputs``. ``hashes``: of the files of the runs before it."""
    parts: dict[str, Any] = {"command": run.verb.name, "edgekit": __version__}
    packages = {*_PACKAGES.get(run.suffix, (*_ONNX, *_TFLITE)), *(("torch",) if run.verb.takes == "source" else ())}
    parts |= library_versions(*sorted(packages))
    for name, value in run.options.items():
        parts[f"option {name}"] = value
        what = run.verb.options[name].option.names
        for text in map(str, listed(value)):
            if name in run.refers:
                parts[f"option {name}"] = hashes[run.refers[name]]
            elif what == "data":
                parts[f"data {text}"] = contents.data(text)
            elif what == "network":
                parts |= _network(f"network {text}", text, contents)
            elif what == "code":
                parts[f"code {text}"] = contents.code(text)
            elif what != "output" and Path(text).is_file():
                parts[f"file {text}"] = contents.file(text)
    for given in inputs:
        if given.writer is not None:
            parts[f"input {given.writer.title}"] = hashes[given.writer]
        elif run.verb.takes == "family":
            parts["family"] = plan.recipe.source.value
        else:
            source = plan.recipe.source.value
            parts |= _network(f"source {source}", source, contents)
    if "on" in run.verb.options:
        parts["machine"] = environment()["cpu"]
    return parts


def _network(name: str, text: str, contents: Contents) -> dict[str, str]:
    """What a network is, under ``name``: a file, or weights and a card. Of the user's own code the file, and under
    :data:`WEIGHTS` what it makes, where it may be run."""
    if is_model(text):
        return {name: contents.model(text)}
    found = {name: contents.source(text)}
    if contents.runs and is_code(text):
        found[f"{WEIGHTS}{text}"] = contents.weights(text)
    return found


class StepStore:
    """What runs of several recipes made, by the hash of all it depends on, so that none makes it twice.

    A folder a run: its record, and its file where it writes one. Folders appear whole, by a rename.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, run: Run, parts: Parts, folder: Path) -> Record | None:
        """Puts what a run of this name with these ``parts`` made into ``folder``; None where nobody made it, or it was
        changed since."""
        kept = self._place(parts, run)
        record = _read(kept / _RECORD)
        if record is None or not record.file or sha256_file(kept / record.file) != record.sha256:
            return None
        for part in kept.iterdir():
            if part.name != _RECORD:
                _linked(part, folder / part.name)
        return record

    def _place(self, parts: Parts, run: Run) -> Path:
        """By its name as well, which stands in the card of an exported file."""
        return self.path / key_of({**parts, "title": run.title})

    def keep(self, run: Run, record: Record, folder: Path) -> None:
        """Adds what a run wrote into ``folder``: its file, and the weights of an ONNX file that lie beside it."""
        target = self._place(record.parts, run)
        if not record.file or target.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        made = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        file = folder / record.file
        for part in (file, *(onnx_parts(file).values() if file.suffix == f".{Format.ONNX}" else ())):
            _linked(part, made / part.name)
        (made / _RECORD).write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        try:
            made.rename(target)
        except OSError:  # another process was faster, with the same file
            shutil.rmtree(made)


def _linked(source: Path, target: Path) -> None:
    """One file under two names; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class Folder:
    """The folder of one recipe's outputs. ``store``: what other recipes made is taken from there."""

    def __init__(self, path: Path, store: StepStore | None = None) -> None:
        self.path, self.store = path, store

    def record(self, run: Run) -> Record | None:
        """The record of ``run``; None if no record can be read (it is then done again)."""
        return _read(self._place(run))

    def why(self, record: Record | None, parts: Parts) -> str:
        """Why a run with this record is to be done again; empty if it is done."""
        if record is None:
            return "not done yet"
        if record.key != key_of(parts):
            return changes(record.parts, parts) or "its record is of another edgekit"
        if record.file:
            file = self.path / record.file
            if not file.is_file():
                return f"{record.file} is gone"
            if sha256_file(file) != record.sha256:
                return f"{record.file} was changed since"
        return ""

    def keep(self, run: Run, record: Record) -> None:
        """Writes the record, atomically: from now on ``run`` is done."""
        with publishing(self._place(run)) as temporary:
            temporary.write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        if self.store is not None:
            self.store.keep(run, record, self.path)

    def taken(self, run: Run, parts: Parts) -> Record | None:
        """The record of ``run`` where another recipe made its file, which is here then; None where none did."""
        record = None if self.store is None or not run.gives else self.store.take(run, parts, self.path)
        if record is not None:
            self.keep(run, record)
        return record

    def forget(self, run: Run, record: Record | None) -> None:
        """Takes away what an earlier run of ``run`` left, so that nothing stale stands under its name."""
        self._place(run).unlink(missing_ok=True)
        for name in {run.title if run.gives else f"{run.title}.json", *([record.file] if record else [])}:
            remove_output(self.path / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one run works in the folder; the lock is the kernel's and goes with its process, however that ends.

        Raises:
            UsageError: another one does, or the folder cannot be written.
        """
        place = writable_folder(self.path / STATE) / "lock"
        handle = hold(place)
        if handle is None:
            holder = place.read_bytes()[:40].decode(errors="replace").strip() or "unknown"
            raise UsageError(
                f"another 'edgekit recipe run' (process {holder}) works in {self.path}; wait until it has ended, "
                "or choose another folder with -o"
            )
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def _place(self, run: Run) -> Path:
        return self.path / STATE / f"{run.title}.json"


def _read(place: Path) -> Record | None:
    """The record in a file; None if it cannot be read."""
    try:
        return typed(Record, parse_json(place.read_bytes(), InputError, place), "the record")
    except (OSError, ValueError, InputError):
        return None


def changes(before: Parts, after: Parts) -> str:
    """What differs between two runs, in words."""
    told = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name.startswith(("input ", "data ", "file ", "source ", "network ", "code ", WEIGHTS)) and old and new:
            told.append(f"{name} changed")
        elif new is None:
            told.append(f"{name} was {_short(old)}, and is no longer given")
        elif old is None:
            told.append(f"{name} is {_short(new)}, and was not given")
        else:
            told.append(f"{name} was {_short(old)}, is {_short(new)}")
    return "; ".join(told)


def _short(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
