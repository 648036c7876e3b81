"""``device``: the places models can run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit import registry
from edgekit.types import Evidence

KINDS = {
    "cpu": ("cpu", "this machine, a worker with this interpreter"),
    "python": (
        "python:/path/to/python",
        "this machine, a worker in another environment (numpy and a runtime are enough)",
    ),
}
"""Kind -> how it is spelled after --on, and what it is."""


@dataclass(frozen=True)
class Kind:
    """One kind of device: its spelling, what it is, and what its figures are worth."""

    name: str
    spelling: str
    description: str
    evidence: str = Evidence.MEASURED.value


@dataclass(frozen=True)
class DevicesResult:
    """Every kind of device there is, third parties' included."""

    devices: tuple[Kind, ...]

    def document(self) -> dict[str, Any]:
        return {"devices": [asdict(device) for device in self.devices]}


def devices() -> DevicesResult:
    """The kinds of device this installation knows."""
    rows = []
    for name in registry.names("devices"):
        spelling, description = KINDS.get(name, (name, "from another package"))
        rows.append(Kind(name, spelling, description))
    return DevicesResult(tuple(rows))
