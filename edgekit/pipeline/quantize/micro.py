"""``--for mcu``: the file runs on TensorFlow Lite for Microcontrollers, and gives there what LiteRT gives.

Kernels of integers round in several ways that are all right, by a step of a tensor's scale, which a network may make
some steps of its output of. How many shows between the two sets of kernels that LiteRT itself has, XNNPACK's and its
reference: those of microcontrollers may be off from the reference by twice as much, or by one step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from edgekit.artifact import write_card
from edgekit.devices import WorkerClient, open_runner, open_worker
from edgekit.devices.mcu import measured_arena
from edgekit.environments import TFLM
from edgekit.errors import InputError, ParityError, QualityError, RuntimeMissingError, UnsupportedError
from edgekit.flatbuffer_reader import without_prefix
from edgekit.options.quantize import QuantizeOptions
from edgekit.pipeline.quantize.make import QuantizedFile, Work
from edgekit.pipeline.quantize.samples import held_feeds
from edgekit.quality.as_app import refusing
from edgekit.quantization.tflite.arena_plan import with_plan
from edgekit.results.loaded import Arena
from edgekit.results.quantize import MicroProof
from edgekit.runtime.quantization import quantize
from edgekit.types import Array, Artifact, Feed, Format

log = logging.getLogger("edgekit")
STEPS = 1
"""Of an output's scale, where LiteRT's own kernels agree."""
ROUNDINGS = 2
"""How many times the difference of LiteRT's own kernels is allowed: largest of tens of samples, of other kernels."""

_FINE = (
    "; there FULLY_CONNECTED of 16 bits rounds otherwise by a step, of which the layers behind make more. --scheme "
    "int8 holds the states of recurrent layers in 16 bits, too"
)


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
        ParityError: an output differs by more than rounding does.
    """
    if work.options.for_ != "mcu":
        return None
    log.info("proving it on TensorFlow Lite for Microcontrollers")
    integers = frozenset(made.card.quantized_io)
    found: dict[str, float] = {}
    rounding: dict[str, float] = {}
    count = 0
    with ExitStack() as stack:
        there = stack.enter_context(open_worker("mcu"))
        try:
            with refusing("the compressed file"):
                there.load(made.path, raw=True, card=made.card)
                unplanned = measured_arena(there)
                arena = _planned(made, there, unplanned)
        except InputError as error:
            raise QualityError(f"{error}. Nothing was published") from error
        reference = stack.enter_context(open_runner(made.path, raw=True, runtime="litert:reference"))
        usual = stack.enter_context(open_runner(made.path, raw=True))
        for feed in held_feeds(work.parent, work.samples, work.before.signature):
            given = _as_integers(feed, made)
            wanted = reference.run(given)
            with refusing("the compressed file"):
                _widen(found, wanted, there.run(given))
            _widen(rounding, wanted, usual.run(given))
            count += 1
    fine = work.options.scheme == "int16x8"
    for name, steps in found.items():
        allowed = max(STEPS, ROUNDINGS * rounding[name]) if name in integers else rounding[name]
        if not steps <= allowed:
            raise ParityError(
                f"the compressed file gives another output {name!r} on TensorFlow Lite for Microcontrollers than in "
                f"LiteRT: it differs by {steps:g} steps, and {allowed:g} are allowed, since LiteRT's own kernels "
                f"differ by {rounding[name]:g}{_FINE if fine else ''}. Nothing was published"
            )
    most, own = (max(side.values(), default=0) for side in (found, rounding))
    return MicroProof(arena=arena, unplanned_bytes=unplanned.bytes, max_steps=most, litert_steps=own, samples=count)


def _planned(made: QuantizedFile, there: WorkerClient, unplanned: Arena) -> Arena:
    """Gives the file a plan of its memory (:mod:`edgekit.quantization.tflite.arena_plan`) where it takes less with it.

    Args:
        unplanned: its arena without one.

    Returns:
        The arena of the file as it then is, loaded by ``there``.
    """
    before = made.path.read_bytes()
    content = with_plan(without_prefix(before))
    if content is None:
        return unplanned
    made.path.write_bytes(content)
    write_card(made.path, made.card)
    there.load(made.path, raw=True, card=made.card)
    found = measured_arena(there)
    if found.bytes < unplanned.bytes:
        return found
    made.path.write_bytes(before)
    there.load(made.path, raw=True, card=made.card)
    return unplanned


def _as_integers(feed: Feed, made: QuantizedFile) -> dict[str, Array]:
    """The samples as the file holds them."""
    how = made.card.quantized_io
    return {name: quantize(array, how[name]) if name in how else array for name, array in feed.items()}


def _widen(worst: dict[str, float], wanted: Mapping[str, Array], found: Mapping[str, Array]) -> None:
    """Puts the largest difference of each output into ``worst``: steps of its scale where it is integer."""
    for name, value in wanted.items():
        gap = float(np.abs(value.astype(np.float64) - found[name]).max(initial=0.0))
        worst[name] = max(worst.get(name, 0.0), np.inf if np.isnan(gap) else gap)
