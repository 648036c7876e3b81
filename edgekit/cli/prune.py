"""``edgekit prune``."""

from __future__ import annotations

import click

from edgekit.cli.options import (
    data_option,
    device_option,
    emit,
    factory_option,
    out_option,
    output_options,
    seed_option,
)
from edgekit.cli.progress import epoch_bar


@click.command()
@click.argument("source")
@factory_option
@click.option("--method", metavar="METHOD", default="channels", show_default=True,
              help="What leaves: channels (units, heads), blocks (residual); magnitude, 2:4: weights.")  # fmt: skip
@click.option("--amount", type=float, metavar="A",
              help="Share of the multiply-accumulates (magnitude: of the weights) to remove, 0 < A < 1.")  # fmt: skip
@click.option("--target-macs", type=click.IntRange(1), metavar="N", help="Prune to N multiply-accumulates.")
@click.option("--target-latency", type=float, metavar="MS", help="Prune until a run takes MS milliseconds on --on.")
@click.option("--max-drop", type=float, metavar="D",
              help="Largest loss of quality to publish; alone: prune as much as stays within it.")  # fmt: skip
@device_option
@click.option("--to", metavar="FORMAT", default="onnx", show_default=True, help="Format that is timed: onnx, tflite.")
@data_option()
@click.option("--epochs", type=click.IntRange(0), help="Passes of fine-tuning over --data (10 without it; 0: none).")
@click.option("--distil/--no-distil", default=True, help="Learn from the unpruned network too (default: yes).")
@click.option("--importance", metavar="HOW", default="magnitude", show_default=True,
              help="What matters: magnitude, taylor, bn-scale, random (blocks: magnitude, random).")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), help="Reach the amount in so many steps, fine-tuning after each.")
@click.option("--spread", metavar="HOW", default="even", show_default=True,
              help="even: the same share of every group; global: where it costs least.")  # fmt: skip
@click.option("--round-to", type=click.IntRange(1), default=8, show_default=True, help="Widths are multiples of this.")
@click.option("--keep", metavar="LAYER", multiple=True,
              help="Layers that stay as wide as they are, or blocks that stay; 'stem.*' is a pattern.")  # fmt: skip
@click.option("--lr", type=click.FloatRange(0, min_open=True), metavar="RATE",
              help="Peak learning rate of the fine-tuning; a tenth of the family's without it.")  # fmt: skip
@seed_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@out_option("Checkpoint to write (.safetensors).", "OUT.safetensors")
@output_options
def command(
    source: str,
    factory: str | None,
    method: str,
    amount: float | None,
    target_macs: int | None,
    target_latency: float | None,
    max_drop: float | None,
    on: str,
    to: str,
    data: str | None,
    epochs: int | None,
    distil: bool,
    importance: str,
    steps: int | None,
    spread: str,
    round_to: int,
    keep: tuple[str, ...],
    lr: float | None,
    seed: int,
    device: str,
    out: str,
) -> None:
    """Removes whole channels, hidden units, heads or residual blocks from a network and fine-tunes what is left.

    SOURCE is a zoo name, a checkpoint (.safetensors), file.py:factory or pkg.mod:factory. Inputs and classes stay as
    they are. A network that lost more than --max-drop, or cannot reach a target, is not published (exit 1).
    """
    from edgekit.pipeline.prune import PruneOptions, prune
    from edgekit.report.prune import render_prune

    with epoch_bar() as progress:
        result = prune(
            source,
            factory=factory,
            amount=amount,
            out=out,
            method=method,
            data=data,
            epochs=epochs,
            seed=seed,
            progress=progress,
            options=PruneOptions(
                distil=distil,
                spread=spread,
                round_to=round_to,
                keep=keep,
                overrides={} if lr is None else {"lr": lr},
                device=device,
                importance=importance,
                steps=steps,
                target_macs=target_macs,
                target_latency=target_latency,
                on=on,
                to=to,
                max_drop=max_drop,
            ),
        )
    emit("prune", result, render=render_prune)
