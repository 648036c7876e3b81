"""``doctor`` and ``device``: runtimes are really tried, and a missing one is told apart from a broken one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgekit.errors import EdgekitError, RuntimeMissingError, WorkerCrashError
from edgekit.pipeline import doctor as room
from edgekit.pipeline.device import devices


def test_this_environment(edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("doctor", "--json", "-")
    assert ended.code == 0, ended.err
    states = {row["runtime"]: row for row in ended.document["backends"]}
    for runtime in ("onnxruntime", "litert", "torch"):
        assert states[runtime]["state"] == "works", states[runtime]
    assert states["tflite-runtime"]["state"] == "missing"  # needs numpy 1, which cannot share this environment
    assert "python3.11" in states["tflite-runtime"]["install"]
    versions = {row["name"]: row["version"] for row in ended.document["packages"]}
    assert versions["torch"] and versions["tflite-runtime"] is None


@pytest.mark.parametrize(
    ("error", "state"),
    [(RuntimeMissingError("not there"), "missing"), (WorkerCrashError("signal 4 (SIGILL)"), "broken")],
)
def test_states(error: EdgekitError, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(room, "open_runner", fail)
    monkeypatch.setattr(room, "_make_pt2", lambda path: path.touch())
    result = room.doctor()
    assert {backend.state for backend in result.backends} == {state}
    assert not result.usable
    if state == "broken":
        assert "WorkerCrashError: signal 4 (SIGILL)" in result.backends[0].detail


def test_wrong_answer_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROBE", room.PROBE.copy())
    monkeypatch.setattr(room, "TINY_ONNX", room.TINY_ONNX.replace(b"Relu", b"Sign"))
    monkeypatch.setattr(room.registry, "names", lambda table: ("onnxruntime",))
    (backend,) = room.try_backends("cpu")
    assert backend.state == "broken"
    assert "came out as" in backend.detail


def test_nothing_works_is_exit_code_4(edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("doctor", "--on", "python:/no/such/python")
    assert ended.code in (2, 4)
    assert "Traceback" not in ended.err
    assert "/no/such/python" in ended.err + ended.out


def test_device_list() -> None:
    names = [row["name"] for row in devices().document()["devices"]]
    assert names[:2] == ["cpu", "python"]


def test_device_check(edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("device", "check", "cpu")
    assert ended.code == 0, ended.err
    assert "onnxruntime" in ended.out
