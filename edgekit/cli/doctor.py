"""``edgekit doctor``."""

from __future__ import annotations

import click

from edgekit.cli.options import device_option, emit, output_options


@click.command()
@device_option
@click.option("--quick", is_flag=True, help="List what is installed, try nothing.")
@output_options
def command(on: str, quick: bool) -> None:
    """Says what is installed, which backends work, and how to get the rest.

    Every runtime is tried with a tiny model in a worker. Exit code 0 when at least one works, 4 when none does or
    the device cannot be used.
    """
    from edgekit.errors import DeviceError
    from edgekit.pipeline.doctor import doctor
    from edgekit.report.verbs import render_doctor

    result = doctor(on=on, quick=quick)
    emit("doctor", result, render=render_doctor)
    if result.trouble is not None:
        raise DeviceError(result.trouble)
    if not result.usable:
        raise DeviceError(f"no runtime works on {on}; install one, for example: pip install 'edgekit[onnx,litert]'")
