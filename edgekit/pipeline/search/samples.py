"""Who is judged on what: the choice is made on the train split, so that the figures of the result were not chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.data.arrays import save_npz
from edgekit.data.dataset import Dataset, split_indices, stratified
from edgekit.data.preprocess import feeds
from edgekit.errors import DataError
from edgekit.models.samples import MAX_VALIDATION, kept_and_held
from edgekit.pipeline.quantize.samples import fit_and_test
from edgekit.quality.evaluate import measurable
from edgekit.runtime.stream import streaming_of
from edgekit.types import Artifact, Card, Format

MOST = 1000
"""Samples that candidates are judged on: two accuracies on the same 1,000 that differ in one answer of a hundred differ
by a point, whichever way the other answers fall."""
_SEED = 1


@dataclass(frozen=True, slots=True)
class JudgingSamples:
    """``choose``: files are judged on these. ``report``: the result says these figures, and nothing is chosen on
    them."""

    choose: Dataset
    report: Dataset
    notes: tuple[str, ...] = ()


def take_samples(
    data: str, card: Card | None, limit: int | None, *, held: float | None = None, seed: int = 0, labelled: bool = False
) -> JudgingSamples:
    """Splits ``data``: part of the train split to judge on, the test split for the figures of the result.

    Args:
        limit: judge on so many samples at most (:data:`MOST` without it).
        held: share of the train split that training holds out: what is judged on is taken from there. None where
            nothing is trained: at most half of the train split.
        seed: of the training, on which it depends what that holds out.
        labelled: the samples have to say what is right.

    Raises:
        DataError: they do not.
    """
    notes: list[str] = []
    train, test = fit_and_test(data, notes)
    assert train is not None and test is not None
    if labelled and not measurable(test, card):
        raise DataError(
            f"{test.label} does not say what is right (no labels or values), so no candidate can be judged by "
            "--max-drop; give --min-snr DB in its place"
        )
    most = MOST if limit is None else limit
    if held is None:
        count = min(most, max(len(train) // 2, 1))
    else:
        _, apart = kept_and_held(train, min(held, MAX_VALIDATION / len(train)), seed)
        count = min(most, len(apart))
    if train is test or not count:
        notes.append("files are judged on samples that others saw, too: the figures of the result flatter them")
        return JudgingSamples(test, test, tuple(notes))
    choose = stratified(train.subset(apart), count) if held is not None else _part(train, count)
    labelled = measurable(test, card)
    if labelled and not measurable(choose, card) and held is not None:  # an anomaly detector trains on one kind alone
        choose = _part(train, count)
    if labelled and not measurable(choose, card):
        raise DataError(
            f"the {len(choose)} samples of {choose.label} that candidates are judged on do not say what is right (an "
            "anomaly detector needs both kinds there); give data whose train split does, or a larger --limit"
        )
    return JudgingSamples(choose, test, tuple(notes))


def _part(train: Dataset, count: int) -> Dataset:
    """``count`` samples of ``train``, classes as they are there; the split gives every class one at least."""
    _, judged = split_indices(len(train), train.labels, count / len(train), _SEED)
    return stratified(train.subset(judged), count)


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
