"""``edgekit bench``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit, json_path
from edgekit.options.bench import BenchOptions


@verb_command(BenchOptions, page=True, log=True)
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
    emit("bench", bench(journal=journal, **options), render=lambda result: bench_report(result.record))
