"""Names of every kind, and two users of one device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices.client import WorkerClient
from edgekit.errors import ModelError

Start = Callable[..., WorkerClient]
Ends = Callable[..., AbstractContextManager[None]]
NAMES = (
    "with space.tflite",
    "größe 模型 🙂.tflite",
    "; touch pwned.tflite",
    "$(touch pwned).tflite",
    "`touch pwned`.tflite",
    "line\nfeed.tflite",
    "'quoted\" --option.tflite",
    "-rf.tflite",
)


def test_names_that_a_shell_would_act_on(
    start: Start, files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder; $(touch pwned)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    plain = files.dense_tflite(tmp_path / "plain.tflite")
    feed = {"x": np.array([[1, 2, 3, 4]], np.float32)}
    with start() as client:
        client.load(plain)
        wanted = client.run(feed)["y"]
        for name in NAMES:
            (folder / name).write_bytes(plain.read_bytes())
            client.load(name)
            assert np.array_equal(client.run(feed)["y"], wanted)
            client.send(name)
    assert not list(tmp_path.rglob("pwned*"))


def test_a_message_of_the_device_has_the_name_the_user_gave(start: Start, tmp_path: Path) -> None:
    bad = tmp_path / "my model.tflite"
    bad.write_bytes(b"no model at all")
    with start() as client, pytest.raises(ModelError) as caught:
        client.load(bad)
    assert str(bad) in str(caught.value) and caught.value.exit_code == 3


def test_two_users_at_once(start: Start, files: ModuleType, tmp_path: Path, place: Any) -> None:
    """Each has a worker of its own: what one loads, breaks or ends is nothing to the other."""
    make, shape, first = (files.recurrent_tflite, (1, 3, 2), 1)
    if place.name == "mcu":  # which has no plain recurrent operator
        make, shape, first = (files.mixed_tflite, (1, 4), 4)
    small, large = files.dense_tflite(tmp_path / "a.tflite"), make(tmp_path / "b.tflite")
    results: dict[str, Any] = {}

    def use(key: str, path: Path, feed: dict[str, np.ndarray]) -> None:
        with start() as client:
            client.load(path)
            results[key] = [client.run(feed)["y"] for _ in range(50)]

    threads = [
        threading.Thread(target=use, args=("a", small, {"x": np.array([[1, 2, 3, 4]], np.float32)})),
        threading.Thread(target=use, args=("b", large, {"x": np.ones(shape, np.float32)})),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(np.array_equal(results["a"][0], y) for y in results["a"])
    assert all(y.flat[0] == first for y in results["b"])
