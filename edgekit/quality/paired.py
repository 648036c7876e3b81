"""How sure a difference of quality is, when two files answered the same samples.

Each sample meets both files, so what is hard for one is mostly hard for the other; an interval for two independent
figures would be several times too wide. One method a kind of outcome, each deterministic:

- *hits*: Newcombe's hybrid score interval for the difference of paired proportions (Statistics in Medicine 17, 1998,
  2635-2650, method 10), which keeps its level where hardly any answer differs;
- *errors*: the bootstrap of the ratio of mean errors over whole samples, in blocks of neighbours where these overlap
  (Künsch, 1989);
- *scores*: DeLong's interval for the difference of correlated areas under the ROC curve (Biometrics 44, 1988, 837-845);
- *detections*: the bootstrap over pictures of mean average precision itself, both files on the same drawn pictures;
- *parts*: the jackknife over groups of samples of any other figure (mean IoU, F1, R², one of the user's own);
- *features*: the same of the ratio of Fréchet distances. (A bootstrap would not do: a repeated sample
  makes a covariance smaller, and the distance is biased by it.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgekit.bench.replicas import t975
from edgekit.quality.anomaly import placements
from edgekit.quality.frechet import distance, moments
from edgekit.quality.matches import Matches
from edgekit.results.compressed import QualityChange
from edgekit.results.eval import Evaluation, Outcomes, drop
from edgekit.types import Array

Z95 = 1.959964
"""The normal quantile of a two-sided interval of 95%."""
_DRAWS = 2000
_PICTURE_DRAWS = 500
_GROUPS = 20
_SEED = 0
FEWEST = 10
"""Samples below which no interval is given."""


def drop_interval(before: Evaluation, after: Evaluation) -> tuple[float, float] | None:
    """95% interval of :func:`~edgekit.results.eval.drop`, in its unit.

    None where there are fewer than ten samples, or the two did not answer the same ones.
    """
    found = _interval(before, after)
    return None if found is None else found[0]


def _interval(before: Evaluation, after: Evaluation) -> tuple[tuple[float, float], str] | None:
    """The interval, and how it was found."""
    a, b = before.outcomes, after.outcomes
    if min(before.total, after.total) < FEWEST:
        return None
    if a is not None and b is not None and a.kind == b.kind and len(a.values) == len(b.values):
        if len(a.values) < FEWEST:
            return None
        (low, high), how = _METHODS[a.kind](a, b), _NAMES[a.kind]
    else:
        first, second = before.parts.get(before.metric), after.parts.get(after.metric)
        if before.metric != after.metric or first is None or second is None or len(first) != len(second):
            return None
        (low, high), how = _parts(before, after), "paired jackknife over groups of samples"
    return ((low, high), how) if math.isfinite(low) and math.isfinite(high) else None


def groups_of(total: int) -> Array:
    """The group that each of ``total`` samples belongs to, int (total,): at most twenty, neighbours apart."""
    groups: Array = np.arange(total) % min(_GROUPS, max(total, 1))
    return groups


def parts_of(total: int, figures: Callable[[Array], Mapping[str, float]]) -> dict[str, Array]:
    """``figures`` without each group of ``total`` samples, for :attr:`Evaluation.parts`; it is given a mask of samples,
    bool (total,). Empty with fewer than ten samples."""
    if total < FEWEST:
        return {}
    groups = groups_of(total)
    rows = [figures(groups != k) for k in range(int(groups.max()) + 1)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}


def quality_change(before: Evaluation, after: Evaluation) -> QualityChange:
    """Metric, both values, the drop and its interval."""
    interval, how = _interval(before, after) or (None, None)
    return QualityChange(
        metric=after.metric,
        before=before.value,
        after=after.value,
        drop=drop(before, after),
        drop_ci95=interval,
        interval=how,
        data=after.data,
        total=after.total,
    )


def _hits(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    first, second = a.values.astype(bool), b.values.astype(bool)
    return newcombe(int((first & second).sum()), int((first & ~second).sum()), int((~first & second).sum()), len(first))


def newcombe(both: int, only_first: int, only_second: int, total: int) -> tuple[float, float]:
    """95% interval of the first proportion less the second one, of ``total`` pairs."""
    neither = total - both - only_first - only_second
    p, q = (both + only_first) / total, (both + only_second) / total
    (p_low, p_high), (q_low, q_high) = _wilson(p, total), _wilson(q, total)
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    phi = 0.0
    if margins:
        excess: float = both * neither - only_first * only_second
        excess = excess if excess < 0 else max(excess - total / 2, 0.0)  # Newcombe's correction for continuity
        phi = excess / math.sqrt(margins)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    return p - q - reach(p - p_low, q_high - q), p - q + reach(p_high - p, q - q_low)


def _wilson(share: float, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion (1927)."""
    z = Z95**2 / total
    middle, half = share + z / 2, Z95 * math.sqrt(share * (1 - share) / total + z / (4 * total))
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def _errors(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    count, block = len(a.values), min(a.block, len(a.values))
    generator = np.random.default_rng(_SEED)
    padded = [np.concatenate([[0.0], np.cumsum(np.concatenate([one.values, one.values[:block]]))]) for one in (a, b)]
    sums = [cumulated[block : block + count] - cumulated[:count] for cumulated in padded]  # of each circular block
    found = []
    for _ in range(_DRAWS):
        starts = generator.integers(0, count, -(-count // block))
        found.append(sums[1][starts].sum() / max(sums[0][starts].sum(), 1e-300) - 1)
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _scores(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    assert a.positive is not None
    parts = [placements(one.values[a.positive], one.values[~a.positive]) for one in (a, b)]
    change = float(parts[0][0].mean() - parts[1][0].mean())
    spread = sum(float(np.var(x - y, ddof=1)) / len(x) for x, y in zip(parts[0], parts[1], strict=True) if len(x) > 1)
    return change - Z95 * math.sqrt(spread), change + Z95 * math.sqrt(spread)


def _features(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    assert a.reference is not None
    reference = a.reference
    group = np.arange(len(a.values)) % _GROUPS

    def change(kept: Array) -> float:
        first, second = (distance(*moments(one.values[kept]), *reference) for one in (a, b))
        return second / max(first, 1e-12) - 1

    parts = np.array([change(group != k) for k in range(_GROUPS)])
    return _jackknife(change(np.ones(len(group), bool)), parts)


def _parts(before: Evaluation, after: Evaluation) -> tuple[float, float]:
    first, second = before.parts[before.metric], after.parts[after.metric]
    if before.lower_is_better:
        changes = (second - first) / np.maximum(np.abs(first), 1e-12)
    else:
        changes = first - second
    return _jackknife(drop(before, after), changes)


def _jackknife(whole: float, without: Array) -> tuple[float, float]:
    """95% interval of a change from its values ``without`` each group (Tukey 1958; Student's t, a group an
    observation)."""
    count = len(without)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    reach = t975(count - 1) * error
    return whole - reach, whole + reach


def _detections(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    assert a.matches is not None and b.matches is not None
    first, second = Matches(a.values, a.matches), Matches(b.values, b.matches)
    generator, count = np.random.default_rng(_SEED), len(a.values)
    found = []
    for _ in range(_PICTURE_DRAWS):
        weights = np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)
        found.append(first.mean(weights) - second.mean(weights))
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


_METHODS: Mapping[str, Callable[[Outcomes, Outcomes], tuple[float, float]]] = {
    "hits": _hits,
    "errors": _errors,
    "scores": _scores,
    "features": _features,
    "detections": _detections,
}
_NAMES: Mapping[str, str] = {
    "hits": "paired, Newcombe 1998",
    "errors": "paired bootstrap",
    "scores": "paired, DeLong 1988",
    "features": "paired jackknife over generated images",
    "detections": "paired bootstrap over pictures of mean average precision",
}
