"""The samples of one quantization: which calibrate, which are measured, and how the file takes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.data.dataset import Dataset, held_out_splits, open_data, splits_of
from edgekit.data.preprocess import feeds, whole_samples
from edgekit.quality.evaluate import batch_size
from edgekit.runtime.stream import sequence_signature
from edgekit.types import Artifact, Feed, Signature

_FEW = 10
"""Below this many samples a set is not split: all calibrate, all are measured."""


def fit_and_test(data: str | None, notes: list[str]) -> tuple[Dataset | None, Dataset | None]:
    """(calibration samples, test samples): the train and the test split of the data set, or another held-out one where
    it is named (``sst2@dev``)."""
    if data is None:
        return None, None
    base, at, split = data.rpartition("@")
    name = base if at and split in splits_of(base) else data
    whole = open_data(f"{name}@all") if split == "all" else None
    measured = split if name == base and split in held_out_splits(base) else "test"
    if whole is None:
        fit = open_data(f"{name}@train", default_split="train")
        if fit.own_split or len(fit) >= _FEW:
            return fit, open_data(f"{name}@{measured}")
        whole = open_data(f"{name}@all")
    notes.append(f"calibrated and measured on the same {len(whole)} samples of {whole.label}")
    return whole, whole


def is_whole(artifact: Artifact, chosen: Dataset, signature: Signature) -> bool:
    """Whether a sample is a feed by itself, see :func:`edgekit.data.preprocess.whole_samples`."""
    contract = artifact.card.contract if artifact.card is not None else {}
    return whole_samples(chosen, sequence_signature(signature, artifact.card), contract)


def calibration_feeds(artifact: Artifact, chosen: Dataset, signature: Signature) -> Iterator[Feed]:
    """The samples as the file takes them; for a file of one step, every step of every sample with its state."""
    card = artifact.card
    contract = card.contract if card is not None else {}
    whole = sequence_signature(signature, card)
    size = 1 if whole_samples(chosen, whole, contract) else min(batch_size(whole), len(chosen))
    given = feeds(chosen, whole, contract, batch=size)
    batches = given if size == 1 else _filled(given, size, whole)
    if whole is signature:
        yield from batches
        return
    from edgekit.devices import open_runner

    with open_runner(artifact.path) as runner:
        for feed in batches:
            yield from runner.stream().step_feeds(feed)


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
