"""``edgekit models``."""

from __future__ import annotations

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.manage import ModelsOptions


@verb_command(ModelsOptions)
def command() -> None:
    """Lists the network families, their size, task and shipped quality."""
    from edgekit.pipeline.models import models
    from edgekit.report.verbs import render_models

    emit("models", models(), render=render_models)
