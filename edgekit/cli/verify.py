"""``edgekit verify``."""

from __future__ import annotations

import click

from edgekit.cli.options import (
    data_option,
    device_option,
    emit,
    factory_option,
    input_option,
    output_options,
    runtime_option,
    shape_option,
    tolerance_option,
)


@click.command()
@click.argument("model")
@click.option("--against", metavar="MODEL_OR_SOURCE", required=True, help="A model file, or the network it came from.")
@factory_option
@data_option()
@shape_option()
@input_option()
@tolerance_option
@runtime_option
@device_option
@output_options
def command(
    model: str,
    against: str,
    factory: str | None,
    data: str | None,
    shape: tuple[str, ...],
    input: str | None,
    tolerance: float | None,
    runtime: str | None,
    on: str,
) -> None:
    """Compares a model's outputs with another model or its source, case by case.

    Without --tolerance 1e-4 of each output's scale is allowed; an int8 file against its float parent needs one.
    """
    from edgekit.errors import ParityError
    from edgekit.pipeline.verify import verify
    from edgekit.report.verify import render_verify

    result = verify(
        model,
        against=against,
        factory=factory,
        data=data,
        tolerance=tolerance,
        runtime=runtime,
        on=on,
        shape=shape,
        input=input,
    )
    emit("verify", result, render=render_verify)
    if not result.passed:
        raise ParityError(result.reason)
