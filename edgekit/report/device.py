"""How the results of ``device`` look on the screen; each reads the result's ``document()``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.report.text import size, table
from edgekit.report.verbs import Documented, Parts, render_backends


def render_devices(result: Documented) -> Parts:
    """One line a kind of device, then one a saved device."""
    document = result.document()
    rows = [(d["spelling"], d["evidence"], d["description"]) for d in document["devices"]]
    parts: Parts = [table(("--on", "evidence", "what it is"), rows)]
    if document["saved"]:
        named = [(d["name"], d["state"], d["evidence"], d["address"], d["detail"]) for d in document["saved"]]
        parts.append(table(("--on", "state", "evidence", "address", "detail"), named, title="Saved devices"))
    return parts


def render_saved(result: Documented) -> Parts:
    """What was found on a device that was added, and where its name is kept."""
    document = result.document()
    if "check" not in document:
        return [f"{document['name']} ({document['address']}) is no longer in {document['file']}"]
    line = (
        f"{document['name']} is {document['address']}, kept in {document['file']}; use it with --on {document['name']}"
    )
    return [*_checked(document["check"]), line]


def render_check(result: Documented) -> Parts:
    """What the device is, its runtimes, and every trial."""
    return _checked(result.document())


class _Document:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def document(self) -> dict[str, Any]:
        return dict(self._document)


def _checked(document: Mapping[str, Any]) -> Parts:
    facts = dict(document["facts"])
    for key in ("memory_bytes", "free_bytes", "cached_bytes"):
        facts[key] = size(facts[key]) if isinstance(facts[key], int) else facts[key]
    rows = [(key.removesuffix("_bytes").replace("_", " "), _words(value)) for key, value in facts.items()]
    trials = [("yes" if t["passed"] else "NO", t["name"], t["detail"]) for t in document["trials"]]
    return [
        table((document["device"], ""), rows),
        *render_backends(_Document(document)),
        table(("holds", "trial", "seen"), trials),
        *document["advice"],
    ]


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
