"""An order for a maker on another machine: the files that its recipe names and what was made of it before, by the hash
of their contents; and what comes back.

Paths differ there, so the recipe is spelled anew for the maker, and what it writes is spelled back: the same order
gives the same bytes wherever it is made. What decides them (versions, data, code) is compared step by step.
"""

from __future__ import annotations

import json
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from edgekit.artifact import onnx_parts
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError
from edgekit.leftovers import scratch_folder
from edgekit.model_metadata import respelled, spelled_as
from edgekit.outputs import publishing, writable_folder
from edgekit.pipeline.recipe.plan import Run, RunPlan, make_plan
from edgekit.pipeline.recipe.state import Folder, Parts, Record, StepStore, changes, key_of, parts_of
from edgekit.pipeline.search.steps import MadeFile, MakeOrder, contents, make
from edgekit.recipe import parse_recipe
from edgekit.types import Format

Fetch = Callable[[str], bytes]
"""SHA-256 of a content -> the content."""
_NAMES_FILES = ("source", "data", "factory", "teacher-factory", "weights", "distil-from")
"""Keys of a recipe whose values may name a file."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a recipe names.

    Attributes:
        spelled: as the recipe does.
        place: absolute, on the machine of the command.
        files: name -> SHA-256 of its content, and of the Python files beside it where it is one, which it may import;
            empty for a folder, which is not sent.
    """

    spelled: str
    place: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MadeStep:
    """What a step of a recipe made. ``files``: name -> SHA-256 of its content."""

    title: str
    record: Record
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parcel:
    """An order as it is sent: the recipe, the files it names, and its steps that are made already."""

    text: str
    named: tuple[NamedFile, ...]
    steps: tuple[MadeStep, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a maker sends back.

    Attributes:
        made: without a path.
        steps: those it made itself; ``contents``: SHA-256 -> content of their files.
        node: the machine.
    """

    made: MadeFile
    steps: tuple[MadeStep, ...]
    contents: Mapping[str, bytes]
    node: str


def pack(order: MakeOrder) -> tuple[Parcel, dict[str, bytes]]:
    """``order`` to be sent, and the contents that it stands on, by their SHA-256."""
    found: dict[str, bytes] = {}

    def add(file: Path) -> str:
        data = file.read_bytes()
        digest = sha256(data).hexdigest()
        found[digest] = data
        return digest

    named = tuple(
        NamedFile(spelled, str(place.absolute()), {one.name: add(one) for one in _sent_with(place)})
        for spelled, place in _files_of(order.text).items()
    )
    with scratch_folder() as folder:
        steps = tuple(_stepped(run, record, folder, add) for run, record in _known(order, folder))
    return Parcel(order.text, named, steps), found


def deliver(parcel: Parcel, fetch: Fetch, home: Path) -> Delivery:
    """Makes what a parcel orders, in a folder of this machine that is gone afterwards; ``home``: where files that came
    with parcels stay.

    Raises:
        DeviceError: a folder that the recipe names is not here, or what decides the result differs here.
        StorageError: the disk is full.
    """
    spelling = {str(_placed(one, fetch, home)): one.spelled for one in parcel.named}
    text = _spelled_for(parcel.text, {spelled: local for local, spelled in spelling.items()})
    order = MakeOrder(text, writable_folder(home / "work" / uuid.uuid4().hex), home / "store")
    back: dict[str, bytes] = {}

    def add(file: Path) -> str:
        data = file.read_bytes()
        digest = sha256(data).hexdigest()
        back[digest] = data
        return digest

    try:
        with spelled_as(spelling):
            adopt(order, parcel.steps, fetch, f"{platform.node()}, a machine of --workers,", spelling)
            made = make(order)
        steps = []
        for run in _plan(order).runs[len(parcel.steps) :]:
            record = Folder(order.folder).record(run)
            if record is None or not record.file:
                break
            steps.append(_stepped(run, record, order.folder, add, spelling))
    finally:
        shutil.rmtree(order.folder, ignore_errors=True)
    why = made.why
    for local, spelled in spelling.items():
        why = why.replace(local, spelled)
    return Delivery(replace(made, path=None, why=why), tuple(steps), back, platform.node())


def received(order: MakeOrder, parcel: Parcel, delivery: Delivery, fetch: Fetch) -> MadeFile:
    """Puts what came back where it would lie if it had been made here. ``fetch``: what was sent.

    Raises:
        DeviceError: it was made of something else than what is here.
    """
    shutil.rmtree(order.folder, ignore_errors=True)
    back = delivery.contents
    steps = (*parcel.steps, *delivery.steps)
    adopt(order, steps, lambda digest: back[digest] if digest in back else fetch(digest), delivery.node)
    if delivery.made.why:
        return delivery.made
    if len(steps) != len(_plan(order).runs):
        raise EdgekitError(f"{delivery.node} gave {len(steps)} of the {len(_plan(order).runs)} files of {order.folder}")
    return replace(make(order), seconds=delivery.made.seconds)


def adopt(
    order: MakeOrder, steps: tuple[MadeStep, ...], fetch: Fetch, where: str, spelling: Mapping[str, str] | None = None
) -> None:
    """Puts steps of another machine into the order's folder, as done. ``spelling``: of paths here, there.

    Raises:
        DeviceError: they were made of something else than what is here.
    """
    plan, hashes = _plan(order), dict[Run, str]()
    folder = Folder(writable_folder(order.folder), StepStore(order.store))
    for run, step in zip(plan.runs, steps, strict=False):
        parts = parts_of(run, run.inputs, plan, contents(), hashes)
        told = changes(_anywhere(step.record.parts), _anywhere(respelled(parts, spelling or {})))
        if told or step.title != run.title:
            raise DeviceError(
                f"{where} does not make what is made here ({step.title}: {told or run.title}); install the same "
                "versions there, and give it the same data"
            )
        for name, digest in step.files.items():
            with publishing(order.folder / name) as temporary:
                temporary.write_bytes(fetch(digest))
        folder.keep(run, replace(step.record, key=key_of(parts), parts=parts))
        hashes[run] = step.record.sha256


def _anywhere(parts: Parts) -> Parts:
    """Without the CPU it was made on: that of a step need not be that of the next."""
    return {name: value for name, value in parts.items() if name != "machine"}


def _plan(order: MakeOrder) -> RunPlan:
    return make_plan(*parse_recipe(order.text, order.folder))


def _known(order: MakeOrder, folder: Path) -> Iterator[tuple[Run, Record]]:
    """The first steps of a recipe that are made already; their files are put into ``folder``."""
    plan, store, hashes = _plan(order), StepStore(order.store), dict[Run, str]()
    for run in plan.runs:
        try:
            record = store.take(run, parts_of(run, run.inputs, plan, contents(), hashes), folder)
        except EdgekitError:  # the maker says what is wrong with it
            return
        if record is None:
            return
        hashes[run] = record.sha256
        yield run, record


def _stepped(
    run: Run, record: Record, folder: Path, add: Callable[[Path], str], spelling: Mapping[str, str] | None = None
) -> MadeStep:
    """What ``run`` made in ``folder``; ``spelling``: of paths there."""
    file = folder / record.file
    files = [file, *(onnx_parts(file).values() if file.suffix == f".{Format.ONNX}" else ())]
    plain = typed(Record, respelled(asdict(record), spelling or {}), "a record")
    return MadeStep(run.title, plain, {one.name: add(one) for one in files})


def _files_of(text: str) -> dict[str, Path]:
    """Files and folders that a recipe names: as it spells them -> the path."""
    found: dict[str, Path] = {}
    for _, key, value in _values(text):
        code = value.rpartition(":")[0]
        path = (
            _existing(code) if code.endswith(".py") else _existing(value.partition(":")[2] if key == "data" else value)
        )
        if path and (key == "data" or "/" in path or Path(path).is_file()):
            found[path] = Path(path)
    return found


def _sent_with(place: Path) -> list[Path]:
    """The files that are sent for one that a recipe names."""
    if place.is_dir():
        return []
    return sorted({place, *(place.parent.glob("*.py") if place.suffix == ".py" else ())})


def _existing(words: str) -> str:
    """The path that ``words`` begins with, before ``,target=price`` or ``@train``; else empty."""
    for sign in ("", "@", ","):
        path = words.rpartition(sign)[0] if sign else words
        while path:
            if Path(path).exists():
                return path
            path = path.rpartition(sign)[0] if sign else ""
    return ""


def _values(text: str) -> Iterator[tuple[int, str, str]]:
    """Values of a recipe that may name a file, each with the number of its line and its key."""
    for number, line in enumerate(text.splitlines()):
        key, _, value = line.partition(" = ")
        if key in _NAMES_FILES:
            yield number, key, str(json.loads(value))


def _spelled_for(text: str, places: Mapping[str, str]) -> str:
    """A recipe with other paths: as it spells them -> the path instead."""
    lines = text.splitlines()
    for number, key, value in _values(text):
        lines[number] = f"{key} = {json.dumps(respelled(value, places))}"
    return "\n".join(lines) + "\n"


def _placed(one: NamedFile, fetch: Fetch, home: Path) -> Path:
    """Where a file that the recipe names lies on this machine."""
    if not one.files:
        if not Path(one.place).exists():
            raise DeviceError(
                f"{platform.node()}, a machine of --workers, does not see the folder {one.place}: folders are not "
                "sent; put it there, too, or give it as one .tar.gz or .zip file"
            )
        return Path(one.place)
    folder = home / "inputs" / sha256(json.dumps(one.files, sort_keys=True).encode()).hexdigest()
    for name, digest in one.files.items():
        if not (folder / name).exists():
            with publishing(folder / name) as temporary:
                temporary.write_bytes(fetch(digest))
    return folder / Path(one.place).name
