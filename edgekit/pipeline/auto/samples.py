"""Who is judged on what: ranges and choice from the train split, so that the figures of the result were not chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.data.arrays import save_npz
from edgekit.data.dataset import Dataset, split_indices, stratified
from edgekit.data.preprocess import feeds
from edgekit.errors import DataError
from edgekit.pipeline.quantize.samples import fit_and_test
from edgekit.quality.evaluate import measurable
from edgekit.runtime.stream import streaming_of
from edgekit.types import Artifact, Card, Format

MOST = 1000
"""Samples that candidates are judged on: two accuracies on the same 1,000 that differ in one answer of a hundred differ
by a point, whichever way the other answers fall."""
_SEED = 1
_LOOKED_AT = 4


@dataclass(frozen=True, slots=True)
class JudgingSamples:
    """``fit``: ranges are found on these. ``choose``: candidates are judged on these. ``report``: the result says these
    figures; a choice is held to its limit there, and none is made."""

    fit: Dataset
    choose: Dataset
    report: Dataset
    notes: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """A hash of what they are: labels, counts, the first values."""
        digest = hashlib.sha256()
        for one in (self.fit, self.choose, self.report):
            digest.update(f"{one.label} {len(one)}".encode())
            for values in (one.labels, one.targets):
                digest.update(b"" if values is None else np.asarray(values).tobytes())
            for name, samples in one.arrays.items():
                for k in range(min(_LOOKED_AT, len(samples))):
                    sample = samples[k]
                    told = sample.tobytes() if isinstance(sample, np.ndarray) else repr(sample).encode()
                    digest.update(name.encode() + told)
        return digest.hexdigest()


def take_samples(
    data: str, card: Card | None, limit: int | None, metric: str | None = None, *, judged_by_labels: bool = True
) -> JudgingSamples:
    """Splits ``data``: part of train to judge on, the rest of train for ranges, test for the figures.

    ``judged_by_labels``: they have to say what is right, but to a ``metric`` of the user's own.

    Raises:
        DataError: one of the splits does not say what is right.
    """
    notes: list[str] = []
    train, test = fit_and_test(data, notes)
    assert train is not None and test is not None
    needs_labels = judged_by_labels and metric is None
    if needs_labels and not measurable(test, card):
        raise DataError(
            f"{test.label} does not say what is right (no labels or values), so no candidate can be judged by "
            "--max-drop; give --min-snr DB in its place"
        )
    if train is test:
        return JudgingSamples(train, test, test, (*notes, "the choice saw these samples, too: its figures flatter it"))
    count = min(MOST if limit is None else limit, max(len(train) // 2, 1))
    rest, judged = split_indices(len(train), train.labels, count / len(train), _SEED)
    choose = stratified(train.subset(judged), count)  # the split gives every class one at least
    if needs_labels and not measurable(choose, card):
        raise DataError(
            f"the {len(choose)} samples of {choose.label} that candidates are judged on do not say what is right (an "
            "anomaly detector needs both kinds there); give data whose train split does, or a larger --limit"
        )
    return JudgingSamples(train.subset(rest), choose, test, tuple(notes))


def real_samples(parents: Sequence[Artifact], samples: Dataset, folder: Path) -> dict[Format, str]:
    """Format -> one real sample in a file of ``folder``, for files with other free axes than the first.

    The bench feeds such axes with length 1, whose time says little of a sentence or a word.
    """
    found: dict[Format, str] = {}
    for parent in parents:
        card = parent.card
        if card is None or streaming_of(card) is not None:
            continue
        firsts = {spec.shape[0] for spec in card.signature.inputs if spec.shape}
        if all(name in firsts for name in card.signature.dynamic_dims):
            continue
        path = folder / f"sample-{parent.format}.npz"
        sample = dict(next(feeds(samples, card.signature, card.contract, limit=1)))
        save_npz(path, sample)
        found[parent.format] = str(path)
    return found
