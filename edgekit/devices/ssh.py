"""``ssh://[user@]host[:port][?python=/path]``: a board or server, through the system's own ssh client.

Its configuration, keys, known hosts and control master are the user's; ``$EDGEKIT_SSH`` names another client. The
remote command is one constant text: what the user wrote goes to the client as arguments, or over its input as data.
On the device nothing listens, and nothing stays but the cache of files (:mod:`edgekit.devices.store`).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import parse_qsl, urlsplit

from edgekit import children
from edgekit.devices import bootstrap
from edgekit.devices.archive import OLDEST_PYTHON
from edgekit.devices.channel import Channel
from edgekit.devices.transport import Ending, Start, Transport
from edgekit.errors import ProtocolError, RuntimeMissingError, UsageError
from edgekit.types import DeviceSpec

_PLACES: Final = '"$HOME/.edgekit/bin/python" python3 python3.14 python3.13 python3.12 python3.11'
"""Where a Python is looked for when none is named; the first is where the advice of ``device add`` puts one."""
_GOOD: Final = (
    f'import sys,importlib.util as u;sys.exit(sys.version_info<{OLDEST_PYTHON} or u.find_spec(\\"numpy\\") is None)'
)
_FIRST: Final = 'import base64,os;exec(base64.b64decode(open(0,\\"rb\\",0,closefd=False).readline()))'
REMOTE: Final = (
    'exec /bin/sh -c \'IFS= read -r p; if [ "$p" = - ]; then p=python3; '
    f'for c in {_PLACES}; do "$c" -c "{_GOOD}" </dev/null >/dev/null 2>&1 && p=$c && break; done; fi; '
    f'exec "$p" -c "{_FIRST}"\''
)
"""What the login shell there is given, always the same: it reads the Python to use, then the bootstrap, as lines."""
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")
_ENDED: Final = re.compile(rf"^{bootstrap.ENDED} (-?\d{{1,3}})$", re.MULTILINE)
IDLE_S: Final = 6 * 3600
"""A worker that is asked nothing for so long ends: a network that dies without a word leaves its server waiting."""
_LOST: Final = 255
"""What ssh itself ends with."""
_ADVICE: Final = (
    (r"Permission denied", "it does not let you in without a password; set up a key: ssh-copy-id {host}"),
    (
        r"Host key verification failed|IDENTIFICATION HAS CHANGED",
        "connect once by hand and look at its key: ssh {host}",
    ),
    (r"Could not resolve hostname", "check the name, or give its address"),
    (r"Connection refused", "no ssh server answers there; start one (Debian: sudo apt install openssh-server)"),
    (r"timed out|No route to host|unreachable", "check that it is on, and on this network"),
)


@dataclass(frozen=True, slots=True)
class Address:
    """What an ssh device's spelling says. ``python`` empty: found there."""

    host: str
    user: str = ""
    port: int | None = None
    python: str = ""

    @property
    def told(self) -> str:
        """As it is given to ssh by hand."""
        target = f"{self.user}@{self.host}" if self.user else self.host
        return target if self.port is None else f"-p {self.port} {target}"


def parse_address(text: str) -> Address:
    """``//user@host:port?python=/path`` in parts, each checked: none can be an option of ssh, or be read by a shell.

    Raises:
        UsageError: it is not of this form.
    """
    wanted = f"ssh:{text!r}: give ssh://[user@]host[:port][?python=/path/to/python]"
    try:
        parts = urlsplit(f"ssh:{text}")
        host, user, port = parts.hostname or "", parts.username or "", parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True))
    except ValueError as error:
        raise UsageError(f"{wanted}; {error}") from error
    python = options.pop("python", "")
    if parts.password is not None:
        raise UsageError(f"{wanted}; passwords are not taken, set up a key with ssh-copy-id")
    if options or parts.path not in ("", "/") or parts.fragment or not text.startswith("//"):
        raise UsageError(wanted)
    if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)):
        raise UsageError(f"{wanted}; got the host {host!r} and the user {user!r}")
    if "python" in text and (not python or not python.isprintable() or python == "-"):
        raise UsageError(f"{wanted}; got the Python {python!r}")
    return Address(host, user, port, python)


class SshTransport(Transport):
    """A worker at the other end of ``ssh``. Files are sent by content, once.

    Raises:
        UsageError: the address makes no sense.
        RuntimeMissingError: there is no ssh client here.
    """

    spelling: ClassVar[str] = "ssh://user@host[:port][?python=/path]"
    description: ClassVar[str] = "a board or server with Python 3.11, numpy and a runtime, through the system's ssh"

    @classmethod
    def check_address(cls, address: str) -> None:
        parse_address(address)

    shares_files: ClassVar[bool] = False
    start_s: ClassVar[float] = 30.0

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        self.address = parse_address(spec.address)
        program = os.environ.get("EDGEKIT_SSH") or "ssh"
        self._program = shutil.which(program) or ""
        if not self._program:
            raise RuntimeMissingError(
                f"device {spec.name!r} needs the program {program!r}, which is not installed here; "
                "run: apt-get install openssh-client"
            )

    def command(self, start: Start) -> list[str]:
        address = self.address
        options = ["-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=10"]
        options += ["-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no"]
        if not _keeps_a_master(self._program, address):
            options += ["-o", "ControlMaster=no"]
        options += ["-p", str(address.port)] if address.port is not None else []
        options += ["-l", address.user] if address.user else []
        return [self._program, *options, "--", address.host, REMOTE]

    def environment(self, start: Start) -> dict[str, str]:
        return dict(os.environ)

    def greet(self, channel: Channel, start: Start, deadline: float) -> None:
        archive = self.archive().read_bytes()
        order = {
            "oldest": list(OLDEST_PYTHON),
            "sha256": hashlib.sha256(archive).hexdigest(),
            "bytes": len(archive),
            "arguments": [*start.arguments, "--idle-limit", str(IDLE_S)],
            "environment": start.environment,
        }
        lines = [self.address.python.encode() or b"-", _bootstrap(), json.dumps(order).encode(), b""]
        channel.send([memoryview(b"\n".join(lines))])
        try:
            answer = bytes(channel.read_after(bootstrap.MARK, 5, deadline))
        except ValueError as error:
            raise ProtocolError(
                f"{self.spec.name} talks and does not start a worker: {error}; its login shell should print nothing"
            ) from error
        if answer not in (b"send\n", b"have\n"):
            raise ProtocolError(f"{self.spec.name} answers the first words with {answer!r}; is it edgekit's?")
        if answer == b"send\n":
            channel.send([memoryview(archive)])

    def ending(self, status: int | None, said: str) -> Ending:
        told = _ENDED.findall(said)
        if told:
            return Ending(int(told[-1]))
        if status != _LOST:
            return Ending(status)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        words = lines[-1][:300] if lines else "ssh says nothing about it"
        for pattern, advice in _ADVICE:
            if re.search(pattern, said):
                return Ending(status, f"{words}; {advice.format(host=self.address.told)}", lost=True)
        return Ending(status, f"{words}; try it by hand: ssh {self.address.told}", lost=True)

    def install(self, package: str) -> str:
        if self.address.python:
            return f"{self.address.python} -m pip install {package}"
        return f"python3 -m venv ~/.edgekit && ~/.edgekit/bin/python -m pip install {package} (on the device)"


@functools.cache
def _bootstrap() -> bytes:
    return base64.b64encode(Path(bootstrap.__file__).read_bytes())


@functools.cache
def _keeps_a_master(program: str, address: Address) -> bool:
    """Whether the user's configuration keeps a control master that outlives its first session.

    A master that is one of our sessions would take all the others with it when its worker is killed.
    """
    target = [*(["-p", str(address.port)] if address.port is not None else []), "--", address.host]
    try:
        command = [program, "-G", *target]
        told = children.run(command, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    chosen = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    return chosen.get("controlpersist", "no") not in ("no", "false")
