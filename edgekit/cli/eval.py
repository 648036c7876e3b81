"""``edgekit eval``."""

from __future__ import annotations

import click

from edgekit.cli.options import (
    data_option,
    device_option,
    emit,
    limit_option,
    output_options,
    runtime_option,
    threads_option,
)


@click.command()
@click.argument("model")
@data_option(required=True)
@device_option
@runtime_option
@limit_option
@threads_option
@output_options
def command(model: str, data: str, on: str, runtime: str | None, limit: int | None, threads: int) -> None:
    """Measures the task's metric of a model file on a data set.

    Classification: top-1 accuracy, and accuracy per class, on the test split unless DATA names another.
    """
    from edgekit.pipeline.evaluate import evaluate
    from edgekit.report.eval import render_eval

    result = evaluate(model, data=data, on=on, runtime=runtime, limit=limit, threads=threads)
    emit("eval", result, render=render_eval)
