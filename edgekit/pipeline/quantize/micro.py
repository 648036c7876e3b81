"""``--for mcu``: the file runs on TensorFlow Lite for Microcontrollers, and gives there what LiteRT gives."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from edgekit.devices import open_runner, open_worker
from edgekit.devices.mcu import measured_arena
from edgekit.environments import TFLM
from edgekit.errors import InputError, ParityError, QualityError, RuntimeMissingError, UnsupportedError
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline.quantize.make import QuantizedFile, Work
from edgekit.pipeline.quantize.samples import held_feeds
from edgekit.quality.as_app import refusing
from edgekit.results.quantize import MicroProof
from edgekit.runtime.quantization import quantize
from edgekit.types import Array, Artifact, Feed, Format

log = logging.getLogger("edgekit")
STEPS = 1
"""Of an output's scale: LiteRT's kernels and those of microcontrollers round a tie in their own ways."""


def check_target(artifact: Artifact, options: QuantizeOptions) -> None:
    """Refuses, before any work, a file that cannot be proved for a microcontroller.

    Raises:
        UnsupportedError: it is not a TFLite file.
        RuntimeMissingError: tflite-micro is not installed.
    """
    if options.for_ != "mcu":
        return
    if artifact.format is not Format.TFLITE:
        raise UnsupportedError(
            f"--for mcu makes a file for TensorFlow Lite for Microcontrollers, which takes .tflite; {artifact.path} is "
            f".{artifact.format}: export the network with --to tflite"
        )
    if TFLM.python() is None:
        raise RuntimeMissingError(
            f"--for mcu runs the file on TensorFlow Lite for Microcontrollers before it is published, and tflite-micro "
            f"is not installed: {TFLM.install}"
        )


def prove_on_microcontroller(work: Work, made: QuantizedFile) -> MicroProof | None:
    """Runs the file there and in LiteRT on the samples that are held back; None for another target.

    Raises:
        QualityError: it does not run there; the message names the operators that are not there.
        ParityError: an output differs by more than :data:`STEPS`.
    """
    if work.options.for_ != "mcu":
        return None
    log.info("proving it on TensorFlow Lite for Microcontrollers")
    card = made.card
    with open_runner(made.path, raw=True) as here, open_worker("mcu") as there:
        try:
            with refusing("the compressed file"):
                there.load(made.path, raw=True, card=card)
        except InputError as error:
            raise QualityError(f"{error}. Nothing was published") from error
        worst, count = 0.0, 0
        for feed in held_feeds(work.parent, work.samples, work.before.signature):
            integers = _as_integers(feed, made)
            wanted = here.run(integers)
            with refusing("the compressed file"):
                found = there.run(integers)
            worst, count = max(worst, _steps(wanted, found, made)), count + 1
        arena = measured_arena(there)
    return MicroProof(arena=arena, max_steps=worst, samples=count)


def _as_integers(feed: Feed, made: QuantizedFile) -> dict[str, Array]:
    """The samples as the file holds them."""
    how = made.card.quantized_io
    return {name: quantize(array, how[name]) if name in how else array for name, array in feed.items()}


def _steps(wanted: Mapping[str, Array], found: Mapping[str, Array], made: QuantizedFile) -> float:
    """The largest difference of an output in steps of its scale.

    Raises:
        ParityError: it is more than :data:`STEPS`, or that of an output without a scale is not nothing.
    """
    worst = 0.0
    for name, value in wanted.items():
        gap = float(np.abs(value.astype(np.float64) - found[name]).max(initial=0.0))
        allowed = STEPS if name in made.card.quantized_io else 0
        if not gap <= allowed:
            raise ParityError(
                f"the compressed file gives another output {name!r} on TensorFlow Lite for Microcontrollers than in "
                f"LiteRT: it differs by {gap:g} steps, {allowed} is allowed. Nothing was published"
            )
        worst = max(worst, gap)
    return worst
