"""What an integer account is; see :mod:`edgekit.quality.account`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.graph import ops
from edgekit.results.compressed import CoverageReport
from edgekit.results.compressed import LeftFloat as LeftFloat

CONVERSIONS = ops.conversions()
"""Operators that only change the number format; counted apart from the work."""
PLUMBING = CONVERSIONS | {"Transpose", "TRANSPOSE"}
"""Operators that only change the number format or the layout."""


@dataclass(frozen=True)
class Account:
    """What of a model file is integer.

    Attributes:
        operators: operators that do work (conversions of number format and shape arithmetic are not counted).
        integer_operators: those of them that compute on integers.
        weight_bytes_integer_share: share of the bytes of constant tensors that is held in integers, 0..1.
        conversions: operators that only change the number format while the model runs.
        left_float: the rest, with reasons.
        hybrid_operators: those of the integer ones that take and give real values: integer weights, and inputs that the
            kernel quantizes as it runs.
        macs: multiply-accumulates of one run, free sizes taken as 1; None where a shape is not known.
        integer_macs: those of the integer operators.
        plumbing: operators of :data:`PLUMBING` in the file, by type, also those that a runtime fuses away.
    """

    operators: int
    integer_operators: int
    weight_bytes_integer_share: float
    conversions: int
    left_float: tuple[LeftFloat, ...]
    hybrid_operators: int = 0
    macs: int | None = None
    integer_macs: int | None = None
    plumbing: Mapping[str, int] = field(default_factory=dict)

    @property
    def integer_macs_share(self) -> float | None:
        """Share of the multiply-accumulates that is computed on integers, 0..1; None where it is not known."""
        return self.integer_macs / self.macs if self.macs and self.integer_macs is not None else None

    def inserted(self, parent: Account) -> dict[str, int]:
        """What this file has more than its ``parent`` of :data:`PLUMBING`, by type."""
        more = {kind: count - parent.plumbing.get(kind, 0) for kind, count in self.plumbing.items()}
        return {kind: count for kind, count in more.items() if count > 0}

    @property
    def quantized(self) -> bool:
        """True when anything in the file is held or computed in integers."""
        return self.integer_operators > 0 or self.weight_bytes_integer_share > 0

    def report(self) -> CoverageReport:
        """The account as it stands in documents."""
        return CoverageReport(**self._figures(), left_float=self.left_float)

    def card_document(self) -> dict[str, Any]:
        """The account as a file carries it: what stayed in float by type and reason, with counts instead of names.

        A TFLite operator's name is the path of its module, hundreds of bytes; an encoder of 26,000 weights had 48 kB of
        them. ``inspect`` reads the names off the file itself.
        """
        counts = Counter((one.operator, one.reason) for one in self.left_float)
        left = [{"operator": kind, "count": count, "reason": reason} for (kind, reason), count in counts.items()]
        return {**self._figures(), "left_float": left}

    def _figures(self) -> dict[str, Any]:
        return {
            "operators": self.operators,
            "integer_operators": self.integer_operators,
            "hybrid_operators": self.hybrid_operators,
            "weight_bytes_integer_share": round(self.weight_bytes_integer_share, 4),
            "integer_macs_share": None if self.integer_macs_share is None else round(self.integer_macs_share, 4),
            "conversions": self.conversions,
        }
