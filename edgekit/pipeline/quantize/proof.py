"""What is proved of a compressed file before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.pipeline.quantize.make import Made, Work
from edgekit.pipeline.quantize.samples import held_feeds
from edgekit.quality.as_app import run_as_app
from edgekit.quality.fidelity import Fidelity
from edgekit.types import Artifact


@dataclass(frozen=True)
class Proof:
    """What a file showed. ``fidelity``: its outputs beside its parent's, on samples that did not calibrate."""

    fidelity: Fidelity

    def document(self) -> dict[str, Any]:
        """As CONTRACT has it under ``fidelity``."""
        return self.fidelity.document()


def prove(work: Work, made: Made) -> Proof:
    """Runs ``made`` as an app does, beside its parent.

    Raises:
        QualityError: it fails there; see :func:`edgekit.quality.as_app.run_as_app`.
    """
    parent = work.parent
    contract = parent.card.contract if parent.card is not None else {}
    feeds = held_feeds(parent, work.samples, work.before.signature)
    fidelity = run_as_app(parent, Artifact(made.path, parent.format, made.card), feeds, contract, work.samples.said)
    return Proof(fidelity)
