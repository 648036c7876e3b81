"""Interpreters beside edgekit's own."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import edgekit
from edgekit.devices import open_runner, parse_device, with_runtime
from edgekit.environments import OPENVINO, TFLITE, Environment
from edgekit.errors import RuntimeMissingError

ODD = Environment("odd", "no_such_module_here", ("odd==1", "'numpy<2'"), "nothing")


def test_found_by_its_variable_or_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_ODD_PYTHON", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert ODD.python() is None
    beside = tmp_path / ".venv-odd" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    beside.symlink_to(sys.executable)
    assert ODD.python() == str(beside), "the link is kept: resolved it would leave the environment"
    monkeypatch.setenv("EDGEKIT_ODD_PYTHON", sys.executable)
    assert ODD.python() == sys.executable
    monkeypatch.setenv("EDGEKIT_ODD_PYTHON", str(tmp_path))
    with pytest.raises(RuntimeMissingError, match=r"EDGEKIT_ODD_PYTHON names .* not a program.*-m venv .*odd==1"):
        ODD.python()


def test_a_package_of_this_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_ODD_PYTHON", "/usr/bin/env")
    assert replace(ODD, module="numpy").python() == sys.executable
    assert replace(ODD, module="numpy").apart() == "/usr/bin/env"


def test_the_commands_make_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    folder = tmp_path / ".venv-odd"
    assert ODD.install == f"python3 -m venv {folder} && {folder}/bin/python -m pip install odd==1 'numpy<2'"
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # not a virtual environment: the variable says where it is
    assert ODD.install.endswith("&& export EDGEKIT_ODD_PYTHON=$PWD/.venv-odd/bin/python")


def test_a_runtime_of_another_environment_runs_where_it_is(
    conv_tflite: Path, other_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TFLITE.variable, other_python)
    cpu = parse_device("cpu")
    assert with_runtime(cpu, "tflite-runtime") == replace(cpu, address=other_python)
    assert with_runtime(cpu, "litert") == with_runtime(cpu, None) == cpu
    elsewhere = parse_device("class:board-1core")
    assert with_runtime(elsewhere, "tflite-runtime") == elsewhere
    with open_runner(conv_tflite, runtime="tflite-runtime") as there:
        assert there.version.startswith("2.14")
    with edgekit.load(conv_tflite, runtime="tflite-runtime") as there:
        assert there.name == "tflite-runtime"


def test_without_it_the_message_has_the_command(
    conv_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TFLITE.variable, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(RuntimeMissingError, match=r"an environment of its own: .*tflite-runtime==2.14.0"):
        edgekit.load(conv_tflite, runtime="tflite-runtime")
    assert OPENVINO.variable == "EDGEKIT_OPENVINO_PYTHON"
