"""The proof of an export: files run against the network they came from, before any of them is published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.artifact import contract_of, open_artifact
from edgekit.converters.base import Capture, ConversionOptions, Converter
from edgekit.converters.layout import turned_axes, turned_images
from edgekit.errors import DeviceError, ModelError, RuntimeMissingError, UnsupportedError
from edgekit.pipeline.real_inputs import RealInputs
from edgekit.source.foreign import is_foreign, is_onnx
from edgekit.types import TIME, Array, Artifact, Card, Feed, Format, Network, SelfTest

if TYPE_CHECKING:
    from edgekit.quality.cases import Case
    from edgekit.quality.parity import Function
    from edgekit.results.proof import CaseResult, Ledger
    from edgekit.runtime.base import Runner

log = logging.getLogger("edgekit")
SELFTEST_SEED = 0
SELFTEST_VALUES = 64
"""Values of each output that a self-test keeps: enough to tell a wrong file, few enough for a small one."""
SELFTEST_RELATIVE = 1e-3
"""Tolerance of a self-test, of the outputs' scale: ten times the proof's, since other CPUs sum in other orders."""


class Proof:
    """Proves files of one capture; what the module gives for each case is computed once for all formats."""

    def __init__(
        self, capture: Capture, real: RealInputs, tolerance: float | None, sequence: Network | None = None
    ) -> None:
        self.capture, self.real, self.tolerance, self.sequence = capture, real, tolerance, sequence
        self._known: dict[int, tuple[Feed, Mapping[str, Array]]] = {}
        self._cases: list[Case] | None = None
        self.notes: tuple[str, ...] = ()

    def of(self, path: Path, card: Card, converter: Converter) -> Ledger:
        """The ledger of the file at ``path``, which carries ``card``, where ``converter`` says that it has to be run.

        Raises:
            ParityError: a case fails.
            ConversionError: no runtime takes the file.
            DeviceError: the file's runtime is missing, or dies on it.
        """
        from edgekit.quality.cases import again
        from edgekit.quality.parity import prove, require, with_rows
        from edgekit.quality.rounding import own_rounding
        from edgekit.quality.state import WHERE as STATE
        from edgekit.quality.steps import WHERE as STEPS

        with _opened(path, converter) as runner:
            run = _tolerant(_advised(runner.run, path, converter.advice), card)
            state, cases = self._state(path, run), [*self.cases, *again(self.cases)]
            ledger = prove(self._reference, run, cases, self.tolerance, partial(own_rounding, self.capture))
            steps = self._steps(runner)
        bad, leaks = ledger.first_failure, not all(row.passed for row in state)
        if bad is not None and not bad.reference_failed:
            from edgekit.quality.locate import locate
            from edgekit.quality.repeat import require_repeatable

            failed = next(c for c, row in zip(cases, ledger.cases, strict=True) if not row.passed)
            require_repeatable(self.capture, failed.feed, bad.limit)
            if not leaks:
                ledger = replace(ledger, first_divergence=locate(self.capture, path, failed.feed))
        if leaks:
            ledger = replace(ledger, cases=(*state, *ledger.cases), first_divergence=STATE)
        ledger = with_rows(with_rows(ledger, () if leaks else state, STATE), steps, STEPS)
        require(ledger, path.name, f"the network {self.capture.network.name!r}")
        return ledger

    def _state(self, path: Path, run: Function) -> tuple[CaseResult, ...]:
        """Runs a recurrent file on the same inputs twice; nothing for other files."""
        from edgekit.quality.state import has_recurrent_layers, is_recurrent, state_cases

        if not has_recurrent_layers(self.capture.module) and not is_recurrent(open_artifact(path)):
            return ()
        return state_cases(run, self.cases)

    def _steps(self, runner: Runner) -> tuple[CaseResult, ...]:
        """Steps of a streaming file against the network of sequences; nothing for other files."""
        if self.sequence is None:
            return ()
        from edgekit.quality.cases import cases
        from edgekit.quality.steps import LONG, accepted, stream_cases, whole_steps
        from edgekit.runtime.torch import TorchModuleRunner

        stream, whole = runner.stream(), self.sequence
        card = self.capture.network.card
        assert card.streaming is not None  # made by one_step
        signature, contract = card.streaming.sequence, whole.card.contract
        examples, *samples = (
            whole_steps(feed, stream) for feed in (whole.example_inputs, *self.real.feeds(whole.signature, contract))
        )
        made = list(cases(signature, contract, examples=examples, samples=samples))
        long = next(cases(signature, contract, examples=whole_steps(examples, stream, LONG)))
        usual = [case.feed for case in (*made, long) if case.typical]
        odd = [whole_steps(case.feed, stream) for case in made if case.kind.startswith(f"{TIME}=")]
        reference = TorchModuleRunner(whole.module, signature).run
        return stream_cases(stream, reference, [*usual, *accepted(odd, reference)], self.tolerance)

    @property
    def cases(self) -> list[Case]:
        if self._cases is None:
            from edgekit.quality.cases import cases, with_possible_masks

            made = self.capture
            samples = (
                self.real.feeds(made.signature, made.contract) if self.sequence is None else []
            )  # a sample is a whole sequence
            self._cases = list(
                cases(
                    made.signature,
                    made.contract,
                    examples=made.shown,
                    samples=samples,
                    minimum=made.minimum,
                    maximum=made.maximum,
                )
            )
            if made.lengths_computed or is_foreign(made.module):
                self._leave_out()
            self._cases, notes = with_possible_masks(self._cases, self._reference)
            self.notes += notes
        return self._cases

    def _leave_out(self) -> None:
        """Cases that the network itself refuses, since the lengths it computes from them are not lengths; all others
        still have to pass."""
        assert self._cases is not None
        refused = {}
        for case in self._cases:
            try:
                self._reference(case.feed)
            except DeviceError as error:
                refused[case.kind] = str(error)
        self._cases = [case for case in self._cases if case.kind not in refused]
        if refused:
            kinds, why = ", ".join(refused), next(iter(refused.values()))
            self.notes = (f"not proved on inputs that the network itself refuses: {kinds} ({why})",)

    def selftest(self, made: Artifact, ledger: Ledger) -> SelfTest | None:
        """Seeded inputs of ``made`` with the module's outputs; None where the module has no answer to such inputs."""
        from edgekit.data.seeded import seeded_feed

        if self.capture.minimum:  # every device replays with dynamic dimensions at 1
            return None
        assert made.card is not None
        feed = seeded_feed(made.card.signature, contract_of(made), SELFTEST_SEED)
        try:
            outputs = self.capture.reference(feed)
        except DeviceError:
            return None
        if not all(np.isfinite(value).all() for value in outputs.values()):
            return None
        kept = {key: tuple(float(v) for v in value.ravel()[:SELFTEST_VALUES]) for key, value in outputs.items()}
        return SelfTest(SELFTEST_SEED, kept, SELFTEST_RELATIVE * max(max(ledger.scale.values(), default=0.0), 1e-3))

    def _reference(self, feed: Feed) -> Mapping[str, Array]:
        if id(feed) not in self._known:
            self._known[id(feed)] = feed, self.capture.reference(feed)  # holds the feed, so that its id stays its own
        return self._known[id(feed)][1]


def proofs_of(
    converters: Mapping[str, Converter],
    network: Network,
    conversion: ConversionOptions,
    own_layout: bool,
    proof: Callable[[Capture], Proof],
) -> dict[str, Proof]:
    """The proof of each format, on the capture of its layout; formats of one layout share both.

    A TFLite file whose inputs the contract calls images has them channels-last, but for ``own_layout``, or where
    ``conversion`` says so of every format. Axes of ``conversion.dynamic`` count in the network's own layout there.
    """
    turned = turned_images(network)
    tflite = [key for key, converter in converters.items() if converter.format is Format.TFLITE]
    own_layout = own_layout or conversion.channels_last or (is_foreign(network.module) and not is_onnx(network.module))
    if own_layout or not tflite or not any(turned):
        return dict.fromkeys(converters, proof(Capture(network, conversion)))
    names = [spec.name for spec, flip in zip(network.signature.inputs, turned, strict=True) if flip]
    log.info(
        "%s is channels-last, (N, H, W, C), in the .tflite file, as apps have images; --channels-first keeps the "
        "network's own (N, C, H, W)",
        " and ".join(names),
    )
    last = replace(conversion, channels_last=True, dynamic=turned_axes(conversion.dynamic, network))
    proofs = dict.fromkeys(tflite, proof(Capture(network, last)))
    if len(tflite) < len(converters):
        first = proof(Capture(network, conversion))
        proofs = {key: proofs.get(key, first) for key in converters}
    return proofs


@contextmanager
def _opened(path: Path, converter: Converter) -> Iterator[Runner]:
    """The converted file in a worker, on the device that ``converter`` says where it needs a runtime.

    Raises:
        ConversionError: no runtime takes the file, and a part of the network may be why.
        UnsupportedError: the runtime it was made for does not.
    """
    runtime, on = converter.runs_on, converter.proved_on
    if runtime is None and path.suffix != ".pt2":
        from edgekit.quality.failing import opened

        with opened(path, path.suffix[1:]) as runner:
            yield runner
        return
    from edgekit.devices import open_runner

    try:
        runner = open_runner(path, device=on, runtime=runtime)
    except (ModelError, RuntimeMissingError) as error:
        reason = str(error).removeprefix(str(path.absolute())).removeprefix(str(path)).removeprefix(":").strip()
        if converter.advice:
            raise UnsupportedError(
                f"{path.name} cannot be run: {reason}. {converter.advice}. Nothing was published"
            ) from error
        raise UnsupportedError(
            f"{path.name} cannot be proved on {on}, so nothing was published: it {reason}"
        ) from error
    with runner:
        yield runner


def _advised(run: Function, path: Path, advice: str) -> Function:
    """``run`` of a file that another tool made: one that the runtime loads and cannot run is the tool's failure."""

    def advised(feed: Feed) -> Mapping[str, Array]:
        try:
            return run(feed)
        except DeviceError as error:
            raise UnsupportedError(f"{error}. {path.name} cannot be used. {advice}. Nothing was published") from error

    return advised if advice else run


def _tolerant(run: Function, card: Card) -> Function:
    """``run`` on feeds whose integers may be wider than the file's (int64 in the module, int32 in TFLite)."""
    types = {spec.name: spec.dtype for spec in card.signature.inputs}
    return lambda feed: run({name: array.astype(types[name], copy=False) for name, array in feed.items()})
