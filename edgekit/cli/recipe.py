"""``edgekit recipe``."""

from __future__ import annotations

import click

from edgekit.cli.options import emit, output_options

_OUT = click.option("-o", "--out", metavar="DIR", help="Folder for the files; runs/NAME without it.")


@click.group()
def command() -> None:
    """Several steps, formats and devices in one run that can be continued."""


@command.command()
@click.argument("recipe")
@output_options
def check(recipe: str) -> None:
    """Says whether RECIPE can be run: all mistakes at once, each with its line; runs nothing."""
    from edgekit.pipeline.recipe import check as check_recipe
    from edgekit.report.recipe import render_check

    emit("recipe", check_recipe(recipe), render=render_check)


@command.command()
@click.argument("recipe")
@_OUT
@output_options
def show(recipe: str, out: str | None) -> None:
    """Prints the command lines that RECIPE stands for, which are done already, and why the others are not."""
    from edgekit.pipeline.recipe import show as show_recipe
    from edgekit.report.recipe import render_show

    emit("recipe", show_recipe(recipe, out=out), render=render_show)


@command.command()
@click.argument("recipe")
@_OUT
@click.option("--fresh", is_flag=True, help="Do everything again, finished or not.")
@output_options
def run(recipe: str, out: str | None, fresh: bool) -> None:
    """Runs what is not done of RECIPE, a .toml file or a name of 'edgekit models'.

    Given again it goes on where it was stopped, and does again what depends on something that changed. A run that fails
    stops what depends on it only; the exit code is then the first there is of 4, 3, 2, 1, 5.
    """
    from edgekit.pipeline.recipe import run as run_recipe
    from edgekit.report.recipe import render_run

    result = run_recipe(recipe, out=out, fresh=fresh)
    emit("recipe", result, render=render_run)
    failure = result.failure()
    if failure is not None:
        raise failure
