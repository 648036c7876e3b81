"""Lightning Fabric, without all of torchmetrics.

Importing Fabric imports torchmetrics to look at its version, and that imports transformers where it is installed:
seconds before every training, for nothing that a training uses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType


@contextmanager
def known_by_version(package: str) -> Iterator[None]:
    """Within it ``import package`` finds its version and nothing else, if it is installed and not imported yet."""
    stand_in = ModuleType(package)
    try:
        stand_in.__version__ = version(package)  # type: ignore[attr-defined]
    except PackageNotFoundError:
        yield
        return
    if sys.modules.setdefault(package, stand_in) is not stand_in:
        yield
        return
    try:
        yield
    finally:
        del sys.modules[package]


with known_by_version("torchmetrics"):
    from lightning_fabric import Fabric

__all__ = ["Fabric", "known_by_version"]
