"""Images that a file takes as bytes: a scale and zero point with which the integer is the pixel itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgekit.data.kind import affine
from edgekit.data.seeded import normalised_range
from edgekit.errors import UsageError
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Range
from edgekit.types import InputSpec

_WHOLE = 1e-3
"""How far a zero point may be from a whole number: mean and std are rounded when they are written down."""


def check_pixels(contract: Mapping[str, InputSpec]) -> None:
    """Refuses images whose normalisation no scale and zero point can hold: their uint8 would not be the pixel.

    Raises:
        UsageError: with the ways out.
    """
    for name, rule in contract.items():
        if rule.kind == "image" and not is_pixels(rule):
            raise UsageError(
                f"--io uint8 takes pixels as they are, and {name!r} is {rule.formula()}, which one scale and one whole "
                "zero point cannot hold; export the network again with --raw-pixels, or give --io int8"
            )


def is_pixels(rule: InputSpec) -> bool:
    """Whether a scale and a zero point of 0 to 255 make the tensor's value of a pixel."""
    factor, offset = affine(rule, rule.channels or 1)
    zero = -offset[0] / factor[0]
    alike = (factor == factor[0]).all() and (offset == offset[0]).all()
    return bool(alike and abs(zero - round(float(zero))) < _WHOLE and 0 <= round(float(zero)) <= 255)


def with_pixel_ranges(
    calibration: Calibration, contract: Mapping[str, InputSpec], tensors: Mapping[str, str]
) -> Calibration:
    """``calibration`` with the whole range of pixels for the inputs that are such.

    Args:
        tensors: name of an input's tensor -> name of the input.
    """
    images = {tensor: contract[name] for tensor, name in tensors.items() if name in contract}
    pixels = {
        tensor: Range(*normalised_range(rule))
        for tensor, rule in images.items()
        if rule.kind == "image" and is_pixels(rule)
    }
    return replace(calibration, ranges={**calibration.ranges, **pixels})
