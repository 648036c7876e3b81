"""``edgekit prune``."""

from __future__ import annotations

import click

from edgekit.cli.options import data_option, emit, out_option, output_options, seed_option
from edgekit.cli.progress import epoch_bar


@click.command()
@click.argument("source")
@click.option(
    "--method",
    metavar="METHOD",
    default="channels",
    show_default=True,
    help="What leaves: channels (hidden units, heads).",
)
@click.option("--amount", type=float, required=True, metavar="A",
              help="Share of the multiply-accumulates to remove, 0 < A < 1.")  # fmt: skip
@data_option()
@click.option("--epochs", type=click.IntRange(0), help="Passes of fine-tuning over --data (10 without it; 0: none).")
@click.option("--distil/--no-distil", default=True, help="Learn from the unpruned network too (default: yes).")
@click.option("--spread", metavar="HOW", default="even", show_default=True,
              help="even: the same share of every group; global: where it costs least.")  # fmt: skip
@click.option("--round-to", type=click.IntRange(1), default=8, show_default=True, help="Widths are multiples of this.")
@seed_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@out_option("Checkpoint to write (.safetensors).", "OUT.safetensors")
@output_options
def command(
    source: str,
    method: str,
    amount: float,
    data: str | None,
    epochs: int | None,
    distil: bool,
    spread: str,
    round_to: int,
    seed: int,
    device: str,
    out: str,
) -> None:
    """Removes whole channels, hidden units and heads from a network and fine-tunes what is left.

    SOURCE is a zoo name, a checkpoint (.safetensors), file.py:factory or pkg.mod:factory. Inputs and classes stay as
    they are.
    """
    from edgekit.pipeline.prune import PruneOptions, prune
    from edgekit.report.prune import render_prune

    with epoch_bar() as progress:
        result = prune(
            source,
            amount=amount,
            out=out,
            method=method,
            data=data,
            epochs=epochs,
            seed=seed,
            progress=progress,
            options=PruneOptions(distil, spread, round_to, device),
        )
    emit("prune", result, render=render_prune)
