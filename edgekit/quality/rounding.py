"""How far float32 itself is off: a network run in float64 beside its float32 self."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.types import Array, Feed

if TYPE_CHECKING:
    from edgekit.converters.base import Capture

log = logging.getLogger("edgekit")


def own_rounding(capture: Capture, feed: Feed) -> Mapping[str, float]:
    """The largest difference of each output of the captured module between float32 and float64 on ``feed``: that of its
    own float32, or that of float64 with means added up one number after the other in float32, whichever is larger.

    Empty where the module cannot run in float64 (it makes float32 tensors of its own, or is a file of another format
    than ONNX): nothing is known then, and nothing is allowed for it.
    """
    import torch

    from edgekit.source.foreign import is_foreign, is_onnx
    from edgekit.source.serial_means import serial_means

    file = is_onnx(capture.module)
    if is_foreign(capture.module) and not file:
        return {}
    module = capture.module if file else copy.deepcopy(capture.module).double()
    inputs = [torch.from_numpy(np.array(feed[spec.name])) for spec in capture.signature.inputs]
    try:
        with torch.no_grad():
            doubled = [x.double() if x.is_floating_point() else x for x in inputs]
            results = _outputs(module(*doubled))
            with serial_means():
                serial = _outputs(module(*doubled))
    except RuntimeError as error:
        log.debug("%s does not run in float64: %s", capture.network.name, error)
        return {}
    plain = capture.reference(feed)
    found = {}
    for spec, exact, other in zip(capture.signature.outputs, results, serial, strict=False):
        if exact.dtype == torch.float64:
            found[spec.name] = max(_apart(plain[spec.name], exact.numpy()), _apart(other.numpy(), exact.numpy()))
    return found


def _outputs(results: Any) -> Sequence[Any]:
    return results if isinstance(results, tuple | list) else (results,)


def _apart(one: Array, exact: Array) -> float:
    difference = np.abs(one.astype(np.float64) - exact)
    return float(difference.max(initial=0.0)) if np.isfinite(difference).all() else 0.0
