"""``edgekit eval``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.measure import EvalOptions


@verb_command(EvalOptions, page=True, log=True)
def command(**options: Any) -> None:
    """Measures the task's metric of a model file on a data set.

    Classification: top-1 accuracy, and accuracy per class, on the test split unless DATA names another.
    """
    from edgekit.pipeline.evaluate import evaluate
    from edgekit.report.eval import render_eval

    emit("eval", evaluate(**options), render=render_eval)
