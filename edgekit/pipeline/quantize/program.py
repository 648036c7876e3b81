"""``edgekit quantize NAME.pt2 -o NAME.pte``: an exported program on int8, as an ExecuTorch program for XNNPACK.

ExecuTorch quantizes a program before it is lowered, which a float ``.pte`` no longer is: so the parent is the ``.pt2``.
What is proved and judged is what :mod:`edgekit.pipeline.quantize.run` proves of other files, but for the arithmetic
operator by operator; size and time are held against the float ``.pte`` of the same program.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.artifact import contract_of, open_artifact, sha256_file, sha256_model, size_bytes, write_card
from edgekit.converters.torch_to_pte import WORKER, converted_file, require_executorch
from edgekit.data.arrays import save_npz
from edgekit.data.dataset import stratified
from edgekit.devices import kept_workers
from edgekit.errors import QualityError, UnsupportedError, UsageError
from edgekit.leftovers import scratch_folder
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import check_output, output_suffix, publishing
from edgekit.pipeline.quantize.checks import of_one_scheme, one_model
from edgekit.pipeline.quantize.gates import check_drop, check_gain, check_growth, check_time
from edgekit.pipeline.quantize.measure import Measured, measure
from edgekit.pipeline.quantize.samples import (
    CALIBRATION_SAMPLES,
    DividedSamples,
    calibration_feeds,
    held_feeds,
    samples_of,
)
from edgekit.pipeline.quantize.timing import time_ratio
from edgekit.quality.as_app import refusing, run_as_app
from edgekit.quality.contents import with_iospec
from edgekit.quality.coverage import coverage
from edgekit.quality.fidelity import Floor
from edgekit.quality.integer_selftest import SEED, selftest_of
from edgekit.quality.lengths import length_errors
from edgekit.quality.paired import quality_change
from edgekit.quantization.schemes import scheme
from edgekit.results.base import PublishedFile, to_json
from edgekit.results.compressed import CoverageReport, FidelityFigures, FidelityGate, Parent, TimeRatio
from edgekit.results.quantize import ParentFile, QuantizeResult
from edgekit.types import Artifact, Card, Format, Step, Task

log = logging.getLogger("edgekit")
SCHEME = "int8"
HOW = "PT2E, XNNPACKQuantizer, symmetric, weights by channel"


def quantize_program(options: QuantizeOptions) -> QuantizeResult:
    """Quantizes the ``.pt2`` file of ``options``; see :func:`edgekit.quantize`.

    Raises:
        UnsupportedError: an option that ExecuTorch's quantizer cannot honour, or a program that it does not take.
        QualityError: as :func:`edgekit.pipeline.quantize.run.quantize_one`.
    """
    options = of_one_scheme(options)
    target = Path(options.out)
    check_program(one_model(options), options, learned=False)
    _check_target(target)
    require_executorch()
    WORKER.start()
    parent = with_iospec(open_artifact(one_model(options)), options.io_file)
    _check_sizes(parent)
    check_program(parent.path, options, learned=parent.card is not None and parent.card.ranges is not None)
    samples = samples_of(options.data, options.samples)
    with kept_workers(), scratch_folder() as folder, publishing(target, f".{Format.PTE}") as temporary:
        return _quantized(parent, target, temporary, folder, samples, options)


def check_program(name: str | Path, options: QuantizeOptions, *, learned: bool) -> None:
    """What can be refused before the program is there.

    Args:
        name: what messages call it.
        learned: it carries ranges that were learnt in training.

    Raises:
        UnsupportedError, UsageError: as :func:`quantize_program`.
    """
    if options.scheme != SCHEME:
        raise UnsupportedError(
            f"scheme {options.scheme!r} is not supported for {name}: .pt2 files become .pte, for which "
            f"ExecuTorch's quantizer has {SCHEME}. Export to ONNX or TFLite for the others"
        )
    not_honoured = {
        "--mixed": options.mixed, "--keep-float": options.keep_float, "--stateful": options.stateful,
        "--integer-io": options.integer_io, "--calibration": options.calibration,
        "--save-calibration": options.save_calibration, f"--for {options.for_}": options.for_ != "cpu",
    }  # fmt: skip
    given = [flag for flag, value in not_honoured.items() if value]
    if given:
        raise UnsupportedError(
            f"{', '.join(given)} cannot be honoured for a .pt2 file: ExecuTorch's quantizer chooses ranges and "
            "operators itself, and keeps inputs and outputs real; leave it out, or quantize the .onnx or .tflite file"
        )
    if options.data is None:
        raise UsageError(f"scheme {SCHEME} calibrates on real samples: give --data (cifar10, images:DIR, npz:FILE)")
    if learned:
        raise UnsupportedError(
            f"{name} carries ranges that were learnt in training, which ExecuTorch's quantizer does not take: "
            "export to ONNX or TFLite, whose int8 files use them"
        )


def _check_target(target: Path) -> None:
    wanted = f".{Format.PTE}"
    if output_suffix(target, wanted).lower() != wanted:
        raise UsageError(f"-o {target} must end in {wanted}: a .pt2 is quantized into an ExecuTorch program")
    check_output(target)


def _check_sizes(parent: Artifact) -> None:
    free = parent.card.signature.dynamic_dims if parent.card is not None else ()
    if free:
        raise UnsupportedError(
            f"{parent.path} has free axes ({', '.join(free)}), with which edgekit does not quantize for ExecuTorch: "
            "export it with fixed sizes"
        )


def _quantized(
    parent: Artifact, target: Path, made: Path, folder: Path, samples: DividedSamples, options: QuantizeOptions
) -> QuantizeResult:
    """Measure the parent, convert, quantize, prove, judge, time, describe."""
    before = measure(parent, parent.card, samples.test, options.limit, metric=options.metric)
    if before.signature.dynamic_dims:
        _check_sizes(replace(parent, card=Card("", "", Task(), before.signature)))
    floating, count = folder / f"float.{Format.PTE}", 0
    versions = converted_file(parent.path, floating)
    count = _save_samples(parent, samples, before, options, folder / "samples.npz")
    log.info("quantizing on %d samples", count)
    converted_file(parent.path, made, folder / "samples.npz")
    account = coverage(Artifact(made, Format.PTE))
    if not account.integer_operators:
        raise UnsupportedError(f"ExecuTorch's quantizer puts nothing of {parent.path} on integers; ship the float .pte")
    params = {"scheme": SCHEME, "samples": count, "data": options.data or "", "quantizer": HOW}
    step = Step("quantize", params, versions)
    old = parent.card or Card(parent.path.stem, "custom", Task(), before.signature)
    card = replace(
        old.with_step(step, *samples.notes), account=account.card_document(), quality=(), selftest=None, ranges=None
    )
    write_card(made, card)
    with refusing("the compressed file"):
        after = measure(
            Artifact(made, Format.PTE, card), card, samples.test, options.limit, before.probes, options.metric
        )
    quality = () if after.quality is None else (after.quality.quality(after.runtime, "cpu"),)
    card = replace(card, quality=quality, selftest=selftest_of(after.outputs, integers=True))
    write_card(made, card)
    check_drop(options, before.quality, after.quality)
    fidelity, below = _near(parent, Artifact(made, Format.PTE, card), samples, before, options)
    compared = Artifact(floating, Format.PTE)
    check_growth(options, compared, made)
    time = _timed(parent, made, floating, samples, before, options, folder)
    notes = (*below, *check_time(options, time), *check_gain(options, compared, made, time))
    against = _against(parent, account, fidelity, time, before, after)
    card = replace(card, notes=(*card.notes, *below), parent=to_json(against))
    write_card(made, card)
    return QuantizeResult(
        artifact=PublishedFile(target, Format.PTE, card, made.stat().st_size, sha256_file(made)),
        parent=ParentFile(path=parent.path, sha256=against.sha256, bytes=against.bytes),
        step=step,
        length_errors=length_errors(before.probes, before.by_length, after.by_length),
        account=account,
        notes=(*samples.notes, *notes),
        against=against,
        before=before.quality,
        after=after.quality,
    )


def _save_samples(
    parent: Artifact, samples: DividedSamples, before: Measured, options: QuantizeOptions, path: Path
) -> int:
    """Writes the calibration samples as the worker takes them; how many there are."""
    assert samples.fit is not None  # --data is asked for
    chosen = stratified(samples.fit, options.samples or CALIBRATION_SAMPLES, SEED)
    names = [spec.name for spec in before.signature.inputs]
    feeds = list(calibration_feeds(parent, chosen, before.signature))
    arrays = {f"{number}.{k}": feed[name] for number, feed in enumerate(feeds) for k, name in enumerate(names)}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # mypy takes them for its keyword allow_pickle
    return len(feeds)


def _near(
    parent: Artifact, made: Artifact, samples: DividedSamples, before: Measured, options: QuantizeOptions
) -> tuple[FidelityFigures, tuple[str, ...]]:
    """How near its outputs are to its parent's, and what is to be said where the floor does not bind.

    Raises:
        QualityError: they miss a floor that does, or the file fails as an app runs it.
    """
    feeds = held_feeds(parent, samples, before.signature)
    run = run_as_app(parent, made, feeds, contract_of(parent), samples.said)
    floor = Floor(scheme(SCHEME).floor_db if options.min_snr is None else options.min_snr)
    failures = floor.failures(run.fidelity.outputs)
    binding = options.min_snr is not None or options.max_drop is None
    gate = FidelityGate(
        min_snr_db=floor.output_db, min_channel_db=floor.channel_db, passed=not failures, binding=binding
    )
    said = "; ".join(failures)
    if failures and binding:
        raise QualityError(
            f"the compressed file is too far from its parent on {samples.said}: {said}. Nothing was published. Ship "
            "the float .pte, or quantize the .onnx or .tflite file, where --mixed keeps what costs most in float; "
            "--min-snr DB sets another floor, --max-drop with labelled data decides by these instead"
        )
    below = f"{said}. That is below the floor; the loss of quality on labelled data is what decides"
    return run.fidelity.figures(gate), (below,) if failures else ()


def _timed(
    parent: Artifact, made: Path, floating: Path, samples: DividedSamples, before: Measured, options: QuantizeOptions,
    folder: Path,
) -> TimeRatio | None:  # fmt: skip
    """How long it takes relative to the float program of the same network, both with the card's names."""
    if not options.seconds:
        return None
    card = parent.card or Card(parent.path.stem, "custom", Task(), before.signature)
    write_card(floating, card)
    sample: str | None = str(options.input) if options.input else None
    if sample is None:
        sample = str(folder / "sample.npz")
        save_npz(folder / "sample.npz", next(iter(held_feeds(parent, samples, before.signature))))
    return time_ratio(made, floating, options.seconds, options.device, input=sample)


def _against(
    parent: Artifact, account: CoverageReport, fidelity: FidelityFigures, time: TimeRatio | None, before: Measured,
    after: Measured,
) -> Parent:  # fmt: skip
    change = None
    if before.quality is not None and after.quality is not None:
        change = quality_change(before.quality, after.quality)
    return Parent(
        sha256=sha256_model(parent.path),
        bytes=size_bytes(parent.path),
        inserted={"Convert": account.conversions} if account.conversions else {},
        quality=change,
        fidelity=fidelity,
        time=time,
    )
