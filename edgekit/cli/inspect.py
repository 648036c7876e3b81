"""``edgekit inspect``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.measure import InspectOptions


@verb_command(InspectOptions)
def command(**options: Any) -> None:
    """Shows what a model file is: card, signature, operators, size, history.

    MODEL can be a saved calibration (.json): method, data, ranges by layer, and what is wrong with it.
    """
    from edgekit.pipeline.inspect import inspect
    from edgekit.report.verbs import render_inspect

    emit("inspect", inspect(**options), render=render_inspect)
