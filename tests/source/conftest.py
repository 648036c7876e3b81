"""Models of others: timm where it is installed, transformers made from configurations, a hub that cannot be reached."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., str]


@pytest.fixture(scope="session")
def timm(root: Path) -> Any:
    """The timm package, made importable here (see scripts/timm_here.py)."""
    spec = importlib.util.spec_from_file_location("timm_here", root / "scripts" / "timm_here.py")
    assert spec is not None and spec.loader is not None
    helper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    if not helper.use_timm():
        pytest.skip("needs .venv-timm or $EDGEKIT_TIMM: run scripts/test")
    import timm

    return timm


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub as a machine without a network sees it, with a cache of its own."""
    from huggingface_hub import constants

    from edgekit.source import weights

    cache = tmp_path / "hub"
    monkeypatch.setattr(weights, "_reachable", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def cached(no_network: Path) -> Callable[[str, dict[str, bytes]], None]:
    """Puts files into the hub's cache as a download leaves them."""

    def put(repository: str, files: dict[str, bytes]) -> None:
        folder = no_network / f"models--{repository.replace('/', '--')}"
        revision = "0" * 40
        snapshot = folder / "snapshots" / revision
        snapshot.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(revision)
        for name, data in files.items():
            (snapshot / name).write_bytes(data)

    return put
