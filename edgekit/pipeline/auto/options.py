"""What is asked of ``--scheme auto``, and what makes no sense about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.devices import parse_device
from edgekit.errors import DataError, UsageError
from edgekit.inputs import require_regular
from edgekit.outputs import is_stream
from edgekit.passes.calibration import check_method
from edgekit.quality.fidelity import check_min_snr
from edgekit.types import DeviceSpec

SUFFIXES = (".onnx", ".tflite")


@dataclass(frozen=True, slots=True)
class AutoOptions:
    """How the choice is made; see :func:`edgekit.quantize`.

    Attributes:
        data: ranges and choice come from its train split, the figures of the result from its test split.
        max_drop: largest loss of quality, as a fraction (0.01: one point of accuracy).
        on: the device that runs and times.
        seconds: time of each file in the last match; the race before it takes a third of that.
        threads: thread counts, each tried.
        runtime: runtimes to try (``litert:cpu`` and other variants, too); empty: every one that is installed.
        min_snr: decibels that each output has to reach; None: the limit of the drop alone decides.
        smaller: where no file is faster than the float file, take the smallest that takes the ``same`` time.
        samples: calibration samples; None: 300.
        calibration: the one way to find ranges, or a saved file of them; None: those that the file carries from its
            training, else ``minmax``, and the others where these lose too much.
        limit: samples at most that quality is measured on, of either split.
        resume: go on with the trials of an interrupted run; None: if it is of the last hour.
        seed: of the order of the timed blocks.
        factory: what builds the network, where a checkpoint of the user's own one is given.
    """

    data: str
    max_drop: float
    on: str = "cpu"
    seconds: float = 3.0
    threads: Sequence[int] = (1,)
    runtime: Sequence[str] = ()
    smaller: bool = False
    samples: int | None = None
    calibration: str | None = None
    min_snr: float | None = None
    limit: int | None = None
    resume: bool | None = None
    seed: int = 0
    factory: str | None = None


def read_options(given: Mapping[str, Any]) -> AutoOptions:
    """Checks ``given`` (fields of :class:`AutoOptions`; None stands for what was not given).

    Raises:
        UsageError: an unknown name, one that is missing, or a value out of range.
        DataError: the saved ranges are not there.
    """
    known = {field.name for field in fields(AutoOptions)}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise UsageError(f"--scheme auto has no option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    keywords = {name: value for name, value in given.items() if value is not None}
    for name, why in (("data", "to judge the candidates on"), ("max_drop", "0.01 allows one point of accuracy")):
        if name not in keywords:
            raise UsageError(f"--scheme auto needs --{name.replace('_', '-')} ({why})")
    for name in ("threads", "runtime"):
        if isinstance(keywords.get(name), int | str):
            keywords[name] = (keywords[name],)
    options = AutoOptions(**keywords)
    if not 0 <= options.max_drop < 1:
        raise UsageError(
            f"--max-drop is {options.max_drop}; give a fraction from 0 to below 1 (0.01 = one point of accuracy)"
        )
    if not (math.isfinite(options.seconds) and 0 < options.seconds <= 3600):
        raise UsageError(f"--seconds {options.seconds:g}: give more than 0 and at most 3600")
    for name, value in (("--samples", options.samples), ("--limit", options.limit)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; give 1 or more")
    check_min_snr(options.min_snr)
    if not options.threads or min(options.threads) < 1:
        raise UsageError("--threads: give 1 or more")
    if options.calibration is not None:
        if not options.calibration.endswith(".json"):
            check_method(options.calibration)
        else:
            require_regular(options.calibration, DataError, "ranges that --save-calibration wrote, or name a method")
    return options


def device_of(options: AutoOptions) -> DeviceSpec:
    """The device, which has to have a time.

    Raises:
        UsageError: no such device, or an emulated one.
    """
    device = parse_device(options.on)
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
