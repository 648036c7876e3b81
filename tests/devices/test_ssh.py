"""ssh devices beside the suite: addresses, what ssh itself refuses, finding a Python, and the commands a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices import open_worker, parse_device
from edgekit.devices.ssh import REMOTE, Address, SshTransport, parse_address
from edgekit.devices.transport import Start
from edgekit.errors import ProtocolError, RuntimeMissingError, UnreachableError, UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("//pi@192.168.1.7", Address("192.168.1.7", "pi")),
        ("//board", Address("board")),
        ("//pi@board:2222/", Address("board", "pi", 2222)),
        ("//[fe80::1]", Address("fe80::1")),
        ("//board?python=/opt/my%20python/bin/python", Address("board", "", None, "/opt/my python/bin/python")),
        ("//board?python=/opt/größe;$(x)/python", Address("board", "", None, "/opt/größe;$(x)/python")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "//", "board", "/board", "//-oProxyCommand=touch pwned", "//-l", "//pi@-host", "//-u@host", "//host:x",
        "//host:99999", "//ho st", "//host;touch pwned", "//$(touch pwned)", "//pi:secret@host", "//host/path",
        "//host?user=x", "//host?python=", "//host?python=-", "//host?python=/a%0Ab", "//host#x", "//`x`@host",
        "//host\n-p 1",
    ],
)  # fmt: skip
def test_addresses_that_are_none(text: str) -> None:
    """None of them reaches ssh, whose arguments and configuration could act on them."""
    with pytest.raises(UsageError):
        parse_device(f"ssh:{text}")


def test_nothing_the_user_wrote_is_in_the_remote_command(sshd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_SSH", sshd.client)
    plain = SshTransport(parse_device("ssh://board")).command(Start())
    other = SshTransport(parse_device("ssh://me@board:22?python=/x;y")).command(Start(("--memory-limit", "5"), 100))
    assert plain[-1] == other[-1] == REMOTE
    assert other[-6:-1] == ["22", "-l", "me", "--", "board"] and "/x;y" not in " ".join(other)


@pytest.fixture
def ssh(sshd: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The server, with its client as the one edgekit uses, and a file of names of its own."""
    monkeypatch.setenv("EDGEKIT_SSH", sshd.client)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return sshd


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("stranger", "connect once by hand and look at its key: ssh stranger"),
        ("keyless", "set up a key: ssh-copy-id keyless"),
        ("board:1", "Connection refused; no ssh server answers there"),
        ("no-such-host.invalid", "check the name, or give its address"),
    ],
)
def test_what_ssh_refuses(ssh: Any, host: str, said: str) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        open_worker(f"ssh://{host}")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_SSH", "no-such-ssh")
    with pytest.raises(RuntimeMissingError, match="apt-get install openssh-client"):
        open_worker("ssh://board")


def test_a_python_that_is_not_there(ssh: Any) -> None:
    with pytest.raises(RuntimeMissingError, match="there is no such Python"):
        open_worker("ssh://board?python=/nowhere/python")


def test_a_python_is_found_there(ssh: Any, tmp_path: Path, other_python: str) -> None:
    """Of several, one that has numpy; a shell that greets, as a careless .bashrc does, disturbs nothing."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3.11").write_text(f'#!/bin/sh\nexec "{other_python}" "$@"\n')
    client = tmp_path / "ssh"
    words = f'HOME="{tmp_path}" PATH="{tools}:/usr/bin:/bin"'
    client.write_text(
        '#!/bin/sh\n[ "$1" = -G ] && exit 0\nfor command; do :; done\n'
        f'echo "Welcome to the board"\nexport {words}\nexec /bin/sh -c "$command"\n'
    )
    for file in (*tools.iterdir(), client):
        file.chmod(0o755)
    os.environ["EDGEKIT_SSH"] = str(client)
    with open_worker("ssh://board") as worker:
        assert worker.hello["executable"] == other_python
        assert worker.environment()["versions"]["numpy"].startswith("1.")


def test_a_shell_that_never_stops_talking(ssh: Any, tmp_path: Path) -> None:
    client = tmp_path / "ssh"
    client.write_text('#!/bin/sh\n[ "$1" = -G ] && exit 0\nexec yes\n')
    client.chmod(0o755)
    os.environ["EDGEKIT_SSH"] = str(client)
    with pytest.raises(ProtocolError, match="its login shell should print nothing"):
        open_worker("ssh://board")


def test_weights_in_other_files_cross_with_the_model(
    ssh: Any, edgekit_cli: Callable[..., Any], files: ModuleType, tmp_path: Path
) -> None:
    """From the command line, to an environment with onnxruntime; bench and run give what they give here."""
    np.arange(4, dtype=np.float32).tofile(tmp_path / "m.onnx.data")
    model = files.external_onnx(tmp_path / "m.onnx", "m.onnx.data")
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    board = f"ssh://board?python={sys.executable}"
    ran = edgekit_cli("run", model, tmp_path / "x.npz", "--on", board, "--json", "-")
    assert ran.code == 0 and ran.document["results"][0]["outputs"][0]["first"] == [1.0, 2.0, 3.0, 4.0], ran.err
    timed = edgekit_cli("bench", model, "--on", board, "--seconds", "0.2", "--workers", "1", "--cold", "--json", "-")
    assert timed.code == 0 and timed.document["results"][0]["latency_ms"]["p50"] > 0, timed.err


def test_a_control_master_of_the_user_is_used(ssh: Any, tmp_path: Path, other_python: str) -> None:
    """One that outlives its sessions is left to ssh; any other may not become one of our sessions."""
    config = (ssh.folder / "ssh_config").read_text()
    place = tmp_path / "master"
    (tmp_path / "config_ssh").write_text(
        f"{config}\nHost *\n  ControlMaster auto\n  ControlPath {place}\n  ControlPersist 30\n"
    )
    client = tmp_path / "ssh"
    client.write_text(f'#!/bin/sh\nexec ssh -F "{tmp_path}/config_ssh" "$@"\n')
    client.chmod(0o755)
    assert "ControlMaster=no" in SshTransport(parse_device("ssh://board")).command(Start())
    os.environ["EDGEKIT_SSH"] = str(client)
    try:
        assert "ControlMaster=no" not in SshTransport(parse_device("ssh://board")).command(Start())
        for _ in range(2):
            with open_worker(f"ssh://board?python={other_python}") as worker:
                assert worker.environment()
                assert place.exists()
    finally:
        subprocess.run([str(client), "-O", "exit", "board"], capture_output=True, check=False)


def test_from_zero_to_a_latency_table(
    ssh: Any, edgekit_cli: Callable[..., Any], files: ModuleType, tmp_path: Path, other_python: str
) -> None:
    """README's five commands, on a real server: add, check, run, bench, and the name is gone again."""
    model = files.dense_tflite(tmp_path / "m.tflite")
    added = edgekit_cli("device", "add", "pi", f"ssh://board?python={other_python}", "--json", "-")
    assert added.code == 0, added.err
    found = added.document["check"]
    assert found["usable"] and found["facts"]["runtimes"] == {"tflite-runtime": "2.14.0"}
    assert all(trial["passed"] for trial in found["trials"]) and len(found["trials"]) == 6
    listed = edgekit_cli("device", "list", "--json", "-").document["saved"]
    assert [(d["name"], d["state"]) for d in listed] == [("pi", "ready")]
    np.savez(tmp_path / "x.npz", x=np.array([[1, 2, 3, 4]], np.float32))
    ran = edgekit_cli("run", model, tmp_path / "x.npz", "--on", "pi", "--json", "-")
    assert ran.code == 0 and ran.document["results"][0]["outputs"][0]["first"] == [21.0, 61.0, 101.0]
    timed = edgekit_cli("bench", model, "--on", "pi", "--seconds", "0.5", "--json", "-")
    assert timed.code == 0, timed.err
    (row,) = timed.document["results"]
    assert row["device"] == {**row["device"], "name": "pi", "kind": "ssh", "evidence": "measured"}
    assert row["latency_ms"]["p50"] > 0 and row["runtime"] == "tflite-runtime"
    assert edgekit_cli("device", "remove", "pi").code == 0
    gone = edgekit_cli("run", model, tmp_path / "x.npz", "--on", "pi")
    assert gone.code == 2 and "no device is called 'pi'" in gone.err


def test_a_device_where_nothing_runs_is_not_added(
    ssh: Any, edgekit_cli: Callable[..., Any], tmp_path: Path, other_python: str
) -> None:
    """numpy is there and no runtime: what to install is said, nothing is saved, exit 4."""
    numpy_only = tmp_path / "site"
    numpy_only.mkdir()
    import_path = subprocess.run(
        [other_python, "-c", "import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    for name in ("numpy", "numpy.libs"):
        (numpy_only / name).symlink_to(Path(import_path) / name)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexport PYTHONPATH="{numpy_only}"\nexec {sys.base_prefix}/bin/python3 "$@"\n')
    bare.chmod(0o755)
    done = edgekit_cli("device", "add", "pi", f"ssh://board?python={bare}")
    assert done.code == 4
    assert "was not added: no runtime works" in done.err and "pip install numpy ai-edge-litert onnxruntime" in done.err
    assert json.loads(edgekit_cli("device", "list", "--json", "-").out)["saved"] == []


@pytest.mark.parametrize(("name", "code"), [("cpu", 2), ("a b", 2), ("-x", 2), ("../x", 2), ("", 2)])
def test_names_that_are_none(
    ssh: Any, edgekit_cli: Callable[..., Any], other_python: str, name: str, code: int
) -> None:
    from edgekit.devices.inventory import save

    with pytest.raises(UsageError):
        save(name, f"ssh://board?python={other_python}")
