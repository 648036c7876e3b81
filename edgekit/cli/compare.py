"""``edgekit compare``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.measure import CompareOptions


@verb_command(CompareOptions)
def command(**options: Any) -> None:
    """Compares two saved bench results.

    A is what is judged, B the baseline: a ratio of 0.5 means that A takes half the time of B. Results of another CPU
    or another evidence class are refused.
    """
    from edgekit.pipeline.compare import compare
    from edgekit.report.bench import compare_report

    emit("compare", compare(**options), render=lambda result: compare_report(result.document()))
