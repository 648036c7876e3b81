"""The files a bench writes beside its result: a plot, a table as CSV, a table as Markdown."""

from __future__ import annotations

from pathlib import Path

from edgekit.options.bench import BenchOptions
from edgekit.outputs import check_output, publishing
from edgekit.pipeline.bench.result import BenchResult
from edgekit.report.bench import bench_csv, bench_markdown
from edgekit.report.bench_plot import check_plot, draw


def check_files(options: BenchOptions) -> str:
    """The kind of the plot, such as ``.svg``; empty without one.

    Raises:
        UsageError: a place that cannot be written, or a plot of an unknown kind.
    """
    for path in (options.csv, options.markdown):
        if path is not None:
            check_output(path)
    return "" if options.plot is None else check_plot(Path(options.plot))


def write_files(result: BenchResult, options: BenchOptions, suffix: str) -> None:
    """Writes the files that ``options`` name; ``suffix``: of the plot."""
    document = result.document()
    for path, text in ((options.csv, bench_csv), (options.markdown, bench_markdown)):
        if path is not None:
            with publishing(Path(path)) as place:
                place.write_text(text(document), encoding="utf-8")
    if options.plot is not None:
        with publishing(Path(options.plot), suffix) as place:
            draw(document, place, suffix)
