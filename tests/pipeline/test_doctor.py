"""``doctor`` and ``device``: runtimes are really tried, and a missing one is told apart from a broken one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import environments
from edgekit.errors import EdgekitError, RuntimeMissingError, WorkerCrashError
from edgekit.pipeline import doctor as room
from edgekit.pipeline.device import devices


def test_this_environment(edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("doctor", "--json", "-")
    assert ended.code == 0, ended.err
    states = {row["runtime"]: row for row in ended.document["backends"]}
    for runtime in ("onnxruntime", "litert", "torch"):
        assert states[runtime]["state"] == "works", states[runtime]
    # needs numpy 1, which cannot share this environment
    assert states["tflite-runtime"]["state"] == ("works" if environments.TFLITE.python() else "missing")
    assert "python3.11" in states["tflite-runtime"]["install"]
    versions = {row["name"]: row["version"] for row in ended.document["packages"]}
    assert versions["torch"] and versions["tflite-runtime"] is None


RUNTIMES = room.registry.names("runtimes")
INSTALLED = dict.fromkeys(RUNTIMES, "1.0")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the environments beside this one that the machine may have."""
    for one in vars(environments).values():
        if isinstance(one, environments.Environment):
            monkeypatch.delenv(one.variable, raising=False)
    monkeypatch.setattr(environments.sys, "prefix", str(tmp_path / ".venv"))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("error", "state"),
    [(RuntimeMissingError("not there"), "missing"), (WorkerCrashError("signal 4 (SIGILL)"), "broken")],
)
def test_states(error: EdgekitError, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(room, "open_runner", fail)
    monkeypatch.setattr(room, "_make_pt2", lambda path: path.touch())
    backends = room.try_backends("cpu", INSTALLED)
    assert [backend.runtime for backend in backends] == list(RUNTIMES)
    assert {backend.state for backend in backends} == {state}
    if state == "broken":
        assert "WorkerCrashError: signal 4 (SIGILL)" in backends[0].detail


def test_wrong_answer_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROBE", room.PROBE.copy())
    monkeypatch.setattr(room, "TINY_ONNX", room.TINY_ONNX.replace(b"Relu", b"Sign"))
    monkeypatch.setattr(room.registry, "names", lambda table: ("onnxruntime",))
    (backend,) = room.try_backends("cpu", INSTALLED)
    assert backend.state == "broken"
    assert "came out as" in backend.detail


@pytest.mark.usefixtures("alone")
def test_what_is_not_installed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(room, "open_runner", fail)
    assert {backend.state for backend in room.try_backends("cpu", {})} == {"missing"}


@pytest.mark.usefixtures("alone")
def test_environments_beside_this_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = {"onnx2tf": None, "mediapipe": None}
    found = {one.name: one for one in room.environments_beside()}
    assert list(found) == ["tflite", "flex", "onnx2tf", "tflm", "openvino", "executorch", "mediapipe"]
    assert {name: found[name].python for name in here} == here and found["onnx2tf"].state == "missing"
    assert "python3.12 -m venv" in found["onnx2tf"].install
    pythons = {"there": tmp_path / "beside", "without": tmp_path / "python", "gone": tmp_path / "no"}
    pythons["without"].write_text("#!/bin/sh\nexit 1\n")
    pythons["without"].chmod(0o755)
    pythons["there"].symlink_to(sys.executable)
    states = {}
    for name, python in pythons.items():
        one = environments.Environment("odd", "json" if name == "there" else "odd", ("odd==1",), "nothing")
        monkeypatch.setattr(room, "ENVIRONMENTS", (one,))
        monkeypatch.setattr(environments, "find_spec", lambda module: None)
        monkeypatch.setenv("EDGEKIT_ODD_PYTHON", str(python))
        (answer,) = room.environments_beside()
        states[name] = answer.state, answer.detail
    assert states["there"] == ("there", "")
    assert states["without"] == ("broken", f"{pythons['without']} has no odd")
    assert states["gone"][0] == "broken" and "is not a program that can be run" in states["gone"][1]


def test_quick_lists_versions_and_tries_nothing(edgekit_here: Callable[..., Any]) -> None:
    ended = edgekit_here("doctor", "--quick", "--json", "-")
    assert ended.code == 0, ended.err
    rows = {row["runtime"]: row for row in ended.document["backends"]}
    assert {rows[name]["state"] for name in ("onnxruntime", "litert", "torch")} == {"installed"}
    assert rows["tflite-runtime"]["state"] == ("installed" if environments.TFLITE.python() else "missing")
    versions = {row["name"]: row["version"] for row in ended.document["packages"]}
    assert rows["torch"]["detail"] == f"{versions['torch']}, not tried"


def test_a_device_that_cannot_be_used_is_what_is_said(edgekit_here: Callable[..., Any]) -> None:
    """Not what to install for each runtime: no package brings a GPU."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    ended = edgekit_here("doctor", "--on", "cuda", "--json", "-", env=hidden)
    assert ended.code == 4
    told = ended.document["trouble"]
    assert told.startswith("device 'cuda' cannot be used: ") and told.endswith("; or use --on cpu")
    assert ended.err.strip() == f"edgekit: {told}"
    assert not ended.document["usable"] and ended.document["backends"] == []
    shown = edgekit_here("doctor", "--on", "cuda", env=hidden)
    assert "Runtimes on" not in shown.out and "onnxruntime" in shown.out  # the packages of this environment


def test_an_address_that_leads_nowhere_is_wrong_usage(edgekit_here: Callable[..., Any]) -> None:
    ended = edgekit_here("doctor", "--on", "python:/no/such/python")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert "/no/such/python" in ended.err + ended.out


def test_device_list() -> None:
    names = [row["name"] for row in devices().document()["devices"]]
    assert names[:2] == ["cpu", "python"]


def test_device_check(edgekit_here: Callable[..., Any], other_python: str) -> None:
    """On a device with one runtime: that each of this environment is tried is seen above."""
    ended = edgekit_here("device", "check", f"python:{other_python}")
    assert ended.code == 0, ended.err
    assert "tflite-runtime" in ended.out and "works" in ended.out


@pytest.mark.usefixtures("alone")
def test_a_runtime_of_another_environment_is_tried_there(
    other_python: str, monkeypatch: pytest.MonkeyPatch, edgekit_here: Callable[..., Any]
) -> None:
    monkeypatch.setattr(room.registry, "names", lambda table: ("tflite-runtime",))
    monkeypatch.setenv("EDGEKIT_TFLITE_PYTHON", other_python)
    (tried,) = room.try_backends("cpu", INSTALLED | {"tflite-runtime": None})
    assert (tried.state, tried.detail) == ("works", f"in {other_python}")
    (listed,) = room.listed_backends("cpu", {})
    assert (listed.state, listed.detail) == ("installed", f"in {other_python}, not tried")
    (elsewhere,) = room.listed_backends("class:board-1core", {})
    assert elsewhere.state == "missing"  # another machine has its own
    monkeypatch.setenv("EDGEKIT_TFLITE_PYTHON", "/no/such/python")
    (lost,) = room.try_backends("cpu", {})
    assert lost.state == "broken" and "EDGEKIT_TFLITE_PYTHON names /no/such/python" in lost.detail
