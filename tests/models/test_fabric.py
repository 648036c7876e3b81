"""Fabric's import looks at the version of torchmetrics, and at nothing else of it."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from edgekit.models.fabric import known_by_version


def test_within_it_there_is_a_version_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchmetrics", raising=False)
    with known_by_version("torchmetrics"):
        import torchmetrics

        assert torchmetrics.__version__ == importlib.metadata.version("torchmetrics")
        assert not hasattr(torchmetrics, "functional")
    assert "torchmetrics" not in sys.modules


def test_what_is_imported_or_not_installed_stays_as_it_is() -> None:
    with known_by_version("pytest"):
        assert sys.modules["pytest"] is pytest
    with known_by_version("no-such-package"):
        assert "no-such-package" not in sys.modules
