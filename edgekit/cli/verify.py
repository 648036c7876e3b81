"""``edgekit verify``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.measure import VerifyOptions


@verb_command(VerifyOptions, page=True, log=True)
def command(**options: Any) -> None:
    """Compares a model's outputs with another model or its source, case by case.

    Without --tolerance 1e-4 of each output's scale is allowed; an int8 file against its float parent needs one.
    """
    from edgekit.pipeline.verify import verify
    from edgekit.report.verify import render_verify

    emit("verify", verify(**options), render=render_verify)
