"""How the results of ``device`` look on the screen."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.report.text import Parts, size, table
from edgekit.report.verbs import backend_parts
from edgekit.results.doctor import CheckResult, DevicesResult, SavedResult


def render_devices(result: DevicesResult) -> Parts:
    """One line a kind of device, then one a saved device."""
    rows = [(d.spelling, d.evidence, d.description) for d in result.devices]
    parts: Parts = [table(("--on", "evidence", "what it is"), rows)]
    if result.saved:
        named = [(d.name, d.state, d.evidence, d.address, d.detail) for d in result.saved]
        parts.append(table(("--on", "state", "evidence", "address", "detail"), named, title="Saved devices"))
    return parts


def render_saved(result: SavedResult) -> Parts:
    """What was found on a device that was added, and where its name is kept."""
    name, address, file = result.name, result.address, result.file
    if result.check is None:
        return [f"{name} ({address}) is no longer in {file}"]
    return [*render_check(result.check), f"{name} is {address}, kept in {file}; use it with --on {name}"]


def render_check(result: CheckResult) -> Parts:
    """What the device is, its runtimes, and every trial."""
    rows = [
        (key.removesuffix("_bytes").replace("_", " "), size(value) if _is_size(key, value) else _words(value))
        for key, value in result.facts.items()
    ]
    trials = [("yes" if t.passed else "NO", t.name, t.detail) for t in result.trials]
    return [
        table((result.device, ""), rows),
        *backend_parts(result.backends, result.device),
        table(("holds", "trial", "seen"), trials),
        *result.advice,
    ]


def _is_size(key: str, value: object) -> bool:
    return key.endswith("_bytes") and isinstance(value, int)


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
