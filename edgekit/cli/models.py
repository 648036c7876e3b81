"""``edgekit models``."""

from __future__ import annotations

import click

from edgekit.cli.options import emit, output_options


@click.command()
@output_options
def command() -> None:
    """Lists the network families, their size, task and shipped quality."""
    from edgekit.pipeline.models import models
    from edgekit.report.verbs import render_models

    emit("models", models(), render=render_models)
