"""``edgekit export``: a network becomes one file a format, each proved against the network before it is published."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import registry
from edgekit.artifact import is_saved_model, read_card, sha256_file, write_card
from edgekit.bench.shapes import parse_shapes
from edgekit.converters.base import ConversionOptions, Converter, Finish, check_dynamic
from edgekit.errors import ConversionError, EdgekitError, GateError, ModelError, UsageError
from edgekit.flatbuffer_reader import keeps_variables
from edgekit.leftovers import sweep, temporary_name
from edgekit.options.base import with_options
from edgekit.options.export import ExportOptions
from edgekit.outputs import check_output, is_stream, output_folder, publish, writing
from edgekit.pipeline.export_files import check_file_source, check_not_the_source
from edgekit.pipeline.meaning import as_said
from edgekit.pipeline.proof import Proof, proofs_of
from edgekit.pipeline.real_inputs import RealInputs
from edgekit.progress import task
from edgekit.results.proof import ExportedArtifact, ExportResult, Ledger
from edgekit.runtime.stream import streaming_notes
from edgekit.source.module import is_module, modes_kept
from edgekit.types import TIME, Artifact, Card, Format, Network, Step

log = logging.getLogger("edgekit")


@with_options(ExportOptions)
def export(options: ExportOptions) -> ExportResult:
    """Converts ``source`` to every format of ``to`` and publishes each ``OUT/NAME.FORMAT`` that is proved.

    Raises:
        UsageError: an option makes no sense, the folder cannot be written, or holds a file of that name that was made
            from other weights.
        SourceError, DataError: the network or the samples cannot be had.
        UnsupportedError: the network cannot be written in one of the formats. Where a tool failed on it, the message
            names the smallest part that fails by itself, and ``OUT/repro_PART.py`` shows it.
        ParityError: a file's outputs differ; the message names the first layer that does. Nothing is published.
        GateError: one format failed, and another is published; the message names both.
    """
    with modes_kept(options.source) if is_module(options.source) else nullcontext():
        return _exported(options)


def _exported(options: ExportOptions) -> ExportResult:
    formats = _formats(options.to)
    conversion = ConversionOptions(
        parse_dynamic(options.dynamic),
        opset=options.opset,
        channels_last=options.channels_last,
        stateful=options.stateful,
        optimize=options.optimize,
    )
    _check_options(options, conversion, formats)
    folder = _folder(Path(options.out))
    real = RealInputs(options.data, None if options.input is None else str(options.input))
    converters = {item: _converter(item) for item in formats}
    own = is_module(options.source)
    if own or not is_saved_model(options.source):
        for converter in converters.values():
            converter.warm_up()
    from edgekit.source import origin, resolve
    from edgekit.source.foreign import is_onnx
    from edgekit.source.module import of_module, spelled
    from edgekit.source.onnxfile import closed
    from edgekit.source.sizes import of_axes, resized

    source, sizes = spelled(options.source) if own else str(options.source), parse_shapes(options.shape)
    named = {axis for axes in conversion.dynamic.values() for axis in axes.values()}
    shapes = {key: size for key, size in sizes.items() if key not in named}
    if own:
        network = resized(of_module(options.source, options.inputs, options.name), shapes)
    else:
        network = resolve(source, name=options.name, shapes=shapes, factory=options.factory, weights=options.weights)
    network, raw = as_said(network, options, real)
    if is_onnx(network.module) and str(Format.TFLITE) in formats:
        network = closed(network)
    open_axes = of_axes(network, sizes, conversion.dynamic)
    network, sequence = resized(network, open_axes), None
    conversion = replace(conversion, shapes={**shapes, **open_axes}, raw_pixels=raw)
    if options.streaming:
        from edgekit.converters.streaming.one_step import one_step

        check_dynamic(network.signature, conversion.dynamic)
        time = {key: axis for key, axes in conversion.dynamic.items() for axis in axes}
        network, sequence = one_step(network, options.name, time), network
        conversion = replace(conversion, dynamic={})
    converters = {item: converter.suited(network) for item, converter in converters.items()}
    for converter in converters.values():
        converter.check(network, conversion)
    own_layout = options.channels_first or options.streaming
    proofs = proofs_of(
        converters, network, conversion, own_layout, lambda made: Proof(made, real, options.tolerance, sequence)
    )
    file_name = _file_name(network.name)
    targets = [folder / f"{file_name}.{converter.format}" for converter in converters.values()]
    if not own:
        check_not_the_source(options, targets)
    if not options.overwrite:
        _check_replaced(targets, network)
    again = None if own else (source, options.factory)
    published = _proved(converters, proofs, folder, file_name, again)
    return ExportResult(
        source=source,
        network=network.name,
        weights=origin(network.card),
        artifacts=tuple(published),
        signature=next(iter(proofs.values())).capture.signature,
    )


def parse_dynamic(given: Sequence[str] | Mapping[str, Mapping[int, str]]) -> dict[str, dict[int, str]]:
    """``("image:0=batch",)`` -> ``{"image": {0: "batch"}}``.

    Raises:
        UsageError: not of the form INPUT:AXIS=NAME, or one axis named twice.
    """
    if isinstance(given, Mapping):
        return {name: dict(axes) for name, axes in given.items()}
    found: dict[str, dict[int, str]] = {}
    for text in [given] if isinstance(given, str) else given:
        match = re.fullmatch(r"(.+):([0-9]{1,9})=(\w+)", text)
        if match is None:
            raise UsageError(f"--dynamic {text!r} is not INPUT:AXIS=NAME; for example image:0=batch")
        axes = found.setdefault(match[1], {})
        if axes.setdefault(int(match[2]), match[3]) != match[3]:
            raise UsageError(
                f"--dynamic names axis {match[2]} of {match[1]!r} twice: {axes[int(match[2])]}, {match[3]}"
            )
    return found


def _formats(to: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(to))
    known = registry.names("converters")
    for item in wanted:
        if item not in known:
            raise UsageError(f"there is no format {item!r} to export to; there are: {', '.join(known)}")
    if not wanted:
        raise UsageError(f"no format was named; name one or more of: {', '.join(known)}")
    return wanted


def _folder(out: Path) -> Path:
    """The folder for the files, not yet made; UsageError for what is named like one of them, or cannot be written."""
    if out.suffix.removeprefix(".") in {item.value for item in Format} and not out.is_dir():
        raise UsageError(
            f"-o takes a folder for the files, and {out} is named like a file; give -o {out.parent} --name {out.stem}"
        )
    check_output(out / "file")
    return out


def _proved(
    converters: Mapping[str, Converter],
    proofs: Mapping[str, Proof],
    folder: Path,
    name: str,
    named: tuple[str, str | None] | None,
) -> list[ExportedArtifact]:
    """What was converted, proved and published; ``named``: the source, and what builds its network;
    None for a module that only the caller has.

    Raises:
        EdgekitError: a format failed, see :func:`export`.
    """
    from edgekit.quality.reproduce import Named, located

    failed: dict[str, EdgekitError] = {}
    try:
        with _staging(folder, name, converters.values()) as stage:
            made, failed = _convert_all(converters, proofs, stage, name)
            if not made:
                raise next(iter(failed.values()))
            published = [_publish(item, folder) for item in made]
    except ConversionError as error:
        key = next((key for key, failure in failed.items() if failure is error), next(iter(proofs)))
        raise located(error, proofs[key].capture, named and Named(*named), folder) from error
    for key, failure in failed.items():
        if isinstance(failure, ConversionError):
            failed[key] = located(failure, proofs[key].capture, named and Named(*named), folder)
    if failed:
        raise _failure(published, failed)
    return published


def _failure(published: Sequence[ExportedArtifact], failed: Mapping[str, EdgekitError]) -> GateError:
    """What to raise where one format is published and another failed: what became of each."""
    paths = " and ".join(str(item.artifact.path) for item in published)
    said = "; ".join(
        f"{key} failed, and no .{key} file was published: {str(error).replace('. Nothing was published', '')}"
        for key, error in failed.items()
    )
    made = GateError(f"{paths} {'was' if len(published) == 1 else 'were'} proved and published; {said}")
    made.__cause__ = next(iter(failed.values()))
    return made


def _check_replaced(targets: Sequence[Path], network: Network) -> None:
    """Refuses to replace a file whose card says that it was made from other weights.

    Raises:
        UsageError: with what to do.
    """
    own = network.card.source_sha256
    for target in targets:
        if not own or is_stream(target) or not target.is_file():
            continue
        try:
            card = read_card(target)
        except ModelError:  # of no format that has a card: nothing is known of it
            continue
        if card is not None and card.source_sha256 and card.source_sha256 != own:
            raise UsageError(
                f"{target} was made from other weights, of {card.name!r} ({card.source_sha256[:12]}…, these are "
                f"{own[:12]}…); give --overwrite to replace it, or another -o or --name"
            )


def _check_options(options: ExportOptions, conversion: ConversionOptions, formats: Sequence[str]) -> None:
    if not is_module(options.source):
        check_file_source(options, formats)
    if is_module(options.source) and (options.weights is not None or options.factory is not None):
        raise UsageError("weights and factory are for a network that is named; load the state dict into your module")
    free = sorted({name for axes in conversion.dynamic.values() for name in axes.values()} - {TIME})
    if options.streaming and (free or options.channels_last or options.stateful):
        given = f"--dynamic ...={free[0]}" if free else "--channels-last" if options.channels_last else "--stateful"
        raise UsageError(
            "--streaming takes one step of a fixed shape in the network's own layout, with the state as inputs and "
            f"outputs; leave {given} out (--dynamic INPUT:AXIS={TIME} says which axis is time, where that is not clear)"
        )
    if options.channels_first and options.channels_last:
        raise UsageError("--channels-first and --channels-last contradict each other; give one")
    if options.mediapipe and str(Format.TFLITE) not in formats:
        raise UsageError(f"--mediapipe is for TFLite, but the formats are: {', '.join(formats)}; add --to tflite")
    if options.mediapipe and options.channels_first:
        raise UsageError("MediaPipe takes channels-last files; leave --channels-first out")
    if options.streaming and any(len(axes) != 1 for axes in conversion.dynamic.values()):
        raise UsageError(f"--dynamic names two axes {TIME!r} of one input; with --streaming, one is that of its steps")
    if options.opset is not None and str(Format.ONNX) not in formats:
        raise UsageError(f"--opset is for ONNX, but the formats are: {', '.join(formats)}; add --to onnx")
    if options.stateful and str(Format.TFLITE) not in formats:
        raise UsageError(f"--stateful is for TFLite, but the formats are: {', '.join(formats)}; add --to tflite")
    if options.name is not None and _file_name(options.name) != options.name:
        raise UsageError(f"the name {options.name!r} is not a plain file name; use letters, digits, '-', '_' and '.'")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "network"


def _converter(name: str) -> Converter:
    made = registry.lookup("converters", name)()
    if not isinstance(made, Converter):
        raise UsageError(f"the converter {name!r} is a {type(made).__name__}, no Converter")
    return made


@contextmanager
def _staging(folder: Path, name: str, converters: Iterable[Converter]) -> Iterator[Path]:
    """A private folder beside the files ``name`` to come; whatever happens, it is gone afterwards."""
    for converter in converters:
        check_output(folder / f"{name}.{converter.format}")
    with writing(folder), output_folder(folder):
        sweep(folder)
        stage = folder / temporary_name("export")
        stage.mkdir(0o700, parents=True)  # another run that failed may have taken the empty folder away
        try:
            yield stage
        finally:
            shutil.rmtree(stage)


@dataclass(frozen=True, slots=True)
class _StagedFile:
    """A converted, proved file that is not published yet."""

    staged: Path
    card: Card
    seconds: float
    parity: Ledger
    notes: tuple[str, ...]


def _convert_all(
    converters: Mapping[str, Converter], proofs: Mapping[str, Proof], stage: Path, name: str
) -> tuple[list[_StagedFile], dict[str, EdgekitError]]:
    """Begins every conversion, then finishes and proves them: those that run here first, while the others run.

    Gives the proved files, and the errors of the formats that failed.
    """
    begun: dict[str, tuple[float, Path, Finish]] = {}
    finished: dict[str, _StagedFile] = {}
    failed: dict[str, EdgekitError] = {}
    log.info("converting %s to %s", name, " and ".join(converters))
    with task(f"exporting {name}", len(converters), even=False) as going:
        for key in sorted(converters, key=lambda k: not converters[k].background):
            going.update(0, detail=f"converting to {key}")
            started, target = time.monotonic(), stage / f"{name}.{converters[key].format}"
            with _noting(failed, key):
                begun[key] = (started, target, converters[key].begin(proofs[key].capture, target))
        for number, key in enumerate(sorted(begun, key=lambda k: converters[k].background)):
            going.update(number, detail=f"converting to {key} and proving it")
            with _noting(failed, key):
                finished[key] = _finished(converters[key], proofs[key], *begun[key])
    return [finished[key] for key in converters if key in finished], {k: failed[k] for k in converters if k in failed}


@contextmanager
def _noting(failed: dict[str, EdgekitError], key: str) -> Iterator[None]:
    """The other formats go on where this one fails; wrong usage ends them all."""
    try:
        yield
    except UsageError:
        raise
    except EdgekitError as error:
        failed[key] = error


def _finished(converter: Converter, proof: Proof, started: float, target: Path, finish: Finish) -> _StagedFile:
    """Waits for one conversion, proves its file, and writes the card."""
    from edgekit.pipeline.learned_ranges import taken_along

    here, capture = time.monotonic(), proof.capture
    notes = (*finish(), *capture.notes, *_streaming(capture.network, proof.sequence))
    card, state = _state(target, converter.card(capture), capture.options.stateful)
    write_card(target, card)
    log.info("proving %s", target.name)
    ledger = proof.of(target, card, converter)
    card, said = taken_along(capture.network, Artifact(target, converter.format, card))
    notes = (*notes, *ledger.notes, *proof.notes, *said, *state)
    seconds = time.monotonic() - (started if converter.background else here)
    card = _finish_card(Artifact(target, converter.format, card), proof, ledger, notes, converter)
    write_card(target, card)
    log.info("%s proved on %d inputs, largest difference %.1e", target.name, len(ledger.cases), ledger.max_abs)
    return _StagedFile(target, card, seconds, ledger, notes)


def _streaming(network: Network, sequence: Network | None) -> tuple[str, ...]:
    """What is to be known of a file of one step: how its steps make a sequence, and what of the contract is another."""
    if sequence is None:
        return ()
    changed = sorted(key for key, rule in network.card.contract.items() if rule != sequence.card.contract[key])
    level = (
        f"the level of {key!r} is that of the sound so far (running): the contract's, the loudest sample of the whole "
        "recording (peak), is known only at its end. eval on this file says what that costs"
        for key in changed
    )
    return (*streaming_notes(network.card), *level)


def _state(target: Path, card: Card, stateful: bool) -> tuple[Card, tuple[str, ...]]:
    """Makes a TFLite file at ``target`` start every call from zeros, or leaves it ``stateful``; its card says which.

    Raises:
        UsageError: it shall keep a state, and has none.
        GateError: an operator keeps a state that cannot be put back in front of every call.
    """
    if target.suffix != f".{Format.TFLITE}":
        return card, ()
    content = target.read_bytes()
    if not keeps_variables(content):
        if stateful:
            raise UsageError(f"--stateful: no operator of {target.name} keeps a state in variables; leave it out")
        return card, ()
    card = replace(card, stateful=stateful)
    if stateful:
        from edgekit.quality.contents import operators
        from edgekit.quality.state import rule

        kinds = operators(Artifact(target, Format.TFLITE))
        return card, (f"keeps its state between calls: {rule(kinds)}",)
    from edgekit.quantization.tflite.stateless import stateless

    target.write_bytes(stateless(content))
    return card, ()


def _finish_card(made: Artifact, proof: Proof, ledger: Ledger, notes: tuple[str, ...], converter: Converter) -> Card:
    """The card with its step, its self-test and its notes."""
    options, format_ = proof.capture.options, converter.format
    params: dict[str, Any] = {"format": str(format_), "max_abs": ledger.max_abs, "cases": len(ledger.cases)}
    if options.dynamic:
        params["dynamic"] = [f"{n}:{a}={d}" for n, axes in options.dynamic.items() for a, d in axes.items()]
    if format_ is Format.ONNX and options.opset is not None:
        params["opset"] = options.opset
    if proof.sequence is not None:
        params["streaming"] = True
    if options.channels_last:
        params["channels_last"] = True
    if options.optimize and format_ is Format.ONNX:
        params["optimize"] = True
    if options.raw_pixels:
        params["raw_pixels"] = True
    if made.card is not None and made.card.stateful:
        params["stateful"] = True
    if options.shapes:
        params["shape"] = [f"{key}={'x'.join(map(str, size))}" for key, size in options.shapes.items()]
    if proof.real.data is not None:
        params["data"] = proof.real.data
    if converter.proved_on != "cpu":
        params["proved_on"] = converter.proved_on
    assert made.card is not None
    selftest = proof.selftest(made, ledger)
    card = replace(made.card, selftest=selftest)
    if selftest is None:
        why = "the network has no answer to integers from 0 to 9, random booleans, or sizes of 1"
        notes = (*notes, f"no self-test: {why}")
    return card.with_step(Step("export", params, converter.versions), *notes)


def _publish(item: _StagedFile, folder: Path) -> ExportedArtifact:
    target = folder / item.staged.name
    size, digest = item.staged.stat().st_size, sha256_file(item.staged)
    publish(item.staged, target)
    format_ = Format(target.suffix[1:])
    return ExportedArtifact(target, format_, item.card, size, digest, item.seconds, item.parity, item.notes)
