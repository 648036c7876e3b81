"""What ``--scheme auto`` chose, and all that was tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.trial_store import TrialStore
from edgekit.pipeline.quantize.result import QuantizeResult


@dataclass(frozen=True)
class AutoResult(QuantizeResult):
    """The published file, held against the fastest float file, which is its ``parent`` whatever its format.

    Attributes:
        trials: every candidate on every way to run it, in the order they were made.
        device: name, kind, evidence and CPU of the device that timed them.
        best_float: name of the trial that all others were compared with.
    """

    trials: tuple[Trial, ...] = ()
    device: Mapping[str, Any] = field(default_factory=dict)
    best_float: str = ""
    store: TrialStore | None = None

    @property
    def chosen(self) -> Trial:
        return next(trial for trial in self.trials if trial.chosen)

    def delivered(self) -> None:
        """To be called when the result has been handed over: what was kept for an interruption goes."""
        if self.store is not None:
            self.store.discard()

    def document(self) -> dict[str, Any]:
        """The ``quantize`` document, with the table of trials."""
        return super().document() | {
            "scheme": "auto",
            "chosen": self.chosen.document(),
            "best_float": self.best_float,
            "device": dict(self.device),
            "trials": [trial.document() for trial in self.trials],
        }
