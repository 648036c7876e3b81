"""What ``edgekit quantize`` made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgekit.pipeline.quantize.kernels import KernelPlan
from edgekit.pipeline.quantize.plan import Plan
from edgekit.quality.account import Account
from edgekit.quality.evaluate import Evaluation, drop
from edgekit.quality.lengths import LengthError
from edgekit.types import Artifact, Step


@dataclass(frozen=True)
class QuantizePlan:
    """What ``edgekit quantize --dry-run`` would do. ``left_float``: operator -> why it would stay in float."""

    model: Path
    step: Step
    kernels: KernelPlan
    left_float: Mapping[str, str]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The ``quantize`` document of a dry run, without the envelope."""
        return {
            "dry_run": True,
            "model": str(self.model),
            "step": {"name": self.step.name, "params": dict(self.step.params), "versions": dict(self.step.versions)},
            "kernels": self.kernels.document(),
            "left_float": [{"name": name, "reason": why} for name, why in self.left_float.items()],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class QuantizeResult:
    """What ``edgekit quantize`` made. ``against``: the comparison with the parent, as the card keeps it."""

    artifact: Artifact
    bytes: int
    sha256: str
    parent: Path
    parent_bytes: int
    step: Step
    account: Account
    before: Evaluation | None
    after: Evaluation | None
    notes: tuple[str, ...]
    lengths: tuple[LengthError, ...] = ()
    against: Mapping[str, Any] = field(default_factory=dict)
    mixed: Plan | None = None
    kernels: KernelPlan = field(default_factory=KernelPlan)

    @property
    def drop(self) -> float | None:
        """Quality lost (0.01 = one point of accuracy, or an error that rose by 1%); negative when quality rose."""
        return None if self.before is None or self.after is None else drop(self.before, self.after)

    def document(self) -> dict[str, Any]:
        """The ``quantize`` document, without the envelope."""
        return {
            "artifact": {
                "path": str(self.artifact.path),
                "format": str(self.artifact.format),
                "bytes": self.bytes,
                "sha256": self.sha256,
            },
            "parent": {"path": str(self.parent), "sha256": self.against["sha256"], "bytes": self.parent_bytes},
            "scheme": self.step.params["scheme"],
            "step": {"name": self.step.name, "params": dict(self.step.params), "versions": dict(self.step.versions)},
            "quality": self.against["quality"],
            "time": self.against["time"],
            "inserted": self.against["inserted"],
            "fidelity": self.against["fidelity"],
            "length_errors": [asdict(one) for one in self.lengths],
            "account": self.account.document(),
            "mixed": None if self.mixed is None else self.mixed.document(),
            "kernels": self.kernels.document(),
            "notes": list(self.notes),
        }
