"""What is proved of a compressed file before it is published."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.artifact import contract_of
from edgekit.devices import open_runner
from edgekit.errors import ParityError, QualityError
from edgekit.leftovers import scratch_folder
from edgekit.pipeline.quantize.make import QuantizedFile, Work
from edgekit.pipeline.quantize.samples import held_feeds
from edgekit.progress import task
from edgekit.quality.arithmetic import compare, first_not_finite
from edgekit.quality.as_app import Call, NotFiniteError, run_as_app
from edgekit.quality.fidelity import Fidelity, Floor
from edgekit.quality.readings import Pair
from edgekit.results.compressed import FidelityFigures, FidelityGate
from edgekit.types import Array, Artifact

log = logging.getLogger("edgekit")
FLOAT = 1e-3
"""Share of an output's largest value by which the rewritten float file may differ: folding and equalizing round once
more, which gave 1e-6, and deep networks amplify it."""


@dataclass(frozen=True)
class Proof:
    """What a file showed.

    Attributes:
        fidelity: its outputs beside its parent's, on samples that did not calibrate.
        floor: what they have to reach.
        pair, calls: the two files, and some of the samples with what both gave.
    """

    fidelity: Fidelity
    floor: Floor
    pair: Pair
    calls: tuple[Call, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What misses the floor, one sentence an output."""
        return self.floor.failures(self.fidelity.outputs)

    def figures(self, *, binding: bool) -> FidelityFigures:
        """The figures and the gate; ``binding``: a file that misses the floor is not published."""
        passed, floor = not self.failures, self.floor
        gate = FidelityGate(min_snr_db=floor.output_db, min_channel_db=floor.channel_db, passed=passed, binding=binding)
        return self.fidelity.figures(gate)


def prove(work: Work, made: QuantizedFile) -> Proof:
    """Runs ``made`` as an app does, beside its parent, and then operator by operator.

    Raises:
        QualityError: it fails as an app runs it; see :func:`edgekit.quality.as_app.run_as_app`.
        ParityError: the float file was rewritten wrongly, or the file does not compute what its scales say; see
            :func:`edgekit.quality.arithmetic.compare`.
    """
    parent = work.parent
    log.info("proving it: as an app runs it, and operator by operator")
    contract = contract_of(parent)
    feeds = held_feeds(parent, work.samples, work.before.signature)
    source = work.source.prepared
    prepared = source.float_form(made.quantizer)
    with scratch_folder() as folder:
        pair = source.pair(made.path, made.quantizer, folder)
    file = Artifact(made.path, parent.format, made.card)
    with task("proving"):
        try:
            run = run_as_app(parent, file, feeds, contract, work.samples.said)
        except NotFiniteError as error:
            raise _located(error, pair) from error
        if source.artifact is not parent or prepared != parent.path.read_bytes():
            _require_same_in_float(prepared, pair.suffix, run.calls)
        compare(pair, run.calls).require("the compressed file")
    asked = work.options.min_snr
    return Proof(run.fidelity, Floor(work.scheme.floor_db if asked is None else asked), pair, run.calls)


def _located(error: NotFiniteError, pair: Pair) -> QualityError:
    found = first_not_finite(pair, error.feed)
    return QualityError(f"{error}{'' if found is None else f'. First in what the operator {found} gives'}")


def _require_same_in_float(prepared: bytes, suffix: str, calls: Iterable[Call]) -> None:
    """Raises ParityError where the rewritten float file gives other outputs than the user's."""
    with scratch_folder() as folder:
        path = folder / f"prepared.{suffix}"
        path.write_bytes(prepared)
        with open_runner(path, carded=False) as runner:
            names = [spec.name for spec in runner.signature.inputs]
            for call in calls:
                named = set(names) == set(call.feed)
                feed = call.feed if named else dict(zip(names, call.feed.values(), strict=True))
                _require_near(call.wanted, runner.run(feed))


def _require_near(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> None:
    named = set(wanted) == set(found)
    for (name, value), other in zip(wanted.items(), found.values(), strict=True):
        other = found[name] if named else other
        there = np.isfinite(value)
        gap = np.inf
        if value.shape == other.shape:
            gap = float(np.where(there, np.abs(value.astype(np.float64) - other), 0).max(initial=0.0))
        allowed = FLOAT * float(np.abs(np.where(there, value, 0)).max(initial=0.0))
        if not gap <= allowed:
            raise ParityError(
                f"the float file as it is rewritten before it is quantized gives another output {name!r} than the file "
                f"itself: it differs by {gap:.3g}, {allowed:.3g} is allowed. Nothing was published. This is a fault of "
                "the rewriting, not of the network: export it again with --opset 17 or newer, or report it"
            )
