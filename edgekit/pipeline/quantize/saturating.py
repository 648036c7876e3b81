"""7-bit weights for the layers of an int8 ONNX file that would clip on the CPU it is for, and for no others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from edgekit.bench.environment import environment
from edgekit.passes import PassContext
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.onnx.quantize import QuantizeOnnx
from edgekit.quantization.onnx.saturation import Clipping, clipping, saturates
from edgekit.types import Artifact, Feed, PassResult

SATURATION_SAMPLES = 16
"""Calibration samples on which clipping is looked for: together they have hundreds of places."""


def isa_of(device: str) -> tuple[str, ...]:
    """The instruction sets of the CPU that ``device`` has."""
    if device == "cpu":
        return tuple(environment()["isa"])
    from edgekit.devices import open_worker

    with open_worker(device) as client:
        return tuple(client.environment()["isa"])


def reduce_range_where_saturating(
    quantizer: QuantizeOnnx,
    artifact: Artifact,
    made: PassResult,
    feeds: Iterable[Feed],
    isa: Collection[str],
) -> tuple[QuantizeOnnx, PassResult, tuple[str, ...]]:
    """The quantizer and its result for a CPU with the flags ``isa``, and what to say of layers that clip.

    Where that CPU adds pairs of products in 16 bits, the layers that lose by it are quantized again with 7-bit weights.
    """
    if not saturates(isa):
        return quantizer, made, ()
    assert isinstance(made.model, Artifact)
    found = [one for one in clipping(made.model.path, feeds) if one.matters]
    if not found:
        return quantizer, made, ()
    fitting = replace(quantizer, reduce_range={one.weight: one.axis for one in found})
    again = fitting.run(artifact, PassContext(made.model.path))
    note = f"the CPU has no VNNI, so these layers have 7-bit weights, as they would clip: {_said(found)}"
    return fitting, again, (note,)


def _said(found: list[Clipping]) -> str:
    return listed([str(one) for one in sorted(found, key=lambda one: -one.error)])
