"""``edgekit report RESULT.json…``: saved results as one page."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import InputError
from edgekit.options.base import with_options
from edgekit.options.report import ReportOptions
from edgekit.outputs import check_output, publishing
from edgekit.report.page import check_packages, page
from edgekit.results.report import ReportResult
from edgekit.results.saved import HOW, read_result


@with_options(ReportOptions)
def report(options: ReportOptions) -> ReportResult:
    """Makes one page of the saved ``results``, in their order: a file of HTML that needs nothing else.

    Raises:
        InputError: a file that is not a saved result of this version of edgekit.
        RuntimeMissingError: the packages that make pages are not installed.
        UsageError, StorageError: ``out`` cannot be written.
    """
    out = Path(options.out)
    check_output(out)
    check_packages()
    paths = tuple(map(Path, options.results))
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; {HOW}")
    text = page([read_result(path) for path in paths])
    with publishing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return ReportResult(page=out, bytes=len(text.encode()), documents=paths)
