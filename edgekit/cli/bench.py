"""``edgekit bench``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit, json_path
from edgekit.cli.progress import fleet_bars
from edgekit.options.bench import BenchOptions


@verb_command(BenchOptions, page=True)
def command(**options: Any) -> None:
    """Times models, several of them in interleaved blocks.

    Every cell (model x device x threads x runtime) runs in its own worker process, one at a time on a machine, in ABBA
    order; different machines run at the same time. On each device the first model is what the others are compared with:
    a ratio of 0.5 is half its time. Percentiles that the number of runs does not support are not given.

    Finished blocks are kept on disk (beside --json, or in the state folder): after an interruption the same command
    goes on.
    """
    from edgekit.pipeline.bench import bench
    from edgekit.report.bench import bench_report

    target = json_path()
    journal = True if target is None else f"{target}.part"
    several = len({*options.get("on", ()), *options.get("class_", ())}) > 1
    with fleet_bars(several) as progress:
        result = bench(journal=journal, progress=progress, **options)
    emit("bench", result, render=lambda result: bench_report(result.record))
