"""Run-to-run variance: what one and the same file differs by between processes and between sessions of the bench.

No number of calls within one process shows either, yet both are in every ratio. What is expected of them is fixed, so
that a verdict does not depend on what this machine measured before; what a run sees between its own workers counts
beside it (:func:`edgekit.bench.replicas.replicated`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgekit.results.bench import BenchRecord

PROCESS_SPREAD = 0.008
"""What to expect of the standard deviation of one file's p50 between processes, as a share of the p50.

Where pages land in caches is drawn anew for each process, and no number of runs within one process shows it.
Measured with a file against its own copy: 0.5% to 1.2%, up to 5% for weights as large as a cache.
"""
PROCESS_WEIGHT = 2.0
"""How many replicas the expectation :data:`PROCESS_SPREAD` counts for beside the ones that were measured."""
SESSION_SPREAD = 0.006
"""Standard deviation of the p50 of one file between two sessions, beyond what differs between processes."""
NOISY_SESSION_SPREAD = 0.07
"""The same where the bench itself says that the machine was noisy.

Measured on a virtual machine with two cores and changing neighbours: 6.8% and 10% in 40 and 45 runs of five files, each
of which said so of itself. A core has two speeds there, 1.28 apart, and keeps each for seconds to half a minute.
"""
SESSION_WEIGHT = 4.0
"""How many degrees of freedom an expectation of the spread between sessions counts for: with so few of them a spread
is known within a factor of two, and intervals are Student's."""


@dataclass(frozen=True, slots=True)
class RunVariance:
    """The spreads (shares of the p50) that intervals are widened by.

    Attributes:
        process, weight: standard deviation between processes, and the replicas that this expectation counts for.
        session: standard deviation between sessions, beyond that.
        session_noisy: ``session`` for results that are noisy.
        session_weight, session_noisy_weight: degrees of freedom that these expectations count for.
    """

    process: float = PROCESS_SPREAD
    weight: float = PROCESS_WEIGHT
    session: float = SESSION_SPREAD
    session_noisy: float = NOISY_SESSION_SPREAD
    session_weight: float = SESSION_WEIGHT
    session_noisy_weight: float = SESSION_WEIGHT

    def when(self, noisy: bool) -> RunVariance:
        """What holds for a result that is, or is not, noisy."""
        if not noisy or self.session_noisy <= self.session:
            return self
        return replace(self, session=self.session_noisy, session_weight=self.session_noisy_weight)

    def document(self) -> dict[str, Any]:
        """``protocol.noise_floor``; ``runs`` and ``revisits`` are 0: nothing of it was learned."""
        return {
            "source": "built-in",
            "process_spread": self.process,
            "process_weight": self.weight,
            "occasion_spread": self.session,
            "occasion_weight": self.session_weight,
            "occasion_spread_noisy": self.session_noisy,
            "occasion_weight_noisy": self.session_noisy_weight,
            "runs": 0,
            "revisits": 0,
        }


BUILT_IN = RunVariance()


def variance_of(saved: BenchRecord) -> RunVariance:
    """What a saved result was made with: older documents may hold what their machine had
    learned; the built-in one where it says nothing usable."""
    said = saved.protocol.timing.noise_floor or {}
    known = BUILT_IN.document()
    values = {key: said[key] for key in known if _usable(said.get(key))}
    if not {"process_spread", "process_weight", "occasion_spread"} <= values.keys():
        return BUILT_IN
    known |= values  # an older document may lack the others
    return RunVariance(
        process=known["process_spread"],
        weight=known["process_weight"],
        session=known["occasion_spread"],
        session_noisy=known["occasion_spread_noisy"],
        session_weight=known["occasion_weight"],
        session_noisy_weight=known["occasion_weight_noisy"],
    )


def _usable(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < 100


def wider(a: RunVariance, b: RunVariance) -> RunVariance:
    """For a comparison of two documents: the larger spreads of the two, the smaller weights."""
    return RunVariance(
        process=max(a.process, b.process),
        weight=min(a.weight, b.weight),
        session=max(a.session, b.session),
        session_noisy=max(a.session_noisy, b.session_noisy),
        session_weight=min(a.session_weight, b.session_weight),
        session_noisy_weight=min(a.session_noisy_weight, b.session_noisy_weight),
    )
