"""``edgekit quantize``."""

from __future__ import annotations

import click

from edgekit.cli.options import data_option, emit, limit_option, out_option, output_options


@click.command()
@click.argument("model")
@click.option("--scheme", metavar="SCHEME", required=True,
              help="int8, int8-dynamic, int8-weights, fp16; .tflite also int16x8, int4-weights.")  # fmt: skip
@data_option()
@click.option("--samples", type=click.IntRange(1), help="Calibration samples, classes balanced (300 without it).")
@click.option("--calibration", metavar="HOW",
              help="How ranges are found: minmax, percentile, entropy, mse; or a saved .json.")  # fmt: skip
@click.option("--save-calibration", metavar="FILE.json", help="Keep the ranges that were found.")
@click.option("--max-drop", type=float, metavar="D",
              help="Largest loss of quality to publish, as a fraction (0.01: one point of accuracy).")  # fmt: skip
@limit_option
@click.option("--time", "seconds", type=click.FloatRange(0, 3600), default=1.0, metavar="SECONDS",
              help="How long it and its parent are timed, interleaved; 0: not at all.  [default: 1]")  # fmt: skip
@click.option("--on", metavar="DEVICE", default="cpu", help="Where they are timed.  [default: cpu]")
@click.option("--integer-io", is_flag=True, help="Inputs and outputs of the file are integers too.")
@out_option("Model file to write; same suffix as MODEL.")
@output_options
def command(
    model: str,
    scheme: str,
    data: str | None,
    samples: int | None,
    calibration: str | None,
    save_calibration: str | None,
    max_drop: float | None,
    limit: int | None,
    seconds: float,
    on: str,
    integer_io: bool,
    out: str,
) -> None:
    """Makes a smaller file with integer or half-precision weights.

    MODEL is a float .onnx or .tflite file. Ranges come from the train split of --data, quality before and after from
    its test split; the time ratio to its parent comes with a verdict. A file that grew, or
    lost more than --max-drop, is not published (exit 1).
    """
    from edgekit.pipeline.quantize import quantize
    from edgekit.report.quantize import render_quantize

    result = quantize(
        model,
        scheme=scheme,
        out=out,
        data=data,
        samples=samples,
        calibration=calibration,
        save_calibration=save_calibration,
        max_drop=max_drop,
        limit=limit,
        integer_io=integer_io,
        time=seconds or None,
        on=on,
    )
    emit("quantize", result, render=render_quantize)
