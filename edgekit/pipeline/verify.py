"""``edgekit verify``: a model file against another file or its source, case by case, and against its own self-test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.artifact import contract_of, is_saved_model, open_artifact, sha256_model
from edgekit.bench.shapes import Shapes, free_dims, parse_shapes
from edgekit.errors import UsageError
from edgekit.options.base import with_options
from edgekit.options.measure import VerifyOptions
from edgekit.pipeline.real_inputs import RealInputs
from edgekit.quality.alignment import Alignment, align
from edgekit.quality.cases import Case, cases, with_possible_masks
from edgekit.quality.contents import with_iospec
from edgekit.quality.parity import RELATIVE, prove, with_rows
from edgekit.quality.state import WHERE, has_recurrent_layers, is_recurrent, state_cases
from edgekit.results.proof import SELF_TEST, CaseResult, VerifyResult
from edgekit.runtime.precision import allowance, precision_of, selftest_tolerance
from edgekit.runtime.stream import sequences, streaming_of
from edgekit.types import Array, Artifact, Feed, InputSpec, Network, Signature, TensorSpec

if TYPE_CHECKING:
    from edgekit.runtime.base import Runner

log = logging.getLogger("edgekit")
_FILES = (".onnx", ".tflite", ".pt2")


@dataclass(frozen=True, slots=True)
class _Reference:
    """What a model is compared with: a function of feeds, and what is known about it."""

    run: Callable[[Feed], Mapping[str, Array]]
    signature: Signature
    contract: Mapping[str, InputSpec]
    network: Network | None = None
    artifact: Artifact | None = None


@with_options(VerifyOptions)
def verify(options: VerifyOptions) -> VerifyResult:
    """Runs ``model`` and ``against`` on the same inputs and compares their outputs; replays the card's self-test.

    Inputs and outputs are matched by name, else by position; (N, H, W, C) is turned where the other takes (N, C, H, W).

    Raises:
        ModelError, SourceError, DataError: a file, network or data set cannot be read.
        UsageError: the two have inputs or outputs that do not fit each other.
        DeviceError: a runtime failed.
    """
    from edgekit.devices import open_runner

    artifact = with_iospec(open_artifact(options.model), options.io_file)
    real, shapes = (
        RealInputs(options.data, None if options.input is None else str(options.input)),
        parse_shapes(options.shape),
    )
    with ExitStack() as stack:
        opened = stack.enter_context(open_runner(artifact.path, device=options.on, runtime=options.runtime))
        inputs = {spec.name for spec in opened.signature.inputs}
        of_inputs = {**_exported_at(artifact), **{name: size for name, size in shapes.items() if name in inputs}}
        reference = _reference(str(options.against), stack, of_inputs, options)
        both = reference.artifact is not None and streaming_of(reference.artifact.card) is not None
        runner = opened if both else sequences(opened)  # two files of one step are compared step by step
        own = contract_of(artifact)
        free = reference.network is not None
        side = align(runner.signature, reference.signature, own, reference.contract, free=free)
        contract = own if artifact.card is not None else {**own, **side.contract(reference.contract)}
        relative, fewer = _relative(runner.name)
        notes = (*side.notes, *fewer)
        for note in notes:
            log.info("%s", note)
        run = _reference_run(reference, side)
        held = free_dims(runner.signature, shapes)
        shown, samples = _examples(side, reference), real.feeds(side.signature, contract)
        made = list(cases(side.signature, contract, examples=shown, samples=samples, held=held))
        checked, said = with_possible_masks(made, side.reference(run))
        for note in said:
            log.info("%s", note)
        ledger = prove(side.reference(run), runner.run, checked, options.tolerance, relative=relative)
        recurrent = is_recurrent(artifact) or _is_recurrent(reference)
        state = state_cases(runner.run, checked) if recurrent else ()
        bad = ledger.first_failure
        if bad is not None and not bad.reference_failed:
            failed = next(c for c, row in zip(checked, ledger.cases, strict=True) if not row.passed)
            found = _first_divergence(artifact, reference, side, failed.feed)
            ledger = replace(ledger, first_divergence=found)
            likely = _likely(artifact, reference, options)
            said = (*said, *likely)
            for note in likely:
                log.info("%s", note)
        ledger = with_rows(ledger, state, WHERE)
        selftest = replay(opened, artifact)
        name = runner.name
    digest = sha256_model(artifact.path)
    return VerifyResult(
        model=artifact.path,
        sha256=digest,
        against=str(options.against),
        runtime=name,
        device=options.on,
        notes=(*notes, *said),
        ledger=ledger,
        selftest=selftest,
    )


def _likely(artifact: Artifact, reference: _Reference, options: VerifyOptions) -> tuple[str, ...]:
    """Why the two differ, where their cards give a reason."""
    card, network = artifact.card, reference.network
    if card is None:
        return ()
    weights = (card.source_sha256, "" if network is None else network.card.source_sha256)
    if all(weights) and weights[0] != weights[1]:
        return (
            f"{options.against} has other weights than {artifact.path.name} was made from; --weights FILE names them",
        )
    if options.tolerance is None and any(step.name == "quantize" for step in card.steps):
        return (f"{artifact.path.name} is quantized, and rounds; --tolerance says how much that may change",)
    return ()


def replay(runner: Runner, artifact: Artifact) -> CaseResult | None:
    """The card's self-test run again: seeded inputs, and the outputs they must give. None without one."""
    from edgekit.data.seeded import seeded_feed

    if artifact.card is None or artifact.card.selftest is None:
        return None
    promised = artifact.card.selftest
    outputs = runner.run(seeded_feed(runner.signature, contract_of(artifact), promised.seed))
    wanted = {name: np.asarray(values, np.float64) for name, values in promised.outputs.items()}
    got = {name: outputs[name].ravel()[: len(wanted[name])] for name in wanted}
    case = Case(SELF_TEST, {})
    tolerance = selftest_tolerance(promised, runner.name)
    return prove(lambda _: wanted, lambda _: got, [case], tolerance).cases[0]


def _relative(runtime: str) -> tuple[float, tuple[str, ...]]:
    """The share of an output's scale that it may be off in ``runtime``, and what to say where that is more than in
    float32."""
    precision = precision_of(runtime)
    share = max(RELATIVE, allowance(precision))
    if share == RELATIVE:
        return RELATIVE, ()
    return share, (
        f"{runtime} computes in {precision}: an output may be off by {100 * share:.2g}% of its largest value",
    )


def _is_recurrent(reference: _Reference) -> bool:
    """Whether the reference has recurrent layers, which the file that is verified may hold unrolled."""
    if reference.network is not None:
        return has_recurrent_layers(reference.network.module)
    return reference.artifact is not None and is_recurrent(reference.artifact)


def _exported_at(artifact: Artifact) -> Shapes:
    """The shapes that the file was exported at, where they were not the network's own."""
    steps = artifact.card.steps if artifact.card is not None else ()
    return parse_shapes([text for step in steps if step.name == "export" for text in step.params.get("shape", ())])


def _reference(against: str, stack: ExitStack, shapes: Shapes, options: VerifyOptions) -> _Reference:
    """``shapes``: of inputs, for a network that has other examples or none."""
    if Path(against).suffix.lower() in _FILES or is_saved_model(against):
        for flag, given in (("--factory", options.factory), ("--weights", options.weights)):
            if given is not None:
                raise UsageError(f"{flag} goes with a network, and {against} is a model file; leave it out")
        from edgekit.devices import open_runner

        artifact = open_artifact(against)
        runner = stack.enter_context(open_runner(artifact.path))
        return _Reference(runner.run, runner.signature, contract_of(artifact), artifact=artifact)
    from edgekit.runtime.torch import TorchModuleRunner
    from edgekit.source import resolve

    network = resolve(against, shapes=shapes, factory=options.factory, weights=options.weights)
    run = TorchModuleRunner(network.module, network.signature).run
    return _Reference(run, network.signature, network.card.contract, network=network)


def _reference_run(reference: _Reference, side: Alignment) -> Callable[[Feed], Mapping[str, Array]]:
    """The reference's run; a module in memory is let take the sizes that the model leaves open."""
    if reference.network is None:
        return reference.run
    from edgekit.runtime.torch import TorchModuleRunner

    inputs = []
    for pair in side.inputs:
        inputs.append(TensorSpec(pair.theirs.name, pair.theirs.dtype, pair.there))
    return TorchModuleRunner(reference.network.module, Signature(tuple(inputs), reference.signature.outputs)).run


def _examples(side: Alignment, reference: _Reference) -> Feed | None:
    """The network's example inputs in the model's layout; None where the reference is a file or sizes differ."""
    if reference.network is None:
        return None
    examples = {}
    for pair in side.inputs:
        array = reference.network.example_inputs[pair.theirs.name]
        array = array if pair.back is None else pair.back(array)
        array = array if pair.order is None else array.transpose(np.argsort(pair.order))
        if any(isinstance(d, int) and d != n for d, n in zip(pair.mine.shape, array.shape, strict=True)):
            return None
        examples[pair.mine.name] = np.asarray(array, order="C").astype(pair.mine.dtype)
    return examples


def _takes_raw_pixels(artifact: Artifact) -> bool:
    steps = artifact.card.steps if artifact.card is not None else ()
    return any(step.params.get("raw_pixels") for step in steps if step.name == "export")


def _first_divergence(artifact: Artifact, reference: _Reference, side: Alignment, feed: Feed) -> str | None:
    from edgekit.converters.base import Capture, ConversionOptions
    from edgekit.converters.pixels import with_raw_pixels
    from edgekit.quality.locate import locate, locate_between

    if reference.network is not None:
        turned, network = any(pair.order is not None for pair in side.inputs), reference.network
        if any(pair.pixels is not None for pair in side.inputs):
            if not _takes_raw_pixels(artifact):
                return None
            mixed = any(pair.pixels is not None and pair.pixels.mixes for pair in side.inputs)
            network = with_raw_pixels(network, rgb=mixed)
        capture = Capture(network, ConversionOptions(channels_last=turned))
        feed = {pair.theirs.name: feed[pair.mine.name].astype(pair.theirs.dtype) for pair in side.inputs}
        return locate(capture, artifact.path, feed, {p.theirs.name: p.mine.name for p in side.inputs})
    assert reference.artifact is not None  # a reference is a network or a file
    return locate_between(reference.artifact, side.feed(feed), artifact, feed)
