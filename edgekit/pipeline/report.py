"""``edgekit report RESULT.json… | DIR``: saved results as one page, or those of a folder over time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.bench.environment import environment
from edgekit.errors import UsageError
from edgekit.options.base import with_options
from edgekit.options.report import ReportOptions
from edgekit.outputs import check_output, publishing
from edgekit.pipeline.history import history
from edgekit.report.page import check_packages, page
from edgekit.results.history import HistoryResult
from edgekit.results.report import ReportResult
from edgekit.results.saved import SavedDocument, read_result
from edgekit.version import __version__


@with_options(ReportOptions)
def report(options: ReportOptions) -> ReportResult | HistoryResult:
    """Makes one page of the saved ``results``, in their order: a file of HTML that needs nothing else.

    Of a folder, what is saved in it is compared over time, and the page may be left out.

    Raises:
        InputError: a file that is not a saved result of this version of edgekit, or a folder without any.
        RuntimeMissingError: the packages that make pages are not installed.
        UsageError, StorageError: ``out`` cannot be written, or it is missing.
    """
    paths = tuple(map(Path, options.results))
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is not None and len(paths) > 1:
        raise UsageError(f"{folder} is a folder; give one folder, or files that --json wrote")
    if options.out is None and folder is None:
        raise UsageError("-o FILE.html: name the page to write")
    out = None if options.out is None else Path(options.out)
    if out is not None:
        check_output(out)
        check_packages()
    if folder is not None:
        found = history(folder)
        if out is not None:
            made = SavedDocument(
                verb="report", result=found, origin=str(folder), version=__version__, environment=environment()
            )
            found = replace(found, page=out)
            _publish(page([made]), out)
        return found
    assert out is not None
    size = _publish(page([read_result(path) for path in paths]), out)
    return ReportResult(page=out, bytes=size, documents=paths)


def _publish(text: str, out: Path) -> int:
    """Writes a page; its size in bytes."""
    with publishing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(text.encode())
