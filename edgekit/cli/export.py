"""``edgekit export``."""

from __future__ import annotations

import click

from edgekit.cli.options import (
    data_option,
    emit,
    factory_option,
    input_option,
    out_option,
    output_options,
    shape_option,
    tolerance_option,
)


@click.command()
@click.argument("source")
@click.option(
    "--to", "to", metavar="FORMAT", multiple=True, required=True, help="onnx, tflite or pt2; may be repeated."
)
@click.option("--dynamic", metavar="INPUT:AXIS=NAME", multiple=True, help="An axis that may vary: image:0=batch.")
@click.option("--opset", type=int, metavar="N", help="ONNX operator set (18 without it).")
@data_option()
@click.option("--channels-last", is_flag=True, help="Take inputs of rank 4 as (N, H, W, C), as cameras deliver them.")
@click.option("--stateful", is_flag=True, help="LSTM and RNN in .tflite keep their state between calls.")
@click.option("--streaming", is_flag=True, help="One step a run, recurrent state as inputs and outputs: NAME-step.")
@factory_option
@click.option("--name", metavar="NAME", help="File name without suffix; the network's own without it.")
@shape_option("INPUT=1x576, or NAME=576 for a --dynamic NAME: other sizes than those of its examples.")
@input_option()
@tolerance_option
@click.option("--overwrite", is_flag=True, help="Replace files that were made from other weights.")
@out_option("Folder for the files.", "DIR")
@output_options
def command(
    source: str,
    to: tuple[str, ...],
    dynamic: tuple[str, ...],
    opset: int | None,
    data: str | None,
    channels_last: bool,
    stateful: bool,
    streaming: bool,
    factory: str | None,
    name: str | None,
    shape: tuple[str, ...],
    input: str | None,
    tolerance: float | None,
    overwrite: bool,
    out: str,
) -> None:
    """Converts a network to ONNX, TFLite or PT2, proves it, publishes it.

    SOURCE is a zoo name, a checkpoint, file.py:factory, package.module:factory, a .pt2 or .keras file, a SavedModel
    folder, timm:NAME or hf:NAME_OR_FOLDER.
    """
    from edgekit.pipeline.export import export
    from edgekit.report.export import render_export

    result = export(
        source,
        to=to,
        out=out,
        dynamic=dynamic,
        opset=opset,
        data=data,
        channels_last=channels_last,
        stateful=stateful,
        streaming=streaming,
        factory=factory,
        name=name,
        tolerance=tolerance,
        overwrite=overwrite,
        shape=shape,
        input=input,
    )
    emit("export", result, render=render_export)
