"""What is asked of ``edgekit quantize``, and everything about it that can be refused before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError, QualityError, UnsupportedError, UsageError
from edgekit.graph import ops
from edgekit.graph.ops import Family, Kernel
from edgekit.outputs import check_output, output_suffix
from edgekit.passes import quantize_onnx, quantize_tflite
from edgekit.passes.calibration import check_method
from edgekit.quality.account import quantized_already
from edgekit.quality.contents import operators
from edgekit.quality.fidelity import check_min_snr
from edgekit.quality.half_weights import half_weights
from edgekit.quality.integer_selftest import CALIBRATED
from edgekit.quality.state import keeps_state
from edgekit.types import Artifact, Format

TARGETS = ("cpu", "arm", "mcu", "npu")
INTEGERS_ONLY = ("mcu", "npu")
"""Targets that compute on integers only, inputs and outputs included."""
_WITHOUT_INTEGER_FORM = {
    format_: tuple(
        op.name for op in ops.of(format_, Family.RECURRENT, Family.LOOP) if op.plain and Kernel.STATIC not in op.kernels
    )
    for format_ in (Format.ONNX, Format.TFLITE)
}
"""Recurrent operators that compute in float whatever their weights are; a GRU is a WHILE in TFLite."""
GATED = ("int8", "int8-dynamic", "int16x8")
"""Schemes whose files are made to be faster: one that is slower than its parent is not published."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What to do to the file; see :func:`edgekit.quantize`.

    Attributes:
        data: calibrates on its train split and measures quality on its test split.
        samples: calibration samples, classes balanced; None: 300.
        calibration: how ranges are chosen (``minmax``, ``percentile``, ``entropy``, ``mse``), or a file of ranges that
            ``save_calibration`` wrote.
        max_drop: largest loss of quality that is published, as a fraction.
        min_snr: decibels that each output has to reach beside the parent's, see :mod:`edgekit.quality.fidelity`; None
            takes the scheme's own floor, which is only a note where ``max_drop`` holds.
        limit: measure quality on the first N test samples.
        shape: sizes of free axes at which the file is timed, ``INPUT=1x576`` or ``DIMENSION=576``; without it those of
            the calibration samples.
        input: a file with one real sample, at which the file is timed.
        integer_io: inputs of the file are integers, and in TFLite its outputs, which suits devices without floating
            point. ONNX files end in a product that gives float by itself.
        stateful: recurrent layers of a .tflite file keep their state between calls.
        for_: what the file is for (``--for``). ``cpu``: the device ``on``, where kernels are timed and a file that
            is called slower than its parent is refused. ``arm``: an ARM CPU that is not at hand; operators without an
            integer kernel in XNNPACK stay in float. ``mcu``, ``npu``: integers throughout, inputs and outputs included.
        allow_slower: publish a file that is slower than its parent, or that gained nothing.
        seconds: how long the file and its parent are timed, interleaved; None: not at all.
        on: the device of these times, whose CPU also decides which layers of an int8 .onnx file get 7-bit weights.
        mixed: which operators stay in float: ``auto`` (the worst, until ``max_drop`` holds, or without it the floor), a
            plan that :func:`plan_mixed` wrote, or names, separated by commas; None: those that int8 finds ruinous.
    """

    scheme: str
    data: str | None = None
    samples: int | None = None
    calibration: str | None = None
    save_calibration: Path | None = None
    max_drop: float | None = None
    min_snr: float | None = None
    limit: int | None = None
    integer_io: bool = False
    stateful: bool = False
    seconds: float | None = None
    on: str = "cpu"
    for_: str = "cpu"
    allow_slower: bool = False
    shape: tuple[str, ...] = ()
    input: str | None = None
    mixed: str | None = None


def read_options(scheme: str, keywords: Mapping[str, Any]) -> tuple[QuantizeOptions, dict[str, Any]]:
    """The options, and those that belong to ``auto`` alone (for ``auto`` the device and the seconds, too).

    Raises:
        UsageError: an option that neither has.
    """
    from edgekit.pipeline.auto.options import AutoOptions

    given = {name: value for name, value in keywords.items() if value is not None}
    shared = {field.name for field in fields(QuantizeOptions)} - {"scheme"}
    known = shared | {field.name for field in fields(AutoOptions)}
    if given.keys() - known:
        unknown, there = (", ".join(sorted(names)) for names in (given.keys() - known, known))
        raise UsageError(f"quantize has no option {unknown}; there are: {there}")
    if scheme == "auto":
        shared -= {"seconds", "on"}
    own = {name: value for name, value in given.items() if name in shared}
    own["shape"] = (own["shape"],) if isinstance(own.get("shape"), str) else tuple(own.get("shape", ()))
    if own.get("for_", "cpu") != "cpu" and given.get("on") is not None:
        raise UsageError(f"--for {own['for_']} says what the target is, --on {given['on']} another; drop one")
    if own.get("for_") in INTEGERS_ONLY:
        own["integer_io"] = True
    if "save_calibration" in own:
        own["save_calibration"] = Path(own["save_calibration"])
    return QuantizeOptions(scheme, **own), {name: value for name, value in given.items() if name not in shared}


def asked_seconds(seconds: float | None) -> float | None:
    """``--seconds`` as :class:`QuantizeOptions` has it: one where it was not given, None for 0, which is not at all."""
    return None if seconds == 0 else 1.0 if seconds is None else seconds


def asked_mixed(mixed: bool, keep_float: str | None) -> str | None:
    """``--mixed`` and ``--keep-float`` as :class:`QuantizeOptions` has them; raises UsageError where both are given."""
    if mixed and keep_float:
        raise UsageError("--mixed finds the layers that stay in float, --keep-float names them; drop one")
    return "auto" if mixed else keep_float


def one_model(model: str | Path | Sequence[str | Path], auto: Mapping[str, Any]) -> str | Path:
    """The one file to quantize; raises UsageError for several, and for options of ``auto``."""
    if auto:
        given = ", ".join(name.replace("_", "-") for name in auto)
        raise UsageError(f"these options belong to --scheme auto, which chooses by time: {given}; leave them out")
    several = () if isinstance(model, str | Path) else tuple(model)
    if len(several) > 1:
        raise UsageError(f"{len(several)} models were given; one at a time is quantized, only --scheme auto takes more")
    return model if isinstance(model, str | Path) else several[0]


def check_options(artifact: Artifact, target: Path, options: QuantizeOptions, suffix: str | None = None) -> None:
    """Everything that can be refused before any work.

    Raises:
        UsageError: options that make no sense, or a place that cannot be written.
        UnsupportedError, ModelError: the file has no such scheme, or is quantized already.
        QualityError: a target without floating point, and operators that would compute in it.
    """
    learned = options.calibration is None and artifact.card is not None and artifact.card.ranges is not None
    planned = suffix is not None
    check_request(artifact.path, artifact.format, options, learned, planned)
    own = f".{artifact.format}"
    if suffix is not None and output_suffix(target, suffix).lower() != suffix:
        raise UsageError(f"-o {target} must end in {suffix}: it is the plan that is written, no model")
    if suffix is None and output_suffix(target, own).lower() != own:
        raise UsageError(f"-o {target} must end in {own}, as the model does: quantizing keeps the format")
    if target.resolve() == artifact.path.resolve():
        raise UsageError(f"-o names the model itself ({target}); give another name, the parent is kept")
    evidence = quantized_already(artifact)
    if evidence:
        raise ModelError(f"{artifact.path} is quantized already ({evidence}); give the float file it was made from")
    if options.scheme == "fp16" and half_weights(artifact):
        raise ModelError(f"the weights of {artifact.path} are float16 already; int8-weights halves them once more")
    if options.stateful and keeps_state(artifact) is None:
        raise UsageError(f"--stateful: no operator of {artifact.path} keeps a state in variables; leave it out")
    check_output(target)
    if options.save_calibration is not None:
        check_output(options.save_calibration)
    kinds = operators(artifact)
    if "VAR_HANDLE" in kinds:
        raise UnsupportedError(
            f"{artifact.path} keeps its state in resource variables (VAR_HANDLE), beside which edgekit quantizes "
            "nothing yet; export the network with its state as inputs and outputs (--streaming), or keep the float file"
        )
    _check_integers(artifact, options, kinds)


def _check_integers(artifact: Artifact, options: QuantizeOptions, kinds: Iterable[str]) -> None:
    """Refuses a recurrent network for a target without floating point, except for LSTM in one direction in TFLite.

    Raises:
        QualityError: operators that would compute in float are in it.
    """
    if options.for_ not in INTEGERS_ONLY:
        return
    found = [kind for kind in kinds if kind in _WITHOUT_INTEGER_FORM[artifact.format]]
    if found:
        as_gru = " (a loop, as a GRU is)" if "WHILE" in found else ""
        raise QualityError(
            f"--for {options.for_} computes on integers only, and {artifact.path} holds {', '.join(found)}{as_gru}, "
            "whose full-integer form edgekit does not write yet; nothing was published. Take an nn.LSTM in one "
            "direction, exported to TFLite, or leave --for out for a CPU: --scheme int8-weights"
        )


def check_request(
    name: str | Path, format_: Format, options: QuantizeOptions, learned: bool = False, planned: bool = False
) -> None:
    """What can be refused before the file is there: what is wrong with ``options`` for a file of ``format_``.

    Args:
        name: what messages call the file.
        learned: it carries ranges that were learnt in training.
        planned: a plan of mixed precision is wanted, no file.

    Raises:
        UnsupportedError: no such scheme for the format.
        UsageError: options that make no sense, or not together.
    """
    if format_ not in (Format.ONNX, Format.TFLITE):
        raise UnsupportedError(f"{name} is a {format_} model; export it first (--to onnx or tflite) and quantize that")
    known = quantize_onnx.SCHEMES if format_ is Format.ONNX else quantize_tflite.SCHEMES
    quantize_onnx.check_scheme(options.scheme, format_, known)
    if options.for_ not in TARGETS:
        raise UsageError(f"--for is {options.for_!r}; there are: {', '.join(TARGETS)}")
    if options.for_ in INTEGERS_ONLY and options.scheme not in ("int8", "int16x8"):
        raise UsageError(
            f"--for {options.for_} computes on integers only, and --scheme {options.scheme} computes in float: give "
            "--scheme int8"
        )
    if options.max_drop is not None and not 0 <= options.max_drop < 1:
        raise UsageError(
            f"--max-drop is {options.max_drop}; give a fraction from 0 to below 1 (0.01 = one point of accuracy)"
        )
    if options.stateful and format_ is not Format.TFLITE:
        raise UsageError(f"--stateful is for .tflite files, whose operators may keep a state; {name} is {format_}")
    if options.max_drop is not None and options.data is None:
        raise UsageError("--max-drop needs --data to measure the drop on")
    check_min_snr(options.min_snr)
    for name, value in (("--samples", options.samples), ("--limit", options.limit)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; give 1 or more")
    if options.seconds is not None and not 0 < options.seconds <= 3600:
        raise UsageError(f"--seconds is {options.seconds:g}; give more than 0, at most 3600")
    from_file = options.calibration is not None and options.calibration.endswith(".json")
    if options.calibration is not None and not from_file:
        check_method(options.calibration)
    if options.scheme in CALIBRATED and options.data is None and not from_file and not learned:
        raise UsageError(
            f"scheme {options.scheme} calibrates on real samples: give --data (cifar10, images:DIR, npz:FILE). Without "
            "data there are int8-dynamic, int8-weights and fp16"
        )
    _check_mixed(options, planned=planned)


def _check_mixed(options: QuantizeOptions, *, planned: bool) -> None:
    if options.mixed is None:
        return
    if options.scheme == "fp16":
        raise UsageError("--mixed keeps layers out of integers, and --scheme fp16 has none; leave it out")
    if options.mixed != "auto":
        if planned:
            raise UsageError("-o names a plan to write, so --mixed has to find one: give --mixed auto")
        return
