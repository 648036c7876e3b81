"""Writes the JSON Schemas of all documents into schemas/, one file a verb; see scripts/schemas."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.extras.base import result_types
from edgekit.results.schema import VERBS, schema

FOLDER = Path(__file__).resolve().parent.parent / "schemas"


def texts() -> dict[str, str]:
    """File name -> what belongs into it."""
    made = {verb: schema(verb, result_types() if verb == "bench" else None) for verb in VERBS}
    return {f"{verb}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n" for verb, one in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
