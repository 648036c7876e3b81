"""How much each layer loses by itself: only that layer quantized, all else in float, on a few calibration samples."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import sha256_model
from edgekit.data.dataset import Dataset, stratified
from edgekit.documents import parse_json, typed
from edgekit.errors import DataError, EdgekitError, StorageError
from edgekit.inputs import read_regular
from edgekit.leftovers import scratch_folder
from edgekit.outputs import publishing
from edgekit.passes.base import Pass, PassContext
from edgekit.passes.onnx_float import SUFFIX
from edgekit.passes.operators import Operator
from edgekit.pipeline.quantize.samples import calibration_feeds
from edgekit.quality.evaluate import Evaluation, drop, evaluate, measurable
from edgekit.quality.integer_selftest import SEED
from edgekit.quality.paired import drop_interval
from edgekit.runtime.stream import sequences
from edgekit.types import Array, Artifact, Card, Feed, Signature

log = logging.getLogger("edgekit")
SCHEMA = "edgekit.mixed-plan/1"
SAMPLES = 200
"""Calibration samples that a layer is judged on; output errors rank the layers that lose no answer of these."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What is lost with one layer quantized.

    Attributes:
        name, operator: of the layer.
        error: root mean square of the change of the outputs, relative to the outputs' own.
        drop: quality lost, see :func:`edgekit.quality.evaluate.drop`; None without labels.
        low: lower end of its paired 95% interval.
        reason: why the layer cannot be quantized by itself, where it cannot.
    """

    name: str
    operator: str
    error: float
    drop: float | None = None
    low: float | None = None
    reason: str = ""

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is worse. A drop within its noise does not count: one answer of few samples is half a point."""
        certain = self.drop if self.drop is not None and self.low is not None and self.low > 0 else 0.0
        return certain, self.error


@dataclass(frozen=True)
class Plan:
    """Which layers stay in float, and why. ``layers``: worst first; ``keep``: names of those that stay."""

    scheme: str
    model_sha256: str
    data: str
    samples: int
    layers: tuple[Sensitivity, ...]
    keep: tuple[str, ...] = ()
    max_drop: float | None = None
    drop: float | None = None

    def document(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    def reasons(self) -> dict[str, str]:
        """Kept operator -> why, for the account."""
        known = {one.name: one for one in self.layers}
        kept = {name: _why(known.get(name), self.scheme) for name in self.keep}
        return kept | {f"{name}{SUFFIX}": f"a copy that keeps onnxruntime from quantizing {name}" for name in kept}

    def save(self, path: Path) -> None:
        """Writes the plan as JSON."""
        with publishing(path) as temporary:
            temporary.write_text(json.dumps(self.document(), indent=1, allow_nan=False), encoding="utf-8")


def load_plan(path: Path, artifact: Artifact, scheme: str) -> Plan:
    """Reads what :meth:`Plan.save` wrote, for the same file and scheme.

    Raises:
        DataError: not a plan, or one of another file or scheme.
    """
    document = parse_json(read_regular(path, DataError, "a plan", "DOCUMENT_BYTES"), DataError, path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DataError(f"{path} is no plan of mixed precision; --mixed with -o FILE.json writes one")
    try:
        plan = typed(Plan, document, "it")
    except ValueError as error:
        raise DataError(f"{path} is no plan of mixed precision: {error}") from error
    if plan.model_sha256 != sha256_model(artifact.path) or plan.scheme != scheme:
        raise DataError(f"{path} is a plan of another file or scheme ({plan.scheme}) than {artifact.path}, {scheme}")
    return plan


def _why(one: Sensitivity | None, scheme: str) -> str:
    if one is None:
        return "kept in float by mixed precision: it was named"
    lost = "" if one.drop is None else f"{100 * one.drop:.1f}% of the quality, "
    return f"kept in float by mixed precision: alone in {scheme} it loses {lost}its outputs change by {one.error:.1%}"


def sensitivities(
    artifact: Artifact,
    signature: Signature,
    known: tuple[Operator, ...],
    fit: Dataset,
    quantizer: Callable[[frozenset[str]], Pass],
) -> tuple[Sensitivity, ...]:
    """Every layer of ``known`` by itself, worst first.

    Args:
        fit: calibration samples; :data:`SAMPLES` of them are run, classes balanced.
        quantizer: names of operators to leave in float -> the pass.
    """
    few = stratified(fit, SAMPLES, SEED)
    names = frozenset(one.name for one in known)
    layers = [one for one in known if one.layer]
    log.info("how much each of %d layers loses by itself, on %d samples of %s", len(layers), len(few), few.label)
    before = _judged(artifact, artifact.card, few, signature)
    found = []
    for layer in layers:
        with _quantized(artifact, quantizer(names - {layer.name})) as made:
            if isinstance(made, str):
                found.append(Sensitivity(layer.name, layer.kind, 0.0, reason=made))
                continue
            after = _judged(made, artifact.card, few, signature)
        found.append(_compared(layer, before, after))
        log.debug("%s", found[-1])
    return tuple(sorted(found, key=lambda one: one.rank, reverse=True))


Judged = tuple[list[Mapping[str, Array]], Evaluation | None]


@contextmanager
def _quantized(artifact: Artifact, quantizer: Pass) -> Iterator[Artifact | str]:
    """The file with one layer quantized; why not, where the quantizer refuses it."""
    with scratch_folder() as folder:
        target = folder / f"one.{artifact.format}"
        try:
            quantizer.run(artifact, PassContext(target))
        except StorageError:  # says nothing of the layer
            raise
        except EdgekitError as error:
            yield str(error)
            return
        yield Artifact(target, artifact.format, artifact.card)


def _judged(artifact: Artifact, card: Card | None, few: Dataset, signature: Signature) -> Judged:
    from edgekit.devices import open_runner

    with open_runner(artifact.path) as runner:
        # a Fréchet distance of so few images is mostly noise
        counts = measurable(few, card) and (card is None or card.task.kind != "generation")
        quality = evaluate(sequences(runner), few, card) if counts else None
        given: list[Feed] = list(calibration_feeds(artifact, few, signature))
        return [runner.run(feed) for feed in given], quality


def _compared(layer: Operator, before: Judged, after: Judged) -> Sensitivity:
    changed = whole = 0.0
    for a, b in zip(before[0], after[0], strict=True):
        for name in a.keys() & b.keys():
            one, other = (np.asarray(side[name], np.float64) for side in (a, b))
            changed += float(((one - other) ** 2).sum())
            whole += float((one**2).sum())
    error = float(np.sqrt(changed / whole)) if whole > 0 else 0.0
    error = error if np.isfinite(error) else 1e9  # NaN or infinity: as bad as can be, and still JSON
    if before[1] is None or after[1] is None:
        return Sensitivity(layer.name, layer.kind, error)
    interval = drop_interval(before[1], after[1])
    return Sensitivity(
        layer.name, layer.kind, error, drop(before[1], after[1]), None if interval is None else interval[0]
    )
