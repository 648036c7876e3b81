"""``edgekit optimize``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.optimize import OptimizeOptions


@verb_command(OptimizeOptions, page=True, log=True)
def command(**options: Any) -> None:
    """Searches for the best files of a network on a device.

    SOURCE is pruned, trained further, exported and quantized, each trial in another way; what nothing beside it is
    better than in quality, time, bytes and memory is timed once more in one interleaved run with the float files, and
    lies in -o DIR/front with the recipe that makes it again. One file is recommended, with its reason; exit 1 where
    none keeps the limits.

    A search that was stopped goes on with the same command; more --trials go on with it, too, and several processes
    may work in one DIR.
    """
    from edgekit.pipeline.optimize import optimize
    from edgekit.report.optimize import render_optimize

    emit("optimize", optimize(**options), render=render_optimize)
