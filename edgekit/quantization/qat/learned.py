"""What quantization-aware training learnt, as a calibration that both back ends consume."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.fingerprint import Book, prints_of
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.calibrate.observe_module import module_calibration
from edgekit.quantization.qat.module import FakeQuantized
from edgekit.runtime.torch import free_batch
from edgekit.types import Feed, Network

METHOD = "qat"


def learned_calibration(module: FakeQuantized, plain: Network, feeds: Iterable[Feed], data: str) -> Calibration:
    """The ranges of ``module``, by the names of the tensors of ``plain``, the same network without roundings.

    A tensor that ``module`` rounds has the range it learnt; every other one (what is fused away in one file and not in
    another) the smallest and largest value that ``feeds`` make.
    """
    observed = module_calibration(
        plain.module, free_batch(plain.signature), feeds, contract=plain.card.contract, data=data
    )
    assert observed.probes is not None  # a calibration of a module has them
    inputs = [spec.name for spec in plain.signature.inputs]
    runs = [
        {
            name: value.numpy()
            for name, value in module.observed([torch.from_numpy(feed[name]) for name in inputs]).items()
        }
        for feed in observed.probes.feeds
    ]
    points, ranges = Book(prints_of(runs)), module.learned()
    known = {}
    for name, rows in observed.probes.prints.items():
        near = points.candidates(rows)
        if near:
            known[name] = Range(*ranges[near[0].name])
    return observed.with_ranges(known, method=METHOD)
