"""``edgekit recipe``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.manage import RecipeCheckOptions, RecipeRunOptions, RecipeShowOptions


@click.group()
def command() -> None:
    """Several steps, formats and devices in one run that can be continued."""


@verb_command(RecipeCheckOptions)
def check(**options: Any) -> None:
    """Says whether RECIPE can be run: all mistakes at once, each with its line; runs nothing."""
    from edgekit.pipeline.recipe import check as check_recipe
    from edgekit.report.recipe import render_check

    emit("recipe", check_recipe(**options), render=render_check)


@verb_command(RecipeShowOptions)
def show(**options: Any) -> None:
    """Prints the command lines that RECIPE stands for, which are done already, and why the others are not."""
    from edgekit.pipeline.recipe import show as show_recipe
    from edgekit.report.recipe import render_show

    emit("recipe", show_recipe(**options), render=render_show)


@verb_command(RecipeRunOptions, page=True)
def run(**options: Any) -> None:
    """Runs what is not done of RECIPE, a .toml file or a name of 'edgekit models'.

    Given again it goes on where it was stopped, and does again what depends on something that changed. A run that fails
    stops what depends on it only; the exit code is then the first there is of 4, 3, 2, 1, 5.
    """
    from edgekit.pipeline.recipe import run as run_recipe
    from edgekit.report.recipe import render_run

    emit("recipe", run_recipe(**options), render=render_run)


for name, one in {"check": check, "show": show, "run": run}.items():
    command.add_command(one, name)
