"""``edgekit quantize``: one scheme, or ``auto``, which stands above the schemes and tries them all."""

from __future__ import annotations

from edgekit.options.base import with_options
from edgekit.options.quantize import AUTO, QuantizeOptions
from edgekit.pipeline.quantize import QuantizeResult, quantize_one
from edgekit.pipeline.quantize.checks import is_program


@with_options(QuantizeOptions)
def quantize(options: QuantizeOptions) -> QuantizeResult:
    """Quantizes a float ``.onnx`` or ``.tflite`` file into a smaller one, or a ``.pt2`` program into a ``.pte``.

    ``data`` calibrates on its train split and measures quality on its test split. ``scheme="auto"`` tries every scheme
    on a device and publishes the fastest file within ``max_drop``; it takes also several files of different formats, or
    a network, and its result is an :class:`edgekit.results.quantize.AutoResult`.

    Raises:
        QualityError: the file grew, quality dropped by more than ``max_drop``, the outputs miss their floor, it is
            slower than its parent, or fails as an app runs it; nothing is published.
        ParityError: it does not compute what its own scales say; nothing is published.
        ModelError, DataError, UnsupportedError, UsageError: what was given does not work; nothing is published.
        DeviceError: of ``auto``: the device cannot be used, or runs no float file.
    """
    if options.scheme != AUTO:
        if is_program(options):
            from edgekit.pipeline.quantize.program import quantize_program

            return quantize_program(options)
        return quantize_one(options)
    from edgekit.pipeline.search.auto.run import auto

    return auto(options)
