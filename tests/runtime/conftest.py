"""The small model files as a fixture of a short name."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def files(model_files: ModuleType) -> ModuleType:
    """The module ``tests/runtime/files.py``."""
    return model_files
