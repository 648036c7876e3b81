"""Which types of operators int8 leaves in float, by what the kernels of a device took."""

from __future__ import annotations

import logging
from collections import defaultdict

from edgekit.errors import EdgekitError
from edgekit.leftovers import scratch_folder
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.quantize import plan_quantize
from edgekit.pipeline.search.steps import MadeFile
from edgekit.quantization.kernel_choice import FLOAT
from edgekit.types import Format

log = logging.getLogger("edgekit")


def slow_kinds(made: MadeFile, options: OptimizeOptions) -> str:
    """Types of operators, with commas, of which most of the time falls to those that are better left in float on the
    first device. By type and not by name, so that it holds for smaller networks, too; empty where there are none, or
    where that could not be found out, and where the quantizer chooses itself (.pte).
    """
    assert made.path is not None
    if made.artifact.format is Format.PTE:
        return ""
    times: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    with scratch_folder() as folder:
        try:
            plan = plan_quantize(
                made.path, scheme="int8", data=options.data, samples=options.samples, on=options.on[0],
                out=folder / f"plan{made.path.suffix}",
            )  # fmt: skip
        except EdgekitError as error:
            log.info("int8 kernels of %s are not weighed: %s", made.path.name, error)
            return ""
    for row in plan.kernels:
        times[row.kind][row.kept == FLOAT] += row.float_ns or 0.0
    found = sorted(kind for kind, (integer, float_) in times.items() if float_ > integer)
    if len(found) == len(times):  # nothing would be left on integers
        return ""
    return ",".join(found)
