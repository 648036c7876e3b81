"""``edgekit report``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.report import ReportOptions


@verb_command(ReportOptions)
def command(**options: Any) -> None:
    """Makes one page of saved results, which works offline and can be shown.

    RESULT is what --json of a command wrote; several are shown on one page, and their files on one front. The page
    needs no network, no server and no other file.

    Of a folder DIR the saved results in it are compared over time: a course for each model, runtime, device and CPU, in
    which runs that are slower than the one before are marked, by the rules of 'edgekit compare'.
    """
    from edgekit.pipeline.report import report
    from edgekit.report.verbs import render_report

    emit("report", report(**options), render=render_report)
