"""What makes no sense about the options of ``--scheme auto``, and where its file goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.devices import parse_device
from edgekit.errors import DataError, UsageError
from edgekit.inputs import require_regular
from edgekit.options.base import flag_of
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import is_stream
from edgekit.quantization.calibrate.calibration import check_method
from edgekit.types import DeviceSpec

SECONDS = 3.0
_OF_ONE = (
    "save_calibration", "integer_io", "io", "stateful", "mixed", "keep_float", "for_", "allow_slower", "shape", "input",
)  # fmt: skip
SUFFIXES = (".onnx", ".tflite")


def of_auto(options: QuantizeOptions) -> QuantizeOptions:
    """The options of ``auto``, with its defaults.

    Raises:
        UsageError: one that is missing, or that belongs to a single scheme.
        DataError: the saved ranges are not there.
    """
    if options.data is None:
        raise UsageError("--scheme auto needs --data (to judge the candidates on)")
    if options.max_drop is None and (options.min_snr is None or options.metric is not None):
        raise UsageError(
            "--scheme auto needs --max-drop (0.01 allows one point of accuracy), or, where nobody says what is "
            "right about the data, --min-snr (20 allows a tenth of the float file's outputs as error)"
        )
    given = options.given()
    for name in _OF_ONE:
        if name in given:
            flag = flag_of(QuantizeOptions, name)
            raise UsageError(f"{flag}: of one scheme, and --scheme auto tries them all; name a scheme with it")
    if options.seconds == 0:
        raise UsageError("--scheme auto chooses by time; give --seconds more than 0")
    if options.calibration is not None:
        if not options.calibration.endswith(".json"):
            check_method(options.calibration)
        else:
            require_regular(options.calibration, DataError, "ranges that --save-calibration wrote, or name a method")
    return replace(
        options,
        seconds=SECONDS if options.seconds is None else options.seconds,
        threads=options.threads or (1,),
        seed=options.seed or 0,
    )


def device_of(options: QuantizeOptions) -> DeviceSpec:
    """The device, which has to have a time.

    Raises:
        UsageError: no such device, or an emulated one.
    """
    device = parse_device(options.device)
    if not device.evidence.has_time:
        raise UsageError(
            f"{device.name} is emulated and has no time, and --scheme auto chooses by time: name the device itself "
            "(ssh://…), or a scheme, and check that file there with edgekit eval --on"
        )
    return device


def target_of(out: str | Path, formats: Sequence[str]) -> Path:
    """Where the file goes but for its suffix, which the choice gives.

    ``OUT.onnx`` and ``OUT.tflite`` are refused where the other format may be chosen.

    Raises:
        UsageError: the suffix is not that of every candidate.
    """
    target = Path(out)
    suffix = target.suffix.lower()
    if suffix in SUFFIXES and [suffix] != [f".{name}" for name in formats]:
        raise UsageError(
            f"-o {target} names a format, and auto chooses among {' and '.join(formats)}: leave the suffix out, it is "
            "added; or give one model of that format"
        )
    return target


def place_of(target: Path, stem: str, format_: str) -> Path:
    """The path of the file: a folder (there, or with a slash) takes ``STEM-auto.FORMAT``, else the suffix is added, but
    to a stream."""
    if target.suffix.lower() == f".{format_}" or is_stream(target):
        return target
    return target / f"{stem}-auto.{format_}" if target.is_dir() else target.with_name(f"{target.name}.{format_}")
