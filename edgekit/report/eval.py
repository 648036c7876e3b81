"""How the result of ``eval`` looks on the screen."""

from __future__ import annotations

from edgekit.report.text import share, table
from edgekit.report.verbs import Documented, Parts


def render_eval(result: Documented) -> Parts:
    """The metric, and the classes from worst to best."""
    document = result.document()
    head = (
        f"{document['model']}: {document['metric']} {share(document['value'])} "
        f"({document['correct']} of {document['total']}) on {document['data']}, "
        f"{document['runtime']} on {document['device']}"
    )
    rows = sorted(document["per_class"].items(), key=lambda row: row[1])
    return [head, table(("class", document["metric"]), [(n, share(v)) for n, v in rows], right=(document["metric"],))]
