"""The helpers that write small model files, under the name the tests of runtimes use."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def files(model_files: ModuleType) -> ModuleType:
    """The module ``tests/runtime/files.py``."""
    return model_files
