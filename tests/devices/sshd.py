"""A real ssh server on the loopback, with keys of its own, and a client configuration that knows it as ``board``."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

SERVER = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
SetEnv EDGEKIT_CACHE={folder}/cache
"""
CLIENT = """\
Host board
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
Host stranger
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user
    UserKnownHostsFile {folder}/nobody
    StrictHostKeyChecking yes
Host keyless
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/nobody
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""


class Sshd(NamedTuple):
    """A running server. ``client``: what ``$EDGEKIT_SSH`` should be; ``cache``: ``$EDGEKIT_CACHE`` of its sessions."""

    process: subprocess.Popen[bytes]
    port: int
    client: str
    cache: Path
    folder: Path


def start_sshd(folder: Path) -> Sshd:
    """Starts the server; skips where sshd is not installed."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh and sshd (Debian: openssh-server): run scripts/test-system-packages")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its empty folder, which its service makes otherwise
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "cache").mkdir()
    (folder / "sshd_config").write_text(SERVER.format(port=port, folder=folder))
    (folder / "ssh_config").write_text(CLIENT.format(port=port, folder=folder, user=getpass.getuser()))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    client = folder / "ssh"
    client.write_text(f'#!/bin/sh\nexec ssh -F "{folder}/ssh_config" "$@"\n')
    client.chmod(0o755)
    log = open(folder / "log", "wb")  # noqa: SIM115  the server's, as long as it lives
    process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Sshd(process, port, str(client), folder / "cache", folder)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail(f"sshd did not start: {(folder / 'log').read_text()}")
