"""Devices by name, and how their workers are started."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

from edgekit.devices import list_devices, open_worker, parse_device
from edgekit.devices.device import transport_for
from edgekit.devices.transport import Start
from edgekit.errors import DeviceError, RuntimeMissingError, UsageError
from edgekit.types import DeviceSpec, Evidence


def test_devices_by_name() -> None:
    assert parse_device("cpu") == DeviceSpec("cpu", "cpu", "", Evidence.MEASURED)
    assert parse_device("python:/usr/bin/python3") == DeviceSpec(
        "python:/usr/bin/python3", "python", "/usr/bin/python3"
    )
    assert list_devices()[:2] == ("cpu", "python:/path/to/python")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("gpu", UsageError, "there are: cpu, python:"),
        ("cpuu", UsageError, "did you mean 'cpu'"),
        ("pyhton:/x", UsageError, "did you mean 'python:"),
        ("", UsageError, "there are"),
        ("cpu:0", UsageError, "takes no address"),
        ("python:", UsageError, "names no interpreter"),
        ("cuda:first", UsageError, "give cuda, or cuda:N"),
        ("emulator:cortex-m4", UsageError, "there are emulator:cortex-a53"),
        ("adb:", UsageError, "give adb:SERIAL"),
    ],
)
def test_what_is_not_a_device_here(text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        parse_device(text)


@pytest.mark.parametrize("place", ["/nowhere/python", "/tmp", "/dev/null"])
def test_an_interpreter_that_is_none(place: str) -> None:
    with pytest.raises(UsageError, match="not a program that can be run"):
        open_worker(f"python:{place}")


def test_an_interpreter_without_numpy(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    with pytest.raises(RuntimeMissingError, match=r"numpy is not installed .*bare/bin/python -m pip install numpy"):
        open_worker(f"python:{tmp_path}/bare/bin/python")


def test_programs_that_are_not_interpreters(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="python:/bin/false died during 'hello': it left with exit status 1"):
        open_worker("python:/bin/false")
    with pytest.raises(DeviceError, match=r"got b'.*wanted a frame"):  # echo writes its arguments
        open_worker("python:/bin/echo")
    script = tmp_path / "script"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(0o755)
    with pytest.raises(DeviceError, match="cannot be started"):
        open_worker(f"python:{script}")


def test_a_link_to_an_interpreter_is_not_followed(tmp_path: Path) -> None:
    """A virtual environment's python is a link; what it points to knows nothing of the environment."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert transport_for(parse_device(f"python:{link}")).command(Start())[0] == str(link)


def test_other_interpreters_are_not_told_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("KEPT", "yes")
    environment = transport_for(parse_device(f"python:{sys.executable}")).environment(Start())
    assert "PYTHONPATH" not in environment and environment["KEPT"] == "yes"
    assert os.environ["PYTHONPATH"] == "/somewhere"
