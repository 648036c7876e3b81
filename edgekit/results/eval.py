"""What ``eval`` finds: a figure of merit of a file on data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from edgekit.documents import typed
from edgekit.errors import EdgekitError, QualityError
from edgekit.results.base import Result, derived, hidden
from edgekit.results.checks import Check
from edgekit.types import Array, Quality


@dataclass(frozen=True)
class Outcomes:
    """What each sample gave, to compare with another model on the same samples (:mod:`edgekit.quality.paired`).

    Attributes:
        kind: ``hits`` (bool), ``errors``, ``scores`` (higher is positive), ``features`` (float, a row a sample) or
            ``detections`` (boxes to find of each class, int, a row a picture).
        values: (samples, …), in the order of the data set.
        block: neighbours that overlap and so tell the same; 1 for independent samples.
        positive: of ``scores``: which samples are; bool (samples,).
        reference: of ``features``: mean and covariance of what is compared with.
        matches: of ``detections``: the verdict on each found box, see :class:`edgekit.quality.matches.Matches`.
    """

    kind: str
    values: Array
    block: int = 1
    positive: Array | None = None
    reference: tuple[Array, Array] | None = None
    matches: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often the model gave which answer: ``counts[k][n]`` samples of class k (pixels, of a segmenter) were taken
    for class n."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    MOST: ClassVar[int] = 100
    """Classes up to which it is kept: its size is the square of their number."""

    def __post_init__(self) -> None:
        """Raises ValueError where ``counts`` is not a square with a row for each class."""
        if {len(self.classes)} != {len(self.counts), *map(len, self.counts)}:
            raise ValueError(f"a confusion matrix of {len(self.classes)} classes has as many rows and columns")

    @classmethod
    def of(cls, classes: Sequence[str], counts: Array) -> Confusion | None:
        """Of an integer matrix (right class, answer); None for too many classes."""
        if len(classes) > cls.MOST:
            return None
        return cls(classes=tuple(classes), counts=tuple(map(tuple, counts.astype(int).tolist())))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is traded as the threshold of a score moves.

    Attributes:
        kind: ``precision-recall`` or ``roc``.
        name: of the class.
        points: recall and precision, or the shares of false and of right alarms.
    """

    kind: str
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Evaluation:
    """A figure of merit and what it is made of.

    Attributes:
        metric: ``accuracy``, ``roc_auc``, ``frechet``, ``mse``.
        value: in the metric's unit; an accuracy or an area is 0..1.
        total: samples.
        data: label of the data set.
        correct: samples answered rightly, None where an answer is not right or wrong.
        per_class: class name -> the metric of that class, classes without samples left out.
        details: further figures by name, such as a baseline the value is to be read against.
        lower_is_better: the value is an error or a distance.
        confusion: which classes are taken for which; None where there are no classes, or too many.
        curves: of scores with a threshold.
        outcomes: what each sample gave.
        parts: figure -> its value without each of several groups of the samples, float (groups,); for figures that are
            no mean over samples.
    """

    metric: str
    value: float
    total: int
    data: str
    correct: int | None = None
    per_class: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    lower_is_better: bool = False
    confusion: Confusion | None = field(default=None, repr=False, compare=False)
    curves: tuple[Curve, ...] = field(default=(), repr=False, compare=False)
    outcomes: Outcomes | None = field(default=None, repr=False, compare=False)
    parts: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)

    def quality(self, runtime: str, device: str) -> Quality:
        """The figure as a card keeps it."""
        told = (self.metric, self.value, self.data, self.total, runtime, device, self.details, self.lower_is_better)
        return Quality(*told)

    def drop_to(self, after: Evaluation) -> float:
        """Quality lost from here to ``after``, see :func:`drop`."""
        return drop(self, after)


def drop(before: Evaluation | Quality, after: Evaluation | Quality) -> float:
    """Quality lost: the difference of a share (0.01 = one point), or the rise of an error or distance as a fraction of
    itself (0.01 = one per cent); negative when quality rose."""
    if before.lower_is_better:
        return (after.value - before.value) / max(abs(before.value), 1e-12)
    return before.value - after.value


@dataclass(frozen=True, kw_only=True, repr=False)
class EvalResult(Result):
    """What ``edgekit eval`` found.

    Attributes:
        value: in the metric's unit; an accuracy or an area is 0..1.
        correct: samples answered rightly; null where an answer is not right or wrong.
        per_class: class name -> the metric of that class.
        details: further figures, such as a baseline the value is to be read against.
        confusion: of up to 100 classes, which are taken for which.
        curves: of scores with a threshold: precision over recall of up to 20 classes, or the ROC curve.
        split: the part of the data that was measured on.
        minimum: what the figure had to reach.
        recorded: what the file's card says was measured before, for comparison.
    """

    model: Path
    sha256: str
    data: str = derived(lambda result: result.evaluation.data)
    split: str
    metric: str = derived(lambda result: result.evaluation.metric)
    value: float = derived(lambda result: result.evaluation.value)
    correct: int | None = derived(lambda result: result.evaluation.correct)
    total: int = derived(lambda result: result.evaluation.total)
    per_class: Mapping[str, float] = derived(lambda result: result.evaluation.per_class)
    details: Mapping[str, Any] = derived(lambda result: result.evaluation.details)
    confusion: Confusion | None = derived(lambda result: result.evaluation.confusion, optional=True)
    curves: tuple[Curve, ...] | None = derived(lambda result: result.evaluation.curves or None, optional=True)
    runtime: str
    device: str
    evaluation: Evaluation = hidden(read=partial(typed, Evaluation))
    recorded: tuple[Quality, ...] = hidden(())
    minimum: float | None = hidden(None)

    def checks(self) -> tuple[Check, ...]:
        failure, found = self.failure(), self.evaluation
        return (Check(f"{found.metric} on {found.data}", "" if failure is None else str(failure)),)

    def failure(self) -> EdgekitError | None:
        found = self.evaluation
        if self.minimum is None:
            return None
        if (found.value <= self.minimum) if found.lower_is_better else (found.value >= self.minimum):
            return None
        most = "more" if found.lower_is_better else "less"
        return QualityError(f"{found.metric} on {found.data} is {found.value:.6g}, {most} than --min {self.minimum:g}")
