"""Everything about the options of ``edgekit quantize`` that can be refused before any work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

from edgekit.errors import ModelError, QualityError, UnsupportedError, UsageError
from edgekit.graph import ops
from edgekit.graph.ops import Family, Kernel
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import check_output, output_suffix
from edgekit.quality.contents import operators
from edgekit.quality.coverage import quantized_already
from edgekit.quality.half_weights import half_weights
from edgekit.quality.state import keeps_state
from edgekit.quantization.calibrate.calibration import check_method
from edgekit.quantization.pixel_io import check_pixels
from edgekit.quantization.prepared import Prepared
from edgekit.quantization.schemes import check_scheme
from edgekit.quantization.tflite.compact_loops import holds_compact, without_integer_form
from edgekit.types import Artifact, Format

_WITHOUT_INTEGER_FORM = {
    format_: tuple(
        op.name for op in ops.of(format_, Family.RECURRENT, Family.LOOP) if op.plain and Kernel.STATIC not in op.kernels
    )
    for format_ in (Format.ONNX, Format.TFLITE)
}
"""Recurrent operators that compute in float whatever their weights are; a GRU is a WHILE in TFLite."""


def of_one_scheme(options: QuantizeOptions) -> QuantizeOptions:
    """The options of one scheme, with what follows from them.

    Raises:
        UsageError: options that exclude each other, or that belong to ``auto``.
    """
    if options.of_auto():
        given = ", ".join(options.of_auto())
        raise UsageError(f"these options belong to --scheme auto, which chooses by time: {given}; leave them out")
    if options.mixed and options.keep_float:
        raise UsageError("--mixed finds the layers that stay in float, --keep-float names them; drop one")
    if options.for_ != "cpu" and options.on is not None:
        raise UsageError(f"--for {options.for_} says what the target is, --on {options.on} another; drop one")
    integers = options.integer_io or options.integers_only
    if integers and options.io == "float":
        asked = "--integer-io" if options.integer_io else f"--for {options.for_}"
        raise UsageError(f"--io float and {asked} contradict each other; give one")
    return replace(
        options,
        seconds=1.0 if options.seconds is None else options.seconds,
        integer_io=integers or options.io in ("int8", "uint8"),
    )


def one_model(options: QuantizeOptions) -> str | Path:
    """The one file to quantize; raises UsageError for several."""
    models = options.models if isinstance(options.models, tuple) else (options.models,)
    if len(models) != 1:
        raise UsageError(f"{len(models)} models were given; one at a time is quantized, only --scheme auto takes more")
    return cast("str | Path", models[0])


def is_program(options: QuantizeOptions) -> bool:
    """Whether the model is an exported program (``.pt2``), whose file on integers is one of ExecuTorch."""
    return Path(one_model(options)).suffix.lower() == f".{Format.PT2}"


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
    _check_io(artifact, options)
    evidence = quantized_already(artifact)
    if evidence:
        raise ModelError(f"{artifact.path} is quantized already ({evidence}); give the float file it was made from")
    if options.scheme == "fp16" and half_weights(artifact):
        raise ModelError(f"the weights of {artifact.path} are float16 already; int8-weights halves them once more")
    if options.stateful and keeps_state(artifact) is None:
        raise UsageError(f"--stateful: no operator of {artifact.path} keeps a state in variables; leave it out")
    check_output(target)
    if options.save_calibration is not None:
        check_output(Path(options.save_calibration))
    kinds = operators(artifact)
    if "VAR_HANDLE" in kinds:
        raise UnsupportedError(
            f"{artifact.path} keeps its state in resource variables (VAR_HANDLE), beside which edgekit quantizes "
            "nothing yet; export the network with its state as inputs and outputs (--streaming), or keep the float file"
        )
    _check_integers(artifact, options, kinds)


def _check_io(artifact: Artifact, options: QuantizeOptions) -> None:
    """Refuses types of inputs that the format does not have, and pixels that would not be those of the picture."""
    if options.io == "uint8" and options.scheme == "int16x8":
        raise UsageError("--io uint8 goes with --scheme int8; int16x8 has activations of 16 bits")
    if options.io == "uint8" and artifact.card is not None:
        check_pixels(artifact.card.contract)


def _check_integers(artifact: Artifact, options: QuantizeOptions, kinds: Iterable[str]) -> None:
    """Refuses a recurrent ONNX network for a target without floating point; for TFLite see :func:`check_layers`.

    Raises:
        QualityError: operators that would compute in float are in it.
    """
    if not options.integers_only or artifact.format is Format.TFLITE:
        return
    found = [kind for kind in kinds if kind in _WITHOUT_INTEGER_FORM[artifact.format]]
    if found:
        raise QualityError(
            f"--for {options.for_} computes on integers only, and {artifact.path} holds {', '.join(found)}, which "
            "onnxruntime has in float only; nothing was published. Export the network to TFLite, where nn.LSTM, nn.GRU "
            "and nn.RNN have an integer form, or leave --for out for a CPU: --scheme int8-weights"
        )


def check_layers(parent: Prepared, options: QuantizeOptions) -> None:
    """Refuses recurrent layers of a .tflite file that have no integer form, for a target without floating point.

    Raises:
        QualityError: there are such.
    """
    artifact = parent.artifact
    if not options.integers_only or artifact.format is not Format.TFLITE:
        return
    found = without_integer_form(parent.content, _WITHOUT_INTEGER_FORM[Format.TFLITE])
    if options.scheme != "int8" and not found and holds_compact(parent.content):
        raise UsageError(f"GRU and RNN layers have an integer form in --scheme int8, not in {options.scheme}")
    if found:
        raise QualityError(
            f"--for {options.for_} computes on integers only, and {artifact.path} holds {', '.join(found)} without "
            "an integer form; nothing was published. It is written for nn.GRU and nn.RNN that edgekit exports with a "
            "fixed length and batch, and that begin every call with zeros or with an input: export it again without "
            "--dynamic and --stateful, or leave --for out for a CPU: --scheme int8-weights"
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
    if format_ in (Format.PTE, Format.PT2):
        raise UnsupportedError(
            f"{name} is a {format_} model: ExecuTorch quantizes the program before it is lowered, so export it with "
            "--to pt2, and quantize that: edgekit quantize NAME.pt2 --scheme int8 --data D -o NAME.pte"
        )
    if format_ not in (Format.ONNX, Format.TFLITE):
        raise UnsupportedError(f"{name} is a {format_} model; export it first (--to onnx or tflite) and quantize that")
    scheme = check_scheme(options.scheme, format_)
    if options.integers_only and options.scheme not in ("int8", "int16x8"):
        raise UsageError(
            f"--for {options.for_} computes on integers only, and --scheme {options.scheme} computes in float: give "
            "--scheme int8"
        )
    if options.stateful and format_ is not Format.TFLITE:
        raise UsageError(f"--stateful is for .tflite files, whose operators may keep a state; {name} is {format_}")
    if options.max_drop is not None and options.data is None:
        raise UsageError("--max-drop needs --data to measure the drop on")
    if options.metric is not None and options.data is None:
        raise UsageError("--metric needs --data to be measured on")
    from_file = options.calibration is not None and options.calibration.endswith(".json")
    if options.calibration is not None and not from_file:
        check_method(options.calibration)
    if scheme.calibrated and options.data is None and not from_file and not learned:
        raise UsageError(
            f"scheme {options.scheme} calibrates on real samples: give --data (cifar10, images:DIR, npz:FILE). Without "
            "data there are int8-dynamic, int8-weights and fp16"
        )
    _check_mixed(options, planned=planned)


def _check_mixed(options: QuantizeOptions, *, planned: bool) -> None:
    if options.keep is None:
        return
    if options.scheme == "fp16":
        raise UsageError("--mixed keeps layers out of integers, and --scheme fp16 has none; leave it out")
    if planned and not options.mixed:
        raise UsageError("-o names a plan to write, so --mixed has to find one: give --mixed")
