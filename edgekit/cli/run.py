"""``edgekit run``."""

from __future__ import annotations

import click

from edgekit.cli.options import device_option, emit, output_options, runtime_option


@click.command()
@click.argument("model")
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@device_option
@runtime_option
@click.option("-o", "--out", metavar="OUT.npz|OUT.png", help="Write the whole outputs here, or generated images.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Labels to print.")
@output_options
def command(model: str, inputs: tuple[str, ...], on: str, runtime: str | None, out: str | None, top: int) -> None:
    """Runs one inference on real input: prints labels or writes arrays.

    INPUT is what the model was made for: an image, a .wav, a sentence or .txt, a .csv (one row of a table, the last
    rows of a series), or an .npz or .npy of model-ready arrays; each is one sample. A generator of
    images takes noise:N or noise:N@SEED, N samples of seeded noise (64 where nothing is given), and writes them side
    by side as one .png: the one -o names, else MODEL.png here.
    """
    from edgekit.pipeline.run import run
    from edgekit.report.verbs import render_run

    emit("run", run(model, inputs, on=on, runtime=runtime, out=out, top=top), render=render_run)
