"""``edgekit inspect``."""

from __future__ import annotations

import click

from edgekit.cli.options import emit, output_options


@click.command()
@click.argument("model")
@output_options
def command(model: str) -> None:
    """Shows what a model file is: card, signature, operators, size, history.

    MODEL can be a saved calibration (.json): method, data, ranges by layer, and what is wrong with it.
    """
    from edgekit.pipeline.inspect import inspect
    from edgekit.report.verbs import render_inspect

    emit("inspect", inspect(model), render=render_inspect)
