"""What a bench gives: its cells, their comparisons, and how the program should end."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from edgekit.bench.curve import thread_curves
from edgekit.bench.ledger import not_delegated
from edgekit.bench.result import CellResult
from edgekit.bench.session import Session
from edgekit.bench.variance import BUILT_IN
from edgekit.errors import DeviceError, EdgekitError, GateError, UsageError
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.journal import Journal
from edgekit.results.base import Result
from edgekit.results.bench import Baseline, BenchRecord, Compressed, Lease, Machine, Nothing, Others, Protocol, Timing
from edgekit.results.checks import Check
from edgekit.results.compare import MARGIN, CompareResult, Comparison, checks_of, gate_error, gate_of

log = logging.getLogger("edgekit")


@dataclass(frozen=True)
class MachineRun:
    """What ran on one machine, one cell at a time.

    Attributes:
        devices: names of the devices that are this machine.
        cells: places of its cells in the whole run; ``results`` are theirs.
        session: None where no cell could be opened.
        others: who else used its processor; nothing on a machine other than this one.
    """

    devices: tuple[str, ...]
    cells: tuple[int, ...]
    results: tuple[CellResult, ...]
    session: Session | None = None
    others: Others | Nothing = field(default_factory=Nothing)
    leases: tuple[Lease, ...] = ()

    def timing(self) -> Timing:
        """How its cells were timed; ``order`` names them by their places in the whole run."""
        if self.session is None:
            return Timing(rounds=0, order=())
        session, plan = self.session, self.session.plan
        return Timing(
            rounds=len(session.order),
            block_ms=plan.block_ns / 1e6,
            order=tuple(tuple(self.cells[index] for index in round_) for round_ in session.order),
            plan=asdict(plan),
            noise_floor=BUILT_IN.document(),
            thermometer=session.reference,
            others=self.others,
            parent_cores=round(session.parent_share, 4),
            kept_blocks=session.kept,
        )


@dataclass(frozen=True, repr=False)
class BenchResult(Result):
    """All cells, in the order model, runtime, device, threads; comparisons of each against the first of its group.

    ``unwritten``: why one of the files beside the document could not be written.
    """

    ROWS: ClassVar[str] = "results"

    results: tuple[CellResult, ...]
    comparisons: tuple[Comparison, ...]
    machines: tuple[MachineRun, ...]
    options: BenchOptions
    clock_cost_ns: int
    against: CompareResult | None = None
    journal: Journal | None = None
    unwritten: EdgekitError | None = None

    @property
    def session(self) -> Session:
        """How the cells of the only machine were timed; of several, those of the first that timed any."""
        return next(machine.session for machine in self.machines if machine.session is not None)

    def delivered(self) -> None:
        """To be called when the result has been handed over: what was kept for an interruption goes."""
        if self.journal is not None:
            self.journal.discard()

    def ratio(self, model: str | Path, to: str | Path | None = None) -> Comparison:
        """The comparison of ``model`` (as it was given) with the first model, in the first group that has it.

        Raises:
            UsageError: no comparison of ``model`` exists.
        """
        for found in self.comparisons:
            if found.a == str(model) and to in (None, found.b):
                return found
        raise UsageError(f"no comparison of {model}; there are: {', '.join(c.a for c in self.comparisons) or 'none'}")

    def checks(self) -> tuple[Check, ...]:
        """Each cell runs; each comparison passes the gate."""
        cells = [
            Check(
                f"{one.setting.model} on {one.setting.device.name}, {one.setting.threads} threads",
                "" if one.error is None else str(one.error), broken=one.error is not None,
            )
            for one in self.results
        ]  # fmt: skip
        judged = self.against.comparisons if self.against is not None else self.comparisons
        return (*cells, *checks_of(judged, self.options.fail_slower))

    def failure(self) -> EdgekitError | None:
        """What the run ends with although its document stands: a file beside it, failed cells, the gate."""
        if self.unwritten is not None:
            return self.unwritten
        errors = [(result.setting.model, result.error) for result in self.results if result.error is not None]
        if errors:
            kinds = {error.exit_code for _, error in errors}
            told = "; ".join(f"{model}: {error}" for model, error in errors)
            message = f"{len(errors)} of {len(self.results)} cells failed: {told}"
            return type(errors[0][1])(message) if len(kinds) == 1 else DeviceError(message)
        spent = [(one.setting, one.fields.get("budget")) for one in self.results]
        large = [f"{at.model} on {at.device.name}: {found.exceeded}" for at, found in spent if found and found.exceeded]
        if large:
            return GateError("does not fit: " + "; ".join(large))
        if self.options.require_full_delegation:
            reasons = [(result.setting.model, not_delegated(result.delegation)) for result in self.results]
            told = "; ".join(f"{model}: {reason}" for model, reason in reasons if reason)
            if told:
                return GateError(f"--require-full-delegation: {told}")
        if self.against is not None:
            return self.against.failure()
        return gate_error(self.comparisons, self.options.fail_slower)

    @functools.cached_property
    def record(self) -> BenchRecord:
        """The ``bench`` document, with the protocol and the order the blocks ran in."""
        options, against = self.options, self.against
        baseline = None
        if against is not None:
            path = str(options.replay or options.baseline)
            baseline = Baseline(
                path=path,
                comparisons=against.comparisons,
                verdict=against.verdict,
                unmatched=against.unmatched,
                gate=against.gate,
            )
        return BenchRecord(
            results=tuple(result.entry() for result in self.results),
            comparisons=self.comparisons,
            seed=options.seed,
            protocol=Protocol(
                seconds=options.seconds,
                clock_cost_ns=self.clock_cost_ns,
                margin=MARGIN,
                options=options.protocol(),
                leases=tuple(lease for machine in self.machines for lease in machine.leases),
                machines=self._machines() if len(self.machines) > 1 else None,
                timing=self._timing(),
            ),
            parents=compare_with_parents(self.results) or None,
            thread_curves=tuple(thread_curves(self.results)) or None,
            gate=gate_of(self.comparisons, options.fail_slower) if against is None else None,
            baseline=baseline,
        )

    def document(self) -> dict[str, Any]:
        """The body of the ``bench`` document."""
        return self.record.document()

    def _machines(self) -> tuple[Machine, ...]:
        return tuple(Machine(devices=one.devices, cells=one.cells, timing=one.timing()) for one in self.machines)

    def _timing(self) -> Timing:
        """How the cells were timed: of one machine as it is, of several what holds for all of them."""
        if len(self.machines) == 1:
            return self.machines[0].timing()
        kept = sum(machine.session.kept for machine in self.machines if machine.session is not None)
        return Timing(noise_floor=BUILT_IN.document(), kept_blocks=kept)


def compare_cells(results: Sequence[CellResult]) -> tuple[Comparison, ...]:
    """Each timed cell against the first cell of its group (device, threads): the first model on its first runtime.

    Where that first cell failed nothing of the group is compared: another baseline would be a silent change.
    """
    groups: dict[tuple[str, int], list[CellResult]] = {}
    for result in results:
        groups.setdefault((result.setting.device.name, result.setting.threads), []).append(result)
    comparisons = []
    for (device, _), group in groups.items():
        first = group[0]
        if not first.timed:
            if len(group) > 1:
                log.info("%s was not timed on %s, so nothing is compared there", first.setting.model, device)
            continue
        for other in group[1:]:
            if other.timed:
                comparisons.append(_compared(other, first))
    return tuple(comparisons)


def compare_with_parents(results: Sequence[CellResult]) -> tuple[Comparison, ...]:
    """Each timed cell of a compressed file against the file it was made from, where that was timed on the same device
    and threads, in the same runtime."""

    def place(result: CellResult) -> tuple[Any, ...]:
        return result.setting.device.name, result.setting.threads, result.setting.runtime, result.setting.sha256

    timed = {place(result): result for result in results if result.timed}
    found = []
    for result in results:
        compressed = result.fields.get("compressed")
        parent = compressed.parent if isinstance(compressed, Compressed) else None
        other = None if parent is None else timed.get((*place(result)[:3], parent.sha256))
        if result.timed and other is not None:
            found.append(_compared(result, other))
    return tuple(found)


def _compared(a: CellResult, b: CellResult) -> Comparison:
    found = a.compared_with(b, (a.setting.model, b.setting.model))
    runtimes = (a.setting.runtime, b.setting.runtime)
    return replace(found, device=a.setting.device.name, threads=a.setting.threads, runtimes=runtimes)
