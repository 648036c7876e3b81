"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.options import (
    emit,
    input_option,
    json_path,
    listed,
    output_options,
    seed_option,
    shape_option,
    thread_counts,
)
from edgekit.cli.progress import fleet_bars


@click.command()
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--on", metavar="DEVICE", multiple=True, help="Where to run; several make one matrix.  [default: cpu]")
@click.option(
    "--class",
    "classes",
    metavar="NAME",
    multiple=True,
    help="Hold this machine to a class of devices: phone-2gb, phone-4gb, board-1gb, board-512mb, board-1core.",
)
@click.option(
    "--runtime",
    metavar="NAME[,NAME]",
    multiple=True,
    callback=listed,
    help="Runtimes; each model gets those that read its format.",
)
@click.option(
    "--threads",
    metavar="N[,N]",
    multiple=True,
    default=("1",),
    callback=thread_counts,
    show_default=True,
    help="Threads of the runtime, each number a cell of its own.",
)
@click.option(
    "--scenario",
    default="single-stream",
    show_default=True,
    metavar="NAME",
    help="single-stream, multi-stream, offline (whole batches), server (Poisson arrivals), fixed-rate (a sensor).",
)
@click.option("--rate", type=float, metavar="HZ", help="Queries a second (server, fixed-rate).")
@click.option("--latency-bound", type=float, metavar="MS", help="What server's p99 must keep; a deadline (fixed-rate).")
@click.option("--sustain", metavar="TIME", help="Then run each model for so long (90s, 30m): latency against time.")
@click.option("--streams", type=int, metavar="N", help="Samples of one query in multi-stream (default: 8).")
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Time for each cell, warm-up included.")
@click.option("--batch", type=click.IntRange(1), help="Samples at once, where the file's first axis is free (offline).")
@shape_option()
@input_option("One real sample (.npz, .npy, .jpg, .wav, .csv) instead of seeded values.")
@seed_option
@click.option("--workers", type=int, help="Processes for each cell, which take turns (default: 2 to 4).")
@click.option("--profile", is_flag=True, help="Also time per operator, type and layer, in a pass of its own.")
@click.option("--roofline", is_flag=True, help="Also count operations and bytes, and measure the machine's peaks.")
@click.option("--cold", is_flag=True, help="Also time starts: file out of the page cache, in it, compiled before.")
@click.option("--fit", is_flag=True, help="Also look for the smallest memory limit under which it runs.")
@click.option("--end-to-end", is_flag=True, help="Also time the way from --input to an answer, stage by stage.")
@click.option("--energy", is_flag=True, help="Also measure joules a run, where the platform has a meter.")
@click.option("--probe", is_flag=True, help="Also look at denormal weights, real against seeded input, resets.")
@click.option("--instructions", is_flag=True, help="Also count ARM instructions of an inference (emulator: only).")
@click.option("--require-full-delegation", is_flag=True, help="Exit 1 if the delegate left out an operator.")
@click.option("--baseline", metavar="FILE", help="Compare with a saved result (bench ... --json FILE).")
@click.option(
    "--fail-slower",
    type=click.FloatRange(0),
    metavar="PERCENT",
    help="Exit 1 if slower by more than this, 5 if the noise does not allow to say.",
)
@click.option(
    "--replay", metavar="FILE", help="Run a saved result again, the same models and plan, and compare with it."
)
@click.option(
    "--tool", metavar="PATH", multiple=True, help="Program that times a model on adb: devices (benchmark_model)."
)
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds to wait for a worker's answer.")
@click.option(
    "--resume/--fresh",
    default=None,
    help="Go on with the same run that was interrupted, or begin again (default: go on if it is of the last hour).",
)
@click.option("--plot", "plot_path", metavar="PATH", help="Draw a histogram and the times in time (.png, .svg).")
@click.option("--csv", "csv_path", metavar="PATH", help="Write the table as CSV.")
@click.option("--markdown", "markdown_path", metavar="PATH", help="Write the table as Markdown.")
@output_options
def command(
    models: tuple[str, ...],
    on: tuple[str, ...],
    classes: tuple[str, ...],
    plot_path: str | None,
    csv_path: str | None,
    markdown_path: str | None,
    **keywords: object,
) -> None:
    """Times models, several of them in interleaved blocks.

    Every cell (model x device x threads x runtime) runs in its own worker process, one at a time on a machine, in ABBA
    order; different machines run at the same time. On each device the first model is what the others are compared with:
    a ratio of 0.5 is half its time. Percentiles that the number of runs does not support are not given.

    Finished blocks are kept on disk (beside --json, or in the state folder): after an interruption the same command
    goes on.
    """
    from edgekit.outputs import check_output, publishing
    from edgekit.pipeline.bench import bench
    from edgekit.report.bench import bench_csv, bench_markdown, bench_report
    from edgekit.report.bench_plot import check_plot, draw

    plot = None if plot_path is None else Path(plot_path)
    suffix = None if plot is None else check_plot(plot)
    for path in (csv_path, markdown_path):
        if path is not None:
            check_output(path)
    context = click.get_current_context()
    if keywords["replay"] is not None:  # what was not typed must not stand against what was saved
        typed = click.core.ParameterSource.COMMANDLINE
        keywords = {name: value for name, value in keywords.items() if context.get_parameter_source(name) is typed}
    target = json_path()
    keywords["journal"] = True if target is None else f"{target}.part"
    places = (*on, *(f"class:{name}" for name in classes))
    if places:
        keywords["on"] = places
    with fleet_bars(len(set(places)) > 1) as progress:
        result = bench(models, progress=progress, **keywords)
    emit("bench", result, render=lambda found: bench_report(found.record))
    for path, text in ((csv_path, bench_csv), (markdown_path, bench_markdown)):
        if path is not None:
            with publishing(Path(path)) as place:
                place.write_text(text(result.record), encoding="utf-8")
    if plot is not None and suffix is not None:
        with publishing(plot, suffix) as place:
            draw(result.record, place, suffix)
    result.delivered()
    failure = result.failure()
    if failure is not None:
        raise failure
