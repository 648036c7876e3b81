"""Candidates by Ray: the same search on one process and on two nodes, one of which is lost in the middle."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgekit
from edgekit.errors import DeviceError, RuntimeMissingError, UsageError


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the search alone has it; and Ray reports nothing to anybody."""
    import torch

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_without_ray(subject: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgekit\[ray\]'") as raised:
        edgekit.optimize(**subject, workers="ray", out=tmp_path / "study")
    assert raised.value.exit_code == 4


def test_no_address(subject: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="give ray, ray://HOST:PORT, HOST:PORT or auto"):
        edgekit.optimize(**subject, workers="somewhere", out=tmp_path / "study")
    with pytest.raises(UsageError, match="--jobs are processes of this machine"):
        edgekit.optimize(**subject, workers="ray", jobs=2, out=tmp_path / "study")
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        with pytest.raises(DeviceError, match=f"no Ray cluster answers at {address}: Connection refused"):
            edgekit.optimize(**subject, workers=address, out=tmp_path / "study")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_node_is_lost(subject: dict[str, Any], tmp_path: Path, alone: Any, decided: Any) -> None:
    """Two nodes, one killed while both make a candidate: the trials are those of a single process."""
    ray: ModuleType = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        killed: list[float] = []

        def kill() -> None:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                if ray.is_initialized() and ray.available_resources().get("CPU", 0) == 0:
                    cluster.remove_node(node, allow_graceful=False)
                    killed.append(time.monotonic())
                    return
                time.sleep(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        both = edgekit.optimize(**subject, workers=cluster.address, out=tmp_path / "both")
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed
    document = json.loads((tmp_path / "both" / "optimize.json").read_text())
    assert decided(document) == alone
    assert [row.sha256 for row in both.front] and not any("lost" in row.why for row in both.trials)
