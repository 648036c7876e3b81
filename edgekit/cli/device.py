"""``edgekit device``."""

from __future__ import annotations

import click

from edgekit.cli.options import emit, output_options


@click.group()
def command() -> None:
    """Lists and checks the places models can run."""


@command.command("list")
@output_options
def list_() -> None:
    """Lists the kinds of device, and which of them can be used here."""
    from edgekit.pipeline.device import devices
    from edgekit.report.verbs import render_devices

    emit("device", devices(), render=render_devices)


@command.command()
@click.argument("device")
@output_options
def check(device: str) -> None:
    """Starts a worker on DEVICE and tries every runtime there; exit code 4 when none works."""
    from edgekit.errors import DeviceError
    from edgekit.pipeline.doctor import doctor
    from edgekit.report.verbs import render_backends

    result = doctor(on=device)
    emit("device", result, render=render_backends)
    if not result.usable:
        raise DeviceError(f"no runtime works on {device}; 'edgekit doctor --on {device}' says how to get one")
