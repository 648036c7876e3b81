"""An extra of ``bench``: what it measures of a cell in a pass of its own, after the timed blocks.

Its name is its option, its key in the document, and its line of the table ``extras`` (:mod:`edgekit.registry`), to
which other packages add with the entry point group ``edgekit.extras``. It runs on the host and asks workers for what
belongs on the device (:mod:`edgekit.devices.functions`); its module needs nothing but the device layer, since a worker
imports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgekit.bench.plan import CellPlan
from edgekit.bench.result import CellResult
from edgekit.bench.session import Session
from edgekit.devices import WorkerClient
from edgekit.documents import typed
from edgekit.errors import EdgekitError
from edgekit.registry import TABLES, entries, lookup
from edgekit.results.bench import Entry
from edgekit.results.measures import Failed
from edgekit.types import DeviceSpec, Feed
from edgekit.types import Sheet as Sheet

if TYPE_CHECKING:
    from edgekit.options.base import Options
    from edgekit.options.bench import BenchOptions


def short(model: str) -> str:
    """A model's file name."""
    return Path(model).name


class TimedCell(Protocol):
    """A cell whose timed blocks are over.

    Attributes:
        plan: model, device, runtime, threads and seed.
        feed: what it was timed on; ``runs``: of the model for one sample.
    """

    plan: CellPlan
    feed: Feed
    runs: int

    def worker(self, **options: Any) -> AbstractContextManager[WorkerClient]:
        """A worker of its own with the model loaded. ``options``: of :func:`edgekit.devices.open_worker`."""


class OpenCell(TimedCell, Protocol):
    """A cell that is loaded, and was not timed yet.

    Attributes:
        error: why it cannot be timed; it stands in the result.
    """

    error: EdgekitError | None

    @property
    def client(self) -> WorkerClient:
        """The first of its workers."""


@dataclass(frozen=True, slots=True)
class Taking:
    """What a load scenario found of a cell beside its samples: by key of the entry, and by field of it."""

    extras: Mapping[str, Any]
    fields: Mapping[str, Any]


class Measurement(ABC):
    """What extras and load scenarios have in common.

    Attributes:
        name: what asks for it.
        result: the type of what it finds, a dataclass (or a union of them) that
            :func:`edgekit.results.base.to_json` writes.
    """

    name: ClassVar[str]
    result: ClassVar[Any]

    def check(self, options: BenchOptions) -> None:  # noqa: B027  (nothing to refuse by default)
        """Refuses options that make no sense together.

        Raises:
            UsageError: what is wrong.
        """

    @abstractmethod
    def report(self, entry: Entry, found: Any) -> list[Any]:
        """Lines and a :class:`Sheet` or more for people; ``found``: what was found of the cell."""


class BenchExtra(Measurement):
    """One extra. Failures of a pass stand in the result as they are; they do not cost the times.

    Attributes:
        name: the option that asks for it, and its key in the entry of a cell.
        options: a dataclass with the options that it adds to ``bench``, one of which is called like the extra. None for
            one of edgekit's own, whose options stand in :class:`~edgekit.options.bench.BenchOptions`.
        emulated: whether it can be asked for on a device that has no time to measure.
    """

    options: ClassVar[type[Options] | None] = None
    emulated: ClassVar[bool] = False

    def check_device(self, device: DeviceSpec) -> None:
        """Refuses a device on which it cannot be measured, before a worker is started.

        Raises:
            UnsupportedError: with the reason.
        """

    def check_runtime(self, runtime: str) -> None:
        """Refuses a runtime that does not tell it, before anything is timed.

        Raises:
            UnsupportedError: with the reason.
        """

    @abstractmethod
    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Any:
        """What it finds of a cell. ``result``: its times.

        Raises:
            EdgekitError: it stands in the document in place of a finding.
        """

    def fields(self, result: CellResult, found: Any) -> dict[str, Any]:
        """What else of the cell's entry is known better now, by field of :class:`~edgekit.results.bench.Entry`."""
        return {}

    def columns(self, found: Any) -> dict[str, object]:
        """Columns of ``--csv``, the same for every cell; ``found`` is None where there is nothing."""
        return {}


class LoadScenario(Measurement):
    """A value of ``--scenario`` under which queries come at given times, whether the model is ready or not.

    It takes the place of the timed blocks; what it finds stands under :attr:`key`. A line of the table ``scenarios``,
    and the entry point group ``edgekit.scenarios``.
    """

    @property
    def key(self) -> str:
        """Its key in the entry of a cell."""
        return self.name.replace("-", "_")

    @abstractmethod
    def time(self, cells: Sequence[OpenCell], options: BenchOptions) -> tuple[Session, list[Taking]]:
        """The latencies of every cell, and what is known of it beside them. A cell that fails has its error there."""


def load_of(options: BenchOptions) -> LoadScenario | None:
    """The load scenario that ``options`` ask for; None where models are timed by themselves."""
    return loads().get(options.scenario)


def loads() -> dict[str, LoadScenario]:
    """Every load scenario by its name."""
    return entries("scenarios", LoadScenario)  # type: ignore[type-abstract]  # its entries are instances


def asked_for(options: BenchOptions) -> list[BenchExtra]:
    """The extras that ``options`` ask for, in the order of the table."""
    return [extra for name, extra in extras().items() if getattr(options, name)]


def extras() -> dict[str, BenchExtra]:
    """Every extra by its name, those of other packages last."""
    return entries("extras", BenchExtra)  # type: ignore[type-abstract]  # as above


def found_by(entry: Entry, name: str) -> Any:
    """What the extra ``name`` found of a cell, also of one that was read from a document; None where it was not asked.

    Raises:
        ValueError: the document holds something else.
    """
    found = entry.extras.get(name)
    return typed(Failed | lookup("extras", name).result, found, name) if isinstance(found, Mapping) else found


def with_typed_extras(entry: Entry) -> Entry:
    """A cell of a document that was read, with what its extras and its load scenario found in their own types. What
    belongs to a package that is not installed stays as it is.

    Raises:
        ValueError: the document holds something else.
    """
    types = {name: Failed | extra.result for name, extra in extras().items()}
    types |= {scenario.key: scenario.result for scenario in loads().values()}
    found = {
        name: typed(types[name], value, name)
        for name, value in entry.extras.items()
        if name in types and value is not None
    }
    return replace(entry, extras={**entry.extras, **found})


def result_types() -> dict[str, Any]:
    """Key in the entry of a cell -> type of what stands there, of edgekit's own extras."""
    found = {lookup("scenarios", name).key: lookup("scenarios", name).result for name in TABLES["scenarios"]}
    return found | {name: Failed | lookup("extras", name).result for name in TABLES["extras"]}
