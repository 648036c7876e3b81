"""``edgekit quantize``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.options import (
    data_option,
    emit,
    input_option,
    limit_option,
    listed,
    optional_thread_counts,
    out_option,
    output_options,
    shape_option,
)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--scheme", metavar="SCHEME", required=True,
              help="int8, int8-dynamic, int8-weights, int4-weights, fp16; .tflite also int16x8; or auto.")  # fmt: skip
@data_option()
@click.option("--samples", type=click.IntRange(1), help="Calibration samples, classes balanced (300 without it).")
@click.option("--calibration", metavar="HOW",
              help="How ranges are found: minmax, percentile, entropy, mse; or a saved .json.")  # fmt: skip
@click.option("--save-calibration", metavar="FILE.json", help="Keep the ranges that were found.")
@click.option("--max-drop", type=float, metavar="D",
              help="Largest loss of quality to publish, as a fraction (0.01: one point of accuracy).")  # fmt: skip
@click.option("--min-snr", type=float, metavar="DB",
              help="Decibels each output has to reach beside the parent's.  [default: by scheme]")  # fmt: skip
@click.option("--mixed", is_flag=True,
              help="The worst operators stay in float until --max-drop or --min-snr hold; -o X.json.")  # fmt: skip
@click.option(
    "--keep-float", metavar="NAMES", help="What stays in float: names or operator types with commas, or a plan's .json."
)
@limit_option
@click.option("--stateful", is_flag=True, help="LSTM and RNN in .tflite keep their state between calls.")
@click.option("--integer-io", is_flag=True, help="Inputs of the file are integers, outputs too in .tflite.")
@click.option("--for", "for_", type=click.Choice(["cpu", "arm", "mcu", "npu"]),
              help="The target. cpu: the device of --on, where kernels are timed; arm: by XNNPACK's kernels; "
                   "mcu, npu: integers throughout.  [default: cpu]")  # fmt: skip
@click.option("--allow-slower", is_flag=True, help="Publish a file that is slower than its parent, or gained nothing.")
@shape_option("Sizes of free axes at which it is timed: INPUT=1x576 or DIMENSION=576.")
@input_option("One real sample at which it is timed (.npz, .npy, .jpg, .wav, .csv).")
@click.option("--dry-run", is_flag=True, help="Print what would be done, operator by operator; nothing is written.")
@click.option("--on", metavar="DEVICE",
              help="The device that times, and whose CPU decides on 7-bit weights (auto: and runs).")  # fmt: skip
@click.option("--seconds", type=float,
              help="How long the file and its parent are timed; 0: not at all.  [default: 1, auto: 3]")  # fmt: skip
@click.option("--threads", metavar="N[,N]", multiple=True, callback=optional_thread_counts,
              help="auto: threads of the runtimes, each number tried.  [default: 1]")  # fmt: skip
@click.option("--runtime", metavar="NAME[,NAME]", multiple=True, callback=listed,
              help="auto: runtimes to try.  [default: all that are installed]")  # fmt: skip
@click.option("--smaller", is_flag=True,
              help="auto: where none is faster, the smallest file that takes the same time.")  # fmt: skip
@click.option("--resume/--fresh", default=None,
              help="auto: go on with the same run that was interrupted, or begin again.")  # fmt: skip
@click.option("--factory", metavar="file.py:NAME", help="auto: what builds the network of a checkpoint of your own.")
@out_option("Model file to write; same suffix as MODEL. auto adds the suffix; a folder takes NAME-auto.FORMAT.")
@output_options
def command(
    models: tuple[str, ...],
    scheme: str,
    data: str | None,
    samples: int | None,
    calibration: str | None,
    save_calibration: str | None,
    max_drop: float | None,
    min_snr: float | None,
    mixed: bool,
    keep_float: str | None,
    limit: int | None,
    stateful: bool,
    integer_io: bool,
    for_: str | None,
    allow_slower: bool,
    shape: tuple[str, ...],
    input: str | None,
    dry_run: bool,
    on: str | None,
    seconds: float | None,
    threads: tuple[int, ...] | None,
    runtime: tuple[str, ...],
    smaller: bool,
    resume: bool | None,
    factory: str | None,
    out: str,
) -> None:
    """Makes a smaller file with integer or half-precision weights.

    MODEL is a float .onnx or .tflite file. Ranges come from the train split of --data, quality before and after from
    its test split; the time ratio to its parent comes with a verdict. A file that grew, lost more than --max-drop, is
    slower than its parent, wrong, or too far from its parent (--min-snr) is not published (exit 1).

    --scheme auto tries every scheme in every runtime of a device and publishes the fastest file within --max-drop, the
    float one where none is faster. There MODEL is a float file, one of each format, or a network (exported to both). An
    interrupted run goes on with its finished trials.
    """
    from edgekit.pipeline.auto import AutoResult
    from edgekit.pipeline.quantize import QuantizePlan, plan_mixed, plan_quantize, quantize
    from edgekit.pipeline.quantize.options import asked_mixed, asked_seconds
    from edgekit.report.auto import render_auto
    from edgekit.report.quantize import render_plan, render_quantize, render_quantize_plan

    if scheme != "auto":
        seconds = asked_seconds(seconds)
    own: dict[str, Any] = {"on": on, "seconds": seconds, "threads": threads, "runtime": runtime or None}
    own |= {"smaller": smaller or None, "resume": resume, "factory": factory}
    own |= {"for_": for_, "allow_slower": allow_slower or None, "shape": shape or None, "input": input}
    own["mixed"] = asked_mixed(mixed, keep_float)
    if mixed and out.lower().endswith(".json"):
        told = {"data": data, "samples": samples, "calibration": calibration, "max_drop": max_drop, "limit": limit}
        told["min_snr"] = min_snr
        emit("quantize", plan_mixed(models, scheme=scheme, out=out, **told), render=render_plan)
        return
    result = (plan_quantize if dry_run else quantize)(
        models,
        scheme=scheme,
        out=out,
        data=data,
        samples=samples,
        calibration=calibration,
        save_calibration=save_calibration,
        max_drop=max_drop,
        min_snr=min_snr,
        limit=limit,
        stateful=stateful,
        integer_io=integer_io,
        **{name: value for name, value in own.items() if value is not None},
    )
    if isinstance(result, QuantizePlan):
        emit("quantize", result, render=render_quantize_plan)
    elif isinstance(result, AutoResult):
        emit("quantize", result, render=render_auto)
        result.delivered()
    else:
        emit("quantize", result, render=render_quantize)
