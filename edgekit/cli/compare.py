"""``edgekit compare``."""

from __future__ import annotations

import click

from edgekit.cli.options import emit, output_options


@click.command()
@click.argument("a", metavar="A.json")
@click.argument("b", metavar="B.json")
@click.option(
    "--fail-slower",
    type=click.FloatRange(0),
    metavar="PERCENT",
    help="Exit 1 if A is slower than B by more than this, 5 if the noise does not allow to say.",
)
@output_options
def command(a: str, b: str, fail_slower: float | None) -> None:
    """Compares two saved bench results.

    A is what is judged, B the baseline: a ratio of 0.5 means that A takes half the time of B. Results of another CPU
    or another evidence class are refused.
    """
    from edgekit.pipeline.compare import compare
    from edgekit.report.bench import compare_report

    result = compare(a, b, fail_slower=fail_slower)
    emit("compare", result, render=compare_report)
    failure = result.failure()
    if failure is not None:
        raise failure
