"""Documents: the envelope, and strict JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit.report.document import dumps, envelope
from edgekit.results.base import to_json
from edgekit.types import Format, Verdict
from edgekit.version import __version__


@dataclass(frozen=True)
class Point:
    x: float
    path: Path


def test_envelope_has_what_every_document_has() -> None:
    document = envelope("bench", {"results": []})
    assert list(document) == ["schema", "edgekit", "environment", "date", "results"]
    assert document["schema"] == "edgekit.bench/1"
    assert document["edgekit"] == __version__
    assert {"cpu", "isa", "cores", "memory_bytes", "os", "python", "versions"} <= document["environment"].keys()


def test_values_have_their_json_form() -> None:
    document = {
        "format": Format.ONNX,
        "verdict": Verdict.SAME,
        "nan": float("nan"),
        "infinite": [np.float32("inf"), -float("inf")],
        "numpy": (np.int64(3), np.float64(0.5), np.array([[1, 2]]), np.bool_(True)),
        "point": Point(1.5, Path("a/b")),
        "none": None,
        3: "number as a key",
    }
    assert json.loads(dumps(document)) == {
        "format": "onnx",
        "verdict": "same",
        "nan": None,
        "infinite": [None, None],
        "numpy": [3, 0.5, [[1, 2]], True],
        "point": {"x": 1.5, "path": "a/b"},
        "none": None,
        "3": "number as a key",
    }


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON form for object"):
        to_json({"a": object()})
