"""``edgekit device``."""

from __future__ import annotations

import click

from edgekit.cli.options import emit, output_options


@click.group()
def command() -> None:
    """Lists, names and checks the places models can run."""


@command.command("list")
@click.option(
    "--state/--no-state",
    default=True,
    help="Ask every saved device how it is: ready, leased (by whom, until when) or not.",
)
@output_options
def list_(state: bool) -> None:
    """Lists the kinds of device, and the devices that were given names."""
    from edgekit.pipeline.device import devices
    from edgekit.report.device import render_devices

    emit("device", devices(state=state), render=render_devices)


@command.command()
@click.argument("name")
@click.argument("address")
@output_options
def add(name: str, address: str) -> None:
    """Checks the device at ADDRESS (ssh://user@host) and gives it a NAME for --on."""
    from edgekit.pipeline.device import add as add_device
    from edgekit.report.device import render_saved

    emit("device", add_device(name, address), render=render_saved)


@command.command()
@click.argument("device")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@output_options
def check(device: str, models: tuple[str, ...]) -> None:
    """Tries every runtime on DEVICE and what can go wrong on the way; exit code 4 unless all of it holds.

    The self-test of every MODEL is replayed there.
    """
    from edgekit.errors import DeviceError
    from edgekit.pipeline.device_check import check as check_device
    from edgekit.report.device import render_check

    result = check_device(device, models=models)
    emit("device", result, render=render_check)
    if not result.usable:
        raise DeviceError("; ".join(result.advice))
    failed = [f"{trial.name}: {trial.detail}" for trial in result.trials if not trial.passed]
    if failed:
        raise DeviceError(f"{device} failed {len(failed)} of {len(result.trials)} trials: {'; '.join(failed)}")


@command.command()
@click.argument("name")
@output_options
def remove(name: str) -> None:
    """Takes NAME out of the saved devices; nothing is done to the device."""
    from edgekit.pipeline.device import remove as remove_device
    from edgekit.report.device import render_saved

    emit("device", remove_device(name), render=render_saved)
