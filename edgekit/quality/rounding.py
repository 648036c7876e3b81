"""How far float32 itself is off: a network run in float64 beside its float32 self."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgekit.types import Feed

if TYPE_CHECKING:
    from edgekit.converters.base import Capture

log = logging.getLogger("edgekit")


def own_rounding(capture: Capture, feed: Feed) -> Mapping[str, float]:
    """The largest difference of each output of the captured module between float32 and float64 on ``feed``.

    Empty where the module cannot run in float64 (it makes float32 tensors of its own, or is a file of another format
    than ONNX): nothing is known then, and nothing is allowed for it.
    """
    import torch

    from edgekit.source.foreign import is_foreign, is_onnx

    file = is_onnx(capture.module)
    if is_foreign(capture.module) and not file:
        return {}
    module = capture.module if file else copy.deepcopy(capture.module).double()
    inputs = [torch.from_numpy(np.array(feed[spec.name])) for spec in capture.signature.inputs]
    try:
        with torch.no_grad():
            results = module(*(x.double() if x.is_floating_point() else x for x in inputs))
    except RuntimeError as error:
        log.debug("%s does not run in float64: %s", capture.network.name, error)
        return {}
    outputs = results if isinstance(results, tuple | list) else (results,)
    plain = capture.reference(feed)
    found = {}
    for spec, exact in zip(capture.signature.outputs, outputs, strict=False):
        if exact.dtype == torch.float64:
            difference = np.abs(plain[spec.name].astype(np.float64) - exact.numpy())
            found[spec.name] = float(difference.max(initial=0.0)) if np.isfinite(difference).all() else 0.0
    return found
