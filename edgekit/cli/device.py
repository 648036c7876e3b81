"""``edgekit device``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.manage import DeviceAddOptions, DeviceCheckOptions, DeviceRemoveOptions, DevicesOptions


@click.group()
def command() -> None:
    """Lists, names and checks the places models can run."""


@verb_command(DevicesOptions)
def list_(**options: Any) -> None:
    """Lists the kinds of device, and the devices that were given names."""
    from edgekit.pipeline.device import devices
    from edgekit.report.device import render_devices

    emit("device", devices(**options), render=render_devices)


@verb_command(DeviceAddOptions)
def add(**options: Any) -> None:
    """Checks the device at ADDRESS (ssh://user@host) and gives it a NAME for --on."""
    from edgekit.pipeline.device import add as add_device
    from edgekit.report.device import render_saved

    emit("device", add_device(**options), render=render_saved)


@verb_command(DeviceCheckOptions)
def check(**options: Any) -> None:
    """Tries every runtime on DEVICE and what can go wrong on the way; exit code 4 unless all of it holds.

    The self-test of every MODEL is replayed there.
    """
    from edgekit.pipeline.device_check import check as check_device
    from edgekit.report.device import render_check

    emit("device", check_device(**options), render=render_check)


@verb_command(DeviceRemoveOptions)
def remove(**options: Any) -> None:
    """Takes NAME out of the saved devices; nothing is done to the device."""
    from edgekit.pipeline.device import remove as remove_device
    from edgekit.report.device import render_saved

    emit("device", remove_device(**options), render=render_saved)


for name, one in {"list": list_, "add": add, "check": check, "remove": remove}.items():
    command.add_command(one, name)
