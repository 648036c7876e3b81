"""The samples of one quantization: which calibrate, are held back, are measured, and how the file takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekit.artifact import contract_of
from edgekit.data.dataset import Dataset, held_out_sets, held_out_splits, open_data, splits_of, stratified_indices
from edgekit.data.preprocess import feeds, whole_samples
from edgekit.data.seeded import seeded_feed
from edgekit.quality.evaluate import batch_is_free, batch_size
from edgekit.quality.integer_selftest import SEED
from edgekit.runtime.stream import sequence_signature
from edgekit.types import Artifact, Feed, Signature

CALIBRATION_SAMPLES = 300
"""Calibration samples where the user does not say; docs/quantization.md has what more of them changed."""
HELD_SHARE, HELD_MOST = 4, 64
"""One in so many calibration samples is held back to compare the file with its parent, so many at most."""
INVENTED = 16
"""Seeded inputs in their place where there is no data."""
_FEW = 10
"""Below this many samples a set is not split: all calibrate, all are measured."""


@dataclass(frozen=True)
class DividedSamples:
    """Who does what. A set is None where there is no data.

    Attributes:
        fit: what ranges are found on; no sample of ``held``, unless there is only one.
        held: what the file is compared with its parent on, without labels.
        test: what quality is measured on.
        whole: ``fit`` and ``held``, of which an anomaly detector's threshold is a percentile.
        notes: what the user should know of them.
    """

    fit: Dataset | None = None
    held: Dataset | None = None
    test: Dataset | None = None
    whole: Dataset | None = None
    notes: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """What :func:`held_feeds` gives, in words."""
        if self.held is None:
            return f"{INVENTED} seeded inputs"
        if self.held is self.whole:
            return f"the only sample of {self.held.label}, which calibrated, too"
        return f"{len(self.held)} samples of {self.held.label} that did not calibrate"


def samples_of(data: str | None, count: int | None) -> DividedSamples:
    """The samples of the data set spelled ``data``; ``count``: how many calibrate."""
    notes: list[str] = []
    fit, test = fit_and_test(data, notes)
    return divided(fit, test, count, tuple(notes))


def divided(
    fit: Dataset | None, test: Dataset | None, count: int | None, notes: tuple[str, ...] = ()
) -> DividedSamples:
    """Holds samples back from ``fit``: a quarter of the ``count`` that calibrate, 1 to :data:`HELD_MOST`."""
    if fit is None:
        return DividedSamples(test=test, notes=notes)
    if len(fit) == 1:
        said = "there is one sample: it calibrated, and the file was compared with its parent on it"
        return DividedSamples(fit, fit, test, fit, (*notes, said))
    held = min(max(min(count or CALIBRATION_SAMPLES, len(fit)) // HELD_SHARE, 1), HELD_MOST)
    chosen = stratified_indices(fit, held, SEED + 1)
    rest = np.setdiff1d(np.arange(len(fit)), chosen)
    return DividedSamples(fit.subset(rest), fit.subset(chosen), test, fit, notes)


def fit_and_test(data: str | None, notes: list[str]) -> tuple[Dataset | None, Dataset | None]:
    """(calibration samples, test samples): the train and the test split of the data set, or another held-out one where
    it is named (``sst2@dev``)."""
    if data is None:
        return None, None
    base, at, split = data.rpartition("@")
    name = base if at and split in splits_of(base) else data
    whole = open_data(f"{name}@all") if split == "all" else None
    if whole is None:
        fit = open_data(f"{name}@train", default_split="train")
        if fit.own_split or len(fit) >= _FEW:
            named = name == base and split in held_out_splits(base)
            return fit, open_data(data) if named else held_out_sets(name)[0]
        whole = open_data(f"{name}@all")
    notes.append(f"calibrated and measured on the same {len(whole)} samples of {whole.label}")
    return whole, whole


def train_split(data: str) -> str:
    """``data`` as a step names it that trains: where it names a split that is held out (``sst2@dev``), which
    :func:`fit_and_test` measures on, the train split."""
    base, at, split = data.rpartition("@")
    held = bool(at) and split in splits_of(base) and split not in ("train", "all")
    return f"{base}@train" if held else data


def is_whole(artifact: Artifact, chosen: Dataset, signature: Signature) -> bool:
    """Whether a sample is a feed by itself, see :func:`edgekit.data.preprocess.whole_samples`."""
    contract = artifact.card.contract if artifact.card is not None else {}
    return whole_samples(chosen, sequence_signature(signature, artifact.card), contract)


def calibration_feeds(artifact: Artifact, chosen: Dataset, signature: Signature) -> Iterator[Feed]:
    """The samples as the file takes them; for a file of one step, every step of every sample with its state.

    A feed is one sample where the file leaves that free: all of its activations are held at once.
    """
    card = artifact.card
    contract = card.contract if card is not None else {}
    whole = sequence_signature(signature, card)
    one_each = whole_samples(chosen, whole, contract)
    batch = 1 if one_each or batch_is_free(whole) else min(batch_size(whole), len(chosen))
    given = feeds(chosen, whole, contract, batch=batch)
    batches = given if one_each else _filled(given, batch, whole)
    if whole is signature:
        yield from batches
        return
    from edgekit.devices import open_runner

    with open_runner(artifact.path) as runner:
        for feed in batches:
            yield from runner.stream().step_feeds(feed)


def held_feeds(artifact: Artifact, samples: DividedSamples, signature: Signature) -> Iterator[Feed]:
    """The samples that are held back, one a feed where the file allows it; seeded inputs where there is no data."""
    if samples.held is not None:
        return calibration_feeds(artifact, samples.held, signature)
    contract = contract_of(artifact)
    return (seeded_feed(signature, contract, SEED + 1 + number) for number in range(INVENTED))


def _filled(given: Iterator[Feed], size: int, signature: Signature) -> Iterator[Feed]:
    """Feeds of the size the file fixes; a shorter last one is filled up with its own last sample."""
    fixed = not any(isinstance(spec.shape[0], str) for spec in signature.inputs if spec.shape)
    for feed in given:
        missing = size - len(next(iter(feed.values()))) if fixed else 0
        yield (
            {n: np.concatenate([v, np.repeat(v[-1:], missing, axis=0)]) for n, v in feed.items()}
            if missing > 0
            else feed
        )
