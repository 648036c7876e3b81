"""``edgekit export``: a network becomes one file a format, each proved against the network, all published or none."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import registry
from edgekit.artifact import (
    is_saved_model,
    library_versions,
    open_artifact,
    sha256_file,
    writable_folder,
    write_card,
    writing,
)
from edgekit.converters.base import Capture, Converter, ExportOptions, Finish
from edgekit.errors import (
    ConversionError,
    DeviceError,
    ModelError,
    RuntimeMissingError,
    UnsupportedError,
    UsageError,
)
from edgekit.types import TIME, Array, Artifact, Card, Feed, Format, InputContract, Network, SelfTest, Signature, Step

if TYPE_CHECKING:
    from edgekit.quality.cases import Case
    from edgekit.quality.parity import CaseResult, Function, Ledger
    from edgekit.runtime.base import Runner

log = logging.getLogger("edgekit")
SELFTEST_SEED = 0
SELFTEST_VALUES = 64
"""Values of each output that a self-test keeps: enough to tell a wrong file, few enough for a small one."""
SELFTEST_RELATIVE = 1e-3
"""Tolerance of a self-test, of the outputs' scale: ten times the proof's, since other CPUs sum in other orders."""


@dataclass(frozen=True, slots=True)
class ExportedArtifact:
    """One published file and its proof. ``seconds``: conversion and proof, which overlap between formats."""

    artifact: Artifact
    bytes: int
    sha256: str
    seconds: float
    parity: Ledger
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {
            "path": str(self.artifact.path),
            "format": str(self.artifact.format),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "seconds": round(self.seconds, 3),
            "parity": self.parity.document(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What ``edgekit export`` published."""

    source: str
    network: str
    signature: Signature
    artifacts: tuple[ExportedArtifact, ...]
    weights: str | None = None
    """``trained``, ``pretrained``, ``partly random`` or ``random``; None where the source does not say."""

    def document(self) -> dict[str, Any]:
        """CONTRACT's ``export`` document, without the envelope."""
        return {
            "source": self.source,
            "network": self.network,
            "weights": self.weights,
            "artifacts": [item.document() for item in self.artifacts],
        }


def export(
    source: str | Path,
    *,
    to: str | Sequence[str],
    out: str | Path,
    dynamic: Sequence[str] | Mapping[str, Mapping[int, str]] = (),
    opset: int | None = None,
    data: str | None = None,
    channels_last: bool = False,
    streaming: bool = False,
    name: str | None = None,
    tolerance: float | None = None,
) -> ExportResult:
    """Converts ``source`` to every format of ``to`` and publishes ``OUT/NAME.FORMAT``, once all of them are proved.

    Args:
        source: anything :func:`edgekit.source.resolve` takes.
        to: ``onnx``, ``tflite``, ``pt2``.
        out: folder for the files.
        dynamic: axes that may vary, ``image:0=batch`` each, or input -> axis -> name.
        opset: ONNX operator set.
        data: real samples to prove on, besides the made ones.
        channels_last: inputs of rank 4 are taken as (N, H, W, C).
        streaming: files of one step, with the state of recurrent layers as inputs and outputs; named NAME-step.
        name: file name without suffix; the network's own without it.
        tolerance: largest absolute difference that passes; see :func:`edgekit.quality.parity.prove`.

    Raises:
        UsageError: an option makes no sense, or the folder cannot be written.
        SourceError, DataError: the network or the samples cannot be had.
        UnsupportedError: the network cannot be written in one of the formats. Where a tool failed on it, the message
            names the smallest part that fails by itself, and ``OUT/repro_PART.py`` shows it.
        ParityError: a file's outputs differ; the message names the first layer that does. Nothing is published.
    """
    formats = _formats(to)
    options = ExportOptions(parse_dynamic(dynamic), opset, channels_last)
    _check_options(options, formats, name)
    if streaming and (options.dynamic or channels_last):
        given = "--dynamic" if options.dynamic else "--channels-last"
        raise UsageError(f"--streaming takes one step of a fixed shape in the network's own layout; leave {given} out")
    folder = writable_folder(out)
    converters = {item: _converter(item) for item in formats}
    if not is_saved_model(source):
        for converter in converters.values():
            converter.warm_up()
    from edgekit.source import origin, resolve

    network, sequence = resolve(str(source), name=name), None
    if streaming:
        from edgekit.converters.recurrent.streaming import one_step

        network, sequence = one_step(network, name), network
    converters = {item: converter.suited(network) for item, converter in converters.items()}
    for converter in converters.values():
        converter.check(network, options)
    capture = Capture(network, options)
    proof = _Proof(capture, data, tolerance, sequence)
    try:
        with _staging(folder) as stage:
            made = _convert_all(converters, capture, proof, stage, _file_name(network.name))
            published = [_publish(item, folder) for item in made]
    except ConversionError as error:
        from edgekit.quality.reproduce import located

        raise located(error, capture, str(source), folder) from error
    return ExportResult(str(source), network.name, capture.signature, tuple(published), origin(network.card))


def parse_dynamic(given: Sequence[str] | Mapping[str, Mapping[int, str]]) -> dict[str, dict[int, str]]:
    """``("image:0=batch",)`` -> ``{"image": {0: "batch"}}``.

    Raises:
        UsageError: not of the form INPUT:AXIS=NAME, or one axis named twice.
    """
    if isinstance(given, Mapping):
        return {name: dict(axes) for name, axes in given.items()}
    found: dict[str, dict[int, str]] = {}
    for text in [given] if isinstance(given, str) else given:
        match = re.fullmatch(r"(.+):(\d+)=(\w+)", text)
        if match is None:
            raise UsageError(f"--dynamic {text!r} is not INPUT:AXIS=NAME; for example image:0=batch")
        axes = found.setdefault(match[1], {})
        if axes.setdefault(int(match[2]), match[3]) != match[3]:
            raise UsageError(
                f"--dynamic names axis {match[2]} of {match[1]!r} twice: {axes[int(match[2])]}, {match[3]}"
            )
    return found


def _formats(to: str | Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys([to] if isinstance(to, str) else to))
    known = registry.names("converters")
    for item in wanted:
        if item not in known:
            raise UsageError(f"there is no format {item!r} to export to; there are: {', '.join(known)}")
    if not wanted:
        raise UsageError(f"no format was named; name one or more of: {', '.join(known)}")
    return wanted


def _check_options(options: ExportOptions, formats: Sequence[str], name: str | None) -> None:
    if options.opset is not None and str(Format.ONNX) not in formats:
        raise UsageError(f"--opset is for ONNX, but the formats are: {', '.join(formats)}; add --to onnx")
    if name is not None and _file_name(name) != name:
        raise UsageError(f"the name {name!r} is no plain file name; use letters, digits, '-', '_' and '.'")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "network"


def _converter(name: str) -> Converter:
    made = registry.lookup("converters", name)()
    if not isinstance(made, Converter):
        raise UsageError(f"the converter {name!r} is a {type(made).__name__}, no Converter")
    return made


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A private folder beside the files to come; whatever happens, it is gone afterwards."""
    with writing(folder), tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as stage:
        yield Path(stage)


@dataclass(frozen=True, slots=True)
class _Made:
    """A converted, proved file that is not published yet."""

    staged: Path
    card: Card
    seconds: float
    parity: Ledger
    notes: tuple[str, ...]


def _convert_all(
    converters: Mapping[str, Converter], capture: Capture, proof: _Proof, stage: Path, name: str
) -> list[_Made]:
    """Begins every conversion, then finishes and proves them: those that run here first, while the others run."""
    from edgekit.pipeline.learned_ranges import taken_along

    begun: dict[str, tuple[float, Path, Finish]] = {}
    for key in sorted(converters, key=lambda k: not converters[k].background):
        started, target = time.monotonic(), stage / f"{name}.{converters[key].format}"
        begun[key] = (started, target, converters[key].begin(capture, target))
    finished: dict[str, _Made] = {}
    for key in sorted(converters, key=lambda k: converters[k].background):
        started, target, finish = begun[key]
        here = time.monotonic()
        notes = (*finish(), *capture.notes)
        card = converters[key].card(capture)
        write_card(target, card)
        ledger = proof.of(target, card, converters[key])
        card, said = taken_along(capture.network, Artifact(target, converters[key].format, card))
        notes = (*notes, *ledger.notes, *said)
        begin = started if converters[key].background else here
        seconds = time.monotonic() - begin
        card = _finish_card(card, capture, proof, ledger, notes, converters[key])
        write_card(target, card)
        log.info("%s proved on %d inputs, largest difference %.1e", target.name, len(ledger.cases), ledger.max_abs)
        finished[key] = _Made(target, card, seconds, ledger, notes)
    return [finished[key] for key in converters]


def _finish_card(
    card: Card, capture: Capture, proof: _Proof, ledger: Ledger, notes: tuple[str, ...], converter: Converter
) -> Card:
    """The card with its step, its self-test and its notes."""
    options, format_ = capture.options, converter.format
    params: dict[str, Any] = {"format": str(format_), "max_abs": ledger.max_abs, "cases": len(ledger.cases)}
    if options.dynamic:
        params["dynamic"] = [f"{n}:{a}={d}" for n, axes in options.dynamic.items() for a, d in axes.items()]
    if format_ is Format.ONNX and options.opset is not None:
        params["opset"] = options.opset
    if proof.sequence is not None:
        params["streaming"] = True
    if options.channels_last:
        params["channels_last"] = True
    if proof.data is not None:
        params["data"] = proof.data
    if converter.proved_on != "cpu":
        params["proved_on"] = converter.proved_on
    selftest = proof.selftest(card, ledger)
    card = replace(card, selftest=selftest)
    if selftest is None:
        notes = (*notes, "no self-test: the network does not take integers from 0 to 9, or sizes of 1")
    return card.with_step(Step("export", params, library_versions(*converter.packages)), *notes)


class _Proof:
    """Proves files of one capture; what the module gives for each case is computed once for all formats."""

    def __init__(
        self, capture: Capture, data: str | None, tolerance: float | None, sequence: Network | None = None
    ) -> None:
        self.capture, self.data, self.tolerance, self.sequence = capture, data, tolerance, sequence
        self._known: dict[int, dict[str, Array]] = {}
        self._cases: list[Case] | None = None
        self._dataset = None
        if data is not None:
            from edgekit.data import open_data

            self._dataset = open_data(data)

    def of(self, path: Path, card: Card, converter: Converter) -> Ledger:
        """The ledger of the file at ``path``, which carries ``card``, where ``converter`` says that it has to be run.

        Raises:
            ParityError: a case fails.
            ConversionError: no runtime takes the file.
            DeviceError: the file's runtime is missing, or dies on it.
        """
        from edgekit.quality.parity import prove, require, with_rows
        from edgekit.quality.rounding import own_rounding
        from edgekit.quality.state import WHERE as STATE
        from edgekit.quality.steps import WHERE as STEPS

        with _opened(path, converter.runs_on, converter.proved_on) as runner:
            run = _tolerant(runner.run, card)
            ledger = prove(self._reference, run, self.cases, self.tolerance, partial(own_rounding, self.capture))
            state = self._state(path, run)
            steps = self._steps(runner)
        bad = ledger.first_failure
        if bad is not None and not bad.reference_failed:
            from edgekit.quality.locate import locate
            from edgekit.quality.repeat import require_repeatable

            failed = next(c for c, row in zip(self.cases, ledger.cases, strict=True) if not row.passed)
            require_repeatable(self.capture, failed.feed, bad.limit)
            ledger = replace(ledger, first_divergence=locate(self.capture, path, failed.feed))
        ledger = with_rows(with_rows(ledger, state, STATE), steps, STEPS)
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
        from edgekit.quality.steps import stream_cases
        from edgekit.runtime.torch import TorchModuleRunner

        stream, whole = runner.stream(), self.sequence
        card = self.capture.network.card
        assert card.streaming is not None  # made by one_step
        signature, contract = card.streaming.sequence, whole.card.contract
        made = cases(
            signature, contract, examples=whole.example_inputs, samples=self._samples(whole.signature, contract)
        )
        feeds = [case.feed for case in made if case.typical or case.kind.startswith(f"{TIME}=")]
        reference = TorchModuleRunner(whole.module, signature).run
        return stream_cases(stream, reference, feeds, self.tolerance)

    @property
    def cases(self) -> list[Case]:
        if self._cases is None:
            from edgekit.quality.cases import cases

            made = self.capture
            samples = (
                self._samples(made.signature, made.contract) if self.sequence is None else []
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
        return self._cases

    def selftest(self, card: Card, ledger: Ledger) -> SelfTest | None:
        """Seeded inputs with the module's outputs; None where the module does not take such inputs."""
        from edgekit.data.seeded import seeded_feed

        if self.capture.minimum:  # every device replays with dynamic dimensions at 1
            return None
        feed = seeded_feed(card.signature, card.contract, SELFTEST_SEED)
        try:
            outputs = self.capture.reference(feed)
        except DeviceError:
            return None
        kept = {key: tuple(float(v) for v in value.ravel()[:SELFTEST_VALUES]) for key, value in outputs.items()}
        return SelfTest(SELFTEST_SEED, kept, SELFTEST_RELATIVE * max(max(ledger.scale.values(), default=0.0), 1e-3))

    def _reference(self, feed: Feed) -> Mapping[str, Array]:
        if id(feed) not in self._known:
            self._known[id(feed)] = self.capture.reference(feed)
        return self._known[id(feed)]

    def _samples(self, signature: Signature, contract: Mapping[str, InputContract]) -> list[Feed]:
        if self._dataset is None:
            return []
        from edgekit.data import stratified
        from edgekit.data.preprocess import feeds
        from edgekit.quality.cases import SAMPLES

        return list(feeds(stratified(self._dataset, SAMPLES), signature, contract))


@contextmanager
def _opened(path: Path, runtime: str | None, on: str) -> Iterator[Runner]:
    """The converted file in a worker, on the device ``on`` where it needs ``runtime``.

    Raises:
        ConversionError: no runtime takes the file.
        UnsupportedError: the runtime it was made for does not.
    """
    if runtime is None:
        from edgekit.quality.failing import opened

        with opened(path, path.suffix[1:]) as runner:
            yield runner
        return
    from edgekit.devices import open_runner

    try:
        runner = open_runner(path, device=on, runtime=runtime)
    except (ModelError, RuntimeMissingError) as error:
        reason = str(error).removeprefix(str(path)).removeprefix(":").strip()
        raise UnsupportedError(
            f"{path.name} cannot be proved on {on}, so nothing was published: it {reason}"
        ) from error
    with runner:
        yield runner


def _tolerant(run: Function, card: Card) -> Function:
    """``run`` on feeds whose integers may be wider than the file's (int64 in the module, int32 in TFLite)."""
    types = {spec.name: spec.dtype for spec in card.signature.inputs}
    return lambda feed: run({name: array.astype(types[name], copy=False) for name, array in feed.items()})


def _publish(item: _Made, folder: Path) -> ExportedArtifact:
    target = folder / item.staged.name
    with writing(target):
        os.replace(item.staged, target)
    artifact = Artifact(target, Format(target.suffix[1:]), item.card)
    return ExportedArtifact(artifact, target.stat().st_size, sha256_file(target), item.seconds, item.parity, item.notes)
