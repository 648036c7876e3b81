"""The time of a compressed file relative to its parent, both timed in interleaved rounds on one device."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit.data.arrays import save_npz
from edgekit.leftovers import scratch_folder
from edgekit.pipeline.bench import bench
from edgekit.pipeline.quantize.make import QuantizedFile, Work
from edgekit.pipeline.quantize.samples import held_feeds
from edgekit.results.compressed import TimeRatio
from edgekit.types import Verdict

log = logging.getLogger("edgekit")


def timed(work: Work, made: QuantizedFile) -> TimeRatio | None:
    """How long the file takes relative to its parent, on a sample of the calibration data where there is any."""
    options = work.options
    if not options.seconds or options.for_ != "cpu":
        return None
    with _sample(work) as sample:
        return time_ratio(
            made.path,
            work.parent.path,
            options.seconds,
            options.device,
            shape=options.shape,
            input=str(options.input) if options.input else sample,
        )


@contextmanager
def _sample(work: Work) -> Iterator[str | None]:
    """A file with a sample that did not calibrate; None where the user gives sizes or an input, or there is no data."""
    options = work.options
    if options.shape or options.input is not None or work.samples.held is None:
        yield None
        return
    feed = next(iter(held_feeds(work.parent, work.samples, work.before.signature)))
    with scratch_folder() as folder:
        path = folder / "sample.npz"
        save_npz(path, feed)
        yield str(path)


def time_ratio(
    made: Path, parent: Path, seconds: float, on: str, *, shape: Sequence[str] = (), input: str | None = None
) -> TimeRatio:
    """Ratio of the typical times of ``made`` and ``parent`` with its 95% interval and verdict.

    Args:
        seconds: for each of the two, warm-up included.
        shape, input: sizes of free axes, or a file with one real sample; as :func:`edgekit.bench` takes them.
        on: a device, as :func:`edgekit.bench` takes it. One that has no times gives no verdict, and the reason.

    Raises:
        EdgekitError: one of the files does not run there.
    """
    log.info("timing it against %s on %s", parent, on)
    result = bench([parent, made], on=on, seconds=seconds, shape=tuple(shape), input=input)
    failure = result.failure()
    if failure is not None:
        raise failure
    device = result.results[0].setting.device
    if not result.comparisons:
        reason = f"an {device.evidence} device has no times"
        unknown = Verdict.INCONCLUSIVE
        return TimeRatio(ratio_p50=None, verdict=unknown, reason=reason, device=device, seconds=seconds)
    found = result.comparisons[0]
    return TimeRatio(
        ratio_p50=found.ratio_p50,
        ci95=found.ci95,
        verdict=found.verdict,
        smallest_detectable=found.smallest_detectable,
        threads=found.threads,
        runtimes=found.runtimes,
        reason=found.reason,
        device=device,
        seconds=seconds,
    )
