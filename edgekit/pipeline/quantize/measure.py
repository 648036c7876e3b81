"""A file as it runs: its quality where there are labels, its seeded outputs, its outputs by length."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgekit.artifact import contract_of
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import feeds
from edgekit.data.seeded import seeded_feed
from edgekit.devices import open_runner
from edgekit.errors import DeviceError
from edgekit.quality.evaluate import evaluate, measurable
from edgekit.quality.integer_selftest import SEED
from edgekit.quality.lengths import Probe, probes
from edgekit.quality.metrics import metric_of
from edgekit.results.eval import Evaluation
from edgekit.runtime.base import Runner
from edgekit.runtime.stream import sequences, streaming_of
from edgekit.types import Artifact, Card, Feed, Signature

log = logging.getLogger("edgekit")

_PROBED = 4
"""Test samples on which the error by length of a recurrent file is looked at."""


@dataclass(frozen=True)
class Measured:
    """What a file gives.

    Attributes:
        quality: on the test samples, None where they do not say what is right.
        outputs: for the seeded feed :data:`SEED`; none where the file does not run at sizes of 1.
        by_length: for each of ``probes``, inputs of several lengths; none for a file without recurrent operators.
    """

    quality: Evaluation | None
    signature: Signature
    outputs: Feed
    probes: tuple[Probe, ...]
    by_length: Sequence[Feed]
    runtime: str


def measure(
    artifact: Artifact,
    card: Card | None,
    test: Dataset | None,
    limit: int | None = None,
    probed: tuple[Probe, ...] | None = None,
    metric: str | None = None,
) -> Measured:
    """Runs a file in a worker.

    Args:
        card: of the file, which has none yet where it was just made.
        limit: test samples at most.
        probed: the inputs of several lengths, None to choose them.
        metric: what ``--metric`` names, in place of the task's own figure.

    Raises:
        EdgekitError: it does not run, or not on these samples.
    """
    with open_runner(artifact.path) as runner:
        feed = seeded_feed(runner.signature, contract_of(replace(artifact, card=card)), SEED)
        outputs = _taken(runner, feed, "no self-test", "sizes of 1")
        found = None
        if test is not None and (metric is not None or measurable(test, card)):
            figure = None if metric is None else metric_of(metric)
            found = evaluate(sequences(runner), test, card, limit=limit, metric=figure)
        if probed is None:
            probed = _probes(artifact, card, runner.signature, test)
            by_length = list(_all_taken(runner, probed))
            if len(by_length) < len(probed):
                probed, by_length = (), []
        else:
            by_length = [runner.run(probe.feed) for probe in probed]
        return Measured(found, runner.signature, outputs, probed, by_length, runner.name)


def _taken(runner: Runner, feed: Feed, without: str, sizes: str) -> Feed:
    """The outputs; none where free axes are there, and the file does not run with every size of them."""
    try:
        return runner.run(feed)
    except DeviceError as error:
        if type(error) is not DeviceError or not runner.signature.dynamic_dims:
            raise  # a crash, or a file that does not run at all
        log.info("%s: the file does not run with %s (%.200s)", without, sizes, error)
        return {}


def _all_taken(runner: Runner, probed: tuple[Probe, ...]) -> Iterator[Feed]:
    """The outputs for each of the probes, up to one that the file does not take."""
    for probe in probed:
        outputs = _taken(runner, probe.feed, "no errors by length", "all lengths")
        if not outputs:
            return
        yield outputs


def _probes(artifact: Artifact, card: Card | None, signature: Signature, test: Dataset | None) -> tuple[Probe, ...]:
    if streaming_of(card) is not None:  # every run is one step
        return ()
    contract = contract_of(replace(artifact, card=card))
    real = feeds(test, signature, contract, limit=_PROBED) if test is not None else ()
    return probes(artifact, signature, contract, real)
